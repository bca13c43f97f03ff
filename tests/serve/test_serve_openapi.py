"""Schemathesis asks whatever the OpenAPI allows, and much that it does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from serve_helpers import Served, picture, png, served

from cvmask.runtime.model import MaskRCNN

schemathesis = pytest.importorskip("schemathesis", reason="needs cvmask[serve-test]")


@pytest.fixture(scope="module")
def server(quick_model: MaskRCNN) -> Iterator[Served]:
    with served(quick_model, clips=2, kept_s=0.0) as running:
        yield running


OPERATIONS = (
    *("POST /v1/detect", "POST /v1/clips", "GET /v1/clips/{key}", "DELETE /v1/clips/{key}"),
    *("GET /v1/clips/{key}/video", "GET /v1/clips/{key}/detections", "GET /v1/recordings/{key}"),
    *("GET /v1/model", "GET /v1/labels", "GET /healthz", "GET /readyz", "GET /metrics"),
)


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_those_of_the_openapi(server: Served, name: str) -> None:
    ask(server, name, schemathesis.GenerationMode.POSITIVE)


@pytest.mark.parametrize("name", OPERATIONS[:2])
def test_so_are_answers_to_what_it_does_not_allow(server: Served, name: str) -> None:
    ask(server, name, schemathesis.GenerationMode.NEGATIVE)


def ask(server: Served, name: str, mode: Any) -> None:
    method, path = name.split()
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    few = 20 if method == "POST" else 5

    @settings(max_examples=few, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        # Random bytes are a picture to the OpenAPI, and refused by the server.
        case.call_and_validate(excluded_checks=[schemathesis.checks.positive_data_acceptance])

    check()


def test_every_operation_is_asked(server: Served) -> None:
    paths = server.client.get("/openapi.json").json()["paths"]
    there = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert there == set(OPERATIONS)


def test_the_openapi_has_examples_that_hold(server: Served) -> None:
    made = server.client.get("/openapi.json").json()
    answer = made["components"]["schemas"]["Answer"]
    real = server.client.post("/v1/detect", content=png(picture()), headers={"Content-Type": "image/png"}).json()
    assert set(answer["examples"][0]) == set(real) == set(answer["required"])
    assert set(answer["examples"][0]["detections"][0]) == set(real["detections"][0])
    assert {"/v1/detect", "/v1/model", "/v1/labels", "/healthz", "/readyz", "/metrics"} <= set(made["paths"])
    for path, operations in made["paths"].items():
        for operation in operations.values():
            problems = [one for status, one in operation["responses"].items() if int(status) >= 400]
            assert problems, path
            assert all(list(one["content"]) == ["application/problem+json"] for one in problems), path
