"""Errors as problem+json (RFC 9457), each with a cure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_CLIENT_GONE = 499


class Problem(Exception):
    """An error of a request, with its cure.

    Parameters
    ----------
    status
        The HTTP status.
    detail
        One line: the thing, what was needed, what was received.
    cure
        One line: what to do.
    headers
        Further headers of the answer.
    """

    def __init__(self, status: int, detail: str, cure: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.cure = status, detail, cure
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """Give the JSON."""
        fields = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "cure": self.cure,
        }
        return json.dumps(fields, ensure_ascii=False).encode()

    def response(self) -> Response:
        """Give the answer."""
        return Response(self.body(), self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, retry_after_s: float) -> Problem:
    """Return the problem for an overloaded server."""
    seconds = max(1, round(retry_after_s))
    cure = f"try again in {seconds} s; Retry-After says the same"
    return Problem(503, detail, cure, {"Retry-After": str(seconds)})


def add_handlers(app: FastAPI) -> None:
    """Make every error of the app a problem."""

    async def own(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _invalid(error.errors()[0]).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        cure = "GET /openapi.json lists every path with its methods"
        detail = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return Problem(error.status_code, detail, cure, error.headers).response()

    async def gone(request: Request, error: Exception) -> Response:
        # No client reads it; the status is for the metrics.
        return Response(status_code=_CLIENT_GONE)

    async def unforeseen(request: Request, error: Exception) -> Response:
        request.app.state.service.metrics.count("failed_total")
        cure = "the log of the server has the details: please report it"
        return Problem(500, f"{type(error).__name__} while answering", cure).response()

    app.add_exception_handler(Problem, own)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Exception, unforeseen)


def _invalid(error: Any) -> Problem:
    name = ".".join(str(part) for part in error["loc"][1:]) or "the request"
    if error["type"] == "extra_forbidden":
        return Problem(422, f"there is no parameter {name[:100]!r}", "GET /openapi.json lists the parameters")
    got = repr(error.get("input"))[:100]
    return Problem(422, f"{name}: {error['msg']}, got {got}", "GET /openapi.json states type and range")
