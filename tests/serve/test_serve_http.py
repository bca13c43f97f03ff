from __future__ import annotations

import json
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serve_helpers import PATIENCE_S, Served, httpx, jpeg, picture, png, served, until

from cvmask.drawing.draw import draw
from cvmask.errors import SourceError
from cvmask.runtime.model import MaskRCNN, Settings
from cvmask.serve.metrics import Metrics, resident_bytes
from cvmask.streams.sources.image_source import read_image

JPEG = {"Content-Type": "image/jpeg"}
PNG = {"Content-Type": "image/png"}
HEAD = b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"


@pytest.fixture(scope="module")
def server(quick_model: MaskRCNN) -> Iterator[Served]:
    with served(quick_model, picture_bytes=2_000_000, pixels=5_000_000) as running:
        yield running


def header_only(width: int, height: int) -> bytes:
    """A PNG that says how large it is, and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


def check_problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    fields: dict[str, Any] = answer.json()
    assert fields["status"] == status
    assert fields["detail"]
    assert fields["cure"]
    return fields


def test_detect_answers_as_the_model_does(server: Served, quick_model: MaskRCNN) -> None:
    image = picture()
    answer = server.client.post("/v1/detect", content=png(image), headers=PNG).json()
    with_model = quick_model.clone()
    with_model.settings = Settings()
    found = with_model.detect(image)
    assert len(found) > 0
    assert (answer["width"], answer["height"]) == (160, 128)
    assert [one["class_id"] for one in answer["detections"]] == found.class_id.tolist()
    assert [one["label"] for one in answer["detections"]] == [quick_model.labels[i] for i in found.class_id]
    assert np.allclose([one["box"] for one in answer["detections"]], found.xyxy, atol=0.006)
    assert np.allclose([one["score"] for one in answer["detections"]], found.confidence, atol=6e-5)
    assert [one["rle"] for one in answer["detections"]] == found.rle()


def test_detect_takes_a_form(server: Served) -> None:
    data = png(picture())
    alone = server.client.post("/v1/detect", content=data, headers=PNG).json()
    form = server.client.post("/v1/detect", files={"image": ("a.png", data, "image/png")}).json()
    assert form["detections"] == alone["detections"]


def test_detect_gives_polygons_or_no_masks(server: Served) -> None:
    data = png(picture())
    one = server.client.post("/v1/detect?format=polygons", content=data, headers=PNG).json()["detections"][0]
    assert "rle" not in one
    assert len(one["polygons"][0]["outline"][0]) == 2
    none = server.client.post("/v1/detect?format=none", content=data, headers=PNG).json()["detections"][0]
    assert set(none) == {"class_id", "label", "score", "box"}


def test_thresholds_and_classes_of_a_request_count(server: Served) -> None:
    data = png(picture())

    def ask(query: str) -> list[dict[str, Any]]:
        detections: list[dict[str, Any]] = server.client.post(f"/v1/detect?{query}", content=data, headers=PNG).json()[
            "detections"
        ]
        return detections

    usual, low, high = ask(""), ask("score_threshold=0.01"), ask("score_threshold=0.99")
    assert len(low) > len(usual) > len(high)
    assert min(one["score"] for one in low) < 0.3, "the floor of the graph must not stand in the way"
    label = usual[0]["label"]
    assert ask(f"classes={label}") == [one for one in usual if one["label"] == label]
    areas = [ask(f"mask_threshold={t}&format=polygons")[0]["polygons"] for t in (0.1, 0.9)]
    assert areas[0] != areas[1]


def test_accept_gives_the_annotated_picture(server: Served, quick_model: MaskRCNN) -> None:
    image = picture()
    answer = server.client.post("/v1/detect", content=png(image), headers={**PNG, "Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    with_model = quick_model.clone()
    with_model.settings = Settings()
    expected = draw(image, with_model.detect(image), labels=quick_model.labels)
    assert np.array_equal(cv2.imdecode(np.frombuffer(answer.content, np.uint8), 1), expected)
    several = {**PNG, "Accept": "text/html, image/*;q=0.8, application/json;q=0.2"}
    assert server.client.post("/v1/detect", content=png(image), headers=several).content[:2] == b"\xff\xd8"
    cut = server.client.post(
        "/v1/detect?effect=remove-background", content=png(image), headers={**PNG, "Accept": "image/png"}
    )
    bgra = cv2.imdecode(np.frombuffer(cut.content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert (bgra[..., 3] == 0).any()
    assert not bgra[bgra[..., 3] == 0].any(), "the background is not sent"


def test_labels_are_larger_for_a_picture_that_is_shown_small(server: Served) -> None:
    image = cv2.resize(picture(), (1280, 1024))

    def annotated(query: str) -> Any:
        answer = server.client.post(f"/v1/detect{query}", content=png(image), headers={**PNG, "Accept": "image/png"})
        return cv2.imdecode(np.frombuffer(answer.content, np.uint8), 1)

    usual, small = annotated(""), annotated("?shown_width=320")
    assert np.array_equal(annotated("?shown_width=1280"), usual)
    ink = [int(((image != one).any(2) & (one < 12).all(2)).sum()) for one in (usual, small)]
    assert ink[1] > 2 * ink[0], "letters are drawn in black"


def test_picture_and_json_come_in_one_answer_of_one_inference(quick_model: MaskRCNN) -> None:
    data = png(picture())
    with served(quick_model) as server:
        answer = server.client.post("/v1/detect", content=data, headers={**PNG, "Accept": "multipart/form-data"})
        assert server.count("inferences_total") == 1
        alone = server.client.post("/v1/detect", content=data, headers={**PNG, "Accept": "image/png"}).content
        fields = server.client.post("/v1/detect", content=data, headers=PNG).json()
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    parts = {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message_from_bytes(head + answer.content, policy=HTTP).iter_parts()
    }
    assert set(parts) == {"json", "picture"}
    assert parts["picture"] == alone
    assert json.loads(parts["json"])["detections"] == fields["detections"] != []


@pytest.mark.parametrize(
    ("status", "data", "headers", "query"),
    [
        (415, b"{}", {"Content-Type": "application/json"}, ""),
        (415, b"hello", JPEG, ""),
        (422, b"BM" + bytes(60), {"Content-Type": "image/bmp"}, ""),
        (422, b"GIF89a" + bytes(60), {"Content-Type": "image/gif"}, ""),
        (415, b"v/1\x01" + bytes(60), {"Content-Type": "image/x-exr"}, ""),
        (422, b"", JPEG, ""),
        (422, b"\xff\xd8\xff\xe0", JPEG, ""),
        (422, b"\x89PNG\r\n\x1a\n", PNG, ""),
        (422, header_only(100, 100), PNG, ""),
        (422, header_only(0, 100), PNG, ""),
        (413, header_only(60000, 60000), PNG, ""),
        (413, bytes(2_000_001), JPEG, ""),
        (422, b"x", JPEG, "classes=unicorn"),
        (422, b"x", JPEG, "classes=,"),
        (422, b"x", JPEG, "score_threshold=2"),
        (422, b"x", JPEG, "score_treshold=0.5"),
        (422, b"x", JPEG, "effect=magic"),
        (406, b"x", {**JPEG, "Accept": "text/html"}, ""),
        (400, b"no form", {"Content-Type": "multipart/form-data; boundary=x"}, ""),
        (400, b"no form", {"Content-Type": "multipart/form-data"}, ""),
    ],
)
def test_refusals_name_the_cure(server: Served, status: int, data: bytes, headers: dict[str, str], query: str) -> None:
    check_problem(server.client.post(f"/v1/detect?{query}", content=data, headers=headers), status)


def test_a_picture_too_wide_for_a_jpeg_is_told_so_and_a_png_of_it_comes(server: Served) -> None:
    data = png(np.full((2, 70_000, 3), 90, np.uint8))
    fields = check_problem(server.client.post("/v1/detect", content=data, headers={**PNG, "Accept": "image/jpeg"}), 422)
    assert "65500" in fields["detail"]
    assert "image/png" in fields["cure"]
    answer = server.client.post("/v1/detect", content=data, headers={**PNG, "Accept": "image/png"})
    assert cv2.imdecode(np.frombuffer(answer.content, np.uint8), 1).shape == (2, 70_000, 3)


def test_a_body_without_a_stated_length_is_limited_too(server: Served) -> None:
    endless = (bytes(100_000) for _ in range(100))
    check_problem(server.client.post("/v1/detect", content=endless, headers=JPEG), 413)


def test_a_stated_length_that_is_absurd_is_refused_before_anything_comes(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
        client.sendall(HEAD % 10**19)
        assert b" 413 " in client.recv(4096)


def test_a_form_needs_just_the_picture(server: Served) -> None:
    fields = check_problem(server.client.post("/v1/detect", files={"photo": ("a.png", b"x", "image/png")}), 422)
    assert "photo" in fields["detail"]
    check_problem(server.client.post("/v1/detect", files={"image": ("a", b"x")}, data={"more": "1"}), 422)


def form(disposition: str, data: bytes) -> bytes:
    head = f"--B\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode("latin-1") + data + b"\r\n--B--\r\n"


@pytest.mark.parametrize("charset", ["", "; charset=undefined", "; charset=utf-16", "; charset=%00", "; charset=idna"])
@pytest.mark.parametrize("file", ['; filename="a.png"', "; filename*=UTF-8''%C3%A4.png", "; filename*=no''a.png", ""])
def test_neither_charset_nor_file_name_of_a_form_matters(server: Served, charset: str, file: str) -> None:
    kind = {"Content-Type": f"multipart/form-data; boundary=B{charset}"}
    body = form(f'name="image"{file}', png(picture()))
    assert server.client.post("/v1/detect", content=body, headers=kind).json()["detections"]
    body = form(f'name="im\xff"{file}', png(picture()))
    check_problem(server.client.post("/v1/detect", content=body, headers=kind), 422)


def test_a_form_that_is_cut_short_or_none_is_told_so(server: Served) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=B"}
    whole = form('name="image"', png(picture()))
    headers = b"--B\r\n" + b"x" * 100_000 + b": 1\r\n\r\n"
    for body in (whole[:-8], b"--B--\r\n"[:4], b"hello", headers, whole.replace(b"--B", b"--C")):
        check_problem(server.client.post("/v1/detect", content=body, headers=kind), 400)
    for kind in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 5000,
    ):
        answer = server.client.post("/v1/detect", content=whole, headers={"Content-Type": kind})
        check_problem(answer, 400)


def test_every_odd_picture_has_an_answer(server: Served, shared: Path) -> None:
    answers = {}
    for path in sorted((shared / "data" / "odd_images").iterdir()):
        data = path.read_bytes()[:2_000_001]
        answer = server.client.post("/v1/detect?format=none", content=data, headers={"Content-Type": "image/jpeg"})
        if answer.status_code != 200:
            check_problem(answer, answer.status_code)
        answers[path.name] = answer.status_code
    assert set(answers.values()) <= {200, 413, 415, 422}
    assert answers["bomb_20000x20000_1bit.png"] == answers["bomb_60000x60000_header.png"] == 413
    assert answers["jpeg_named.png"] == answers["astronaut_exif6.jpg"] == 200
    assert answers["truncated_half.jpg"] == 200
    assert answers["zero_bytes.jpg"] == answers["truncated_half.png"] == 422
    assert server.client.get("/readyz").status_code == 200


@pytest.mark.parametrize("ending", [".bmp", ".tif", ".ppm", ".jp2", ".webp", ".ras"])
def test_pictures_of_every_kind_that_is_read_are_taken(server: Served, ending: str) -> None:
    data = cv2.imencode(ending, picture())[1].tobytes()
    answer = server.client.post("/v1/detect?format=none", content=data, headers={"Content-Type": "image/x-any"})
    assert answer.json()["detections"], answer.text


def test_what_is_read_from_a_file_is_read_here_and_else_it_is_said(
    server: Served, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted((shared / "data" / "odd_images").iterdir()):
        try:
            image = read_image(path, server.service.limits.pixels)[0]
        except SourceError:
            image = None
        if path.stat().st_size > 2_000_000 or (image is not None and not image.size):
            continue
        answer = server.client.post("/v1/detect?format=none", content=path.read_bytes(), headers=JPEG)
        assert (answer.status_code == 200) == (image is not None), (path.name, answer.text)
    monkeypatch.setattr("cvmask.serve.answers.pillow_reads", lambda kind: False)
    heif = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    assert "HEIF" in check_problem(server.client.post("/v1/detect", content=heif, headers=JPEG), 415)["detail"]


def test_damaged_pictures_have_an_answer(server: Served) -> None:
    rng = np.random.default_rng(3)
    for make in (jpeg, png):
        whole = make(picture())
        for _ in range(15):
            data = bytearray(whole[: rng.integers(10, len(whole))])
            for place in rng.integers(0, len(data), 5):
                data[place] = rng.integers(256)
            answer = server.client.post("/v1/detect?format=none", content=bytes(data), headers=JPEG)
            assert answer.status_code in (200, 413, 415, 422), answer.text
    assert server.client.get("/healthz").status_code == 200


def test_the_server_says_what_it_is(server: Served, quick_model: MaskRCNN) -> None:
    model = server.client.get("/v1/model").json()
    assert model["classes"] == 8
    assert model["target"]["effective"] == "cpu"
    assert model["limits"]["pixels"] == 5_000_000
    assert server.client.get("/v1/labels").json() == list(quick_model.labels)
    assert server.client.get("/healthz").text == server.client.get("/readyz").text == "ok\n"


def test_metrics_count(server: Served) -> None:
    def read() -> dict[str, float]:
        lines = server.client.get("/metrics").text.splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}

    server.client.post("/v1/detect", content=png(picture()), headers=PNG)
    before = read()
    server.client.post("/v1/detect", content=png(picture()), headers=PNG)
    after = read()
    answered = 'requests_total{path="/v1/detect",status="200"}'
    for name in (answered, 'inferences_total{by="api"}', "inference_seconds_count"):
        assert after[f"cvmask_{name}"] == before[f"cvmask_{name}"] + 1
    assert after["cvmask_queue_length"] == 0
    assert after['cvmask_inference_seconds_bucket{le="+Inf"}'] == after["cvmask_inference_seconds_count"]


def test_counters_keep_every_digit() -> None:
    metrics = Metrics()
    metrics._counts["requests_total"]['path="/"'] = 123_456_788
    metrics.count("requests_total", {"path": "/"})
    metrics.gauges = {"queue_length": lambda: 12_345_678}
    lines = metrics.text().splitlines()
    assert 'cvmask_requests_total{path="/"} 123456789' in lines
    assert "cvmask_queue_length 12345678" in lines


def test_the_page_is_strict_and_complete(server: Served) -> None:
    page = server.client.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    names = [part.split('"')[0] for part in page.text.split('"/page/')[1:]]
    assert {"page.css", "page.js", "icon.svg"} <= set(names)
    for name in [*names, "socket.js", "camera.js", "controls.js", "files.js"]:
        content = server.client.get(f"/page/{name}")
        assert content.status_code == 200
        assert "://" not in content.text.replace("http://www.w3.org/2000/svg", "").replace("${scheme}://", "")
    assert "<script>" not in page.text
    assert "style=" not in page.text


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page//etc/passwd", "/docs"]
)
def test_nothing_else_can_be_read(server: Served, path: str) -> None:
    check_problem(server.client.get(path), 404)


def test_unknown_methods_are_problems_too(server: Served) -> None:
    check_problem(server.client.delete("/v1/model"), 405)


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/v1/model", "/page/page.js"])
def test_what_answers_get_answers_head(server: Served, path: str) -> None:
    head, whole = server.client.head(path), server.client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    assert int(head.headers["content-length"]) > 0
    check_problem(server.client.get("/v1/detect"), 405)


def test_another_name_and_another_origin_are_refused(server: Served) -> None:
    check_problem(server.client.get("/v1/model", headers={"Host": "rebound.example"}), 421)
    check_problem(server.client.get("/v1/model", headers={"Host": ""}), 421)
    for origin in ("http://elsewhere.example", "http://127.0.0.1:1", "null", "http://[", ""):
        headers = {**PNG, "Origin": origin}
        check_problem(server.client.post("/v1/detect", content=png(picture()), headers=headers), 403)
    own = {**PNG, "Origin": server.url}
    assert server.client.post("/v1/detect", content=png(picture()), headers=own).status_code == 200


def test_a_token_is_asked_for_everywhere(quick_model: MaskRCNN) -> None:
    with served(quick_model, token="right-token-right") as server:
        bare = {"Authorization": ""}
        for path in ("/", "/v1/model", "/metrics", "/openapi.json", "/page/page.js"):
            check_problem(server.client.get(path, headers=bare), 401)
            check_problem(server.client.get(path, headers={"Authorization": "Bearer wrong-token-wrong"}), 401)
            assert server.client.get(path).status_code == 200
        assert server.client.get("/healthz", headers=bare).status_code == 200
        check_problem(server.client.get("/?token=wrong", headers=bare), 401)
        door = server.client.get("/?token=right-token-right", headers=bare)
        assert door.status_code == 303
        cookie = door.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie, "a link from another page opens it"
        assert server.client.get("/v1/model", headers=bare).status_code == 200, "the cookie opens"


def test_a_browser_without_the_token_is_asked_for_it(quick_model: MaskRCNN) -> None:
    with served(quick_model, token="right-token-right") as server:
        for path in ("/", "/?token=wrong-token-wrong"):
            door = server.client.get(path, headers={"Authorization": "", "Accept": "text/html,*/*"})
            assert door.status_code == 401
            assert "<form" in door.text
        for name in ("page.css", "icon.svg"):
            assert server.client.get(f"/page/{name}", headers={"Authorization": ""}).status_code == 200


def test_two_servers_of_one_host_keep_their_tokens_apart(quick_model: MaskRCNN) -> None:
    tokens = ("first-token-first", "second-token-second")
    with (
        served(quick_model, token=tokens[0]) as first,
        served(quick_model.clone(), token=tokens[1]) as second,
        # As a browser, which gives a cookie to all ports of a host.
        httpx.Client(trust_env=False, timeout=PATIENCE_S) as browser,
    ):
        for server, token in zip((first, second), tokens):
            assert browser.get(f"{server.url}/?token={token}").status_code == 303
        for server in (first, second):
            assert browser.get(f"{server.url}/v1/model").status_code == 200


def test_a_full_queue_says_when_to_try_again(quick_model: MaskRCNN) -> None:
    with served(quick_model, queue=2) as server:
        release = server.hold()
        with ThreadPoolExecutor(1) as threads:
            data = png(picture())
            waiting = threads.submit(server.client.post, "/v1/detect", content=data, headers=PNG)
            until(lambda: server.service.pool.waiting == 1)
            # One client has half of the places only; another still finds one.
            refused = server.client.post("/v1/detect", content=data, headers=PNG)
            check_problem(refused, 503)
            assert int(refused.headers["retry-after"]) >= 1
            other = server.service.pool.submit("other", lambda worker: 1)
            check_problem(server.client.get("/readyz"), 503)
            release.set()
            assert waiting.result().status_code == 200
            assert other.result(PATIENCE_S) == 1


def test_what_takes_too_long_or_is_not_waited_for_leaves_the_queue(quick_model: MaskRCNN) -> None:
    with served(quick_model, work_s=0.3) as server:
        release = server.hold()
        check_problem(server.client.post("/v1/detect", content=png(picture()), headers=PNG), 504)
        release.set()
        until(lambda: server.service.pool.waiting == 0)
        assert server.count("inferences_total") == 0


def test_clients_that_go_away_leave_the_queue_and_memory_at_once(quick_model: MaskRCNN) -> None:
    with served(quick_model) as server:
        data = png(picture())
        assert server.client.post("/v1/detect", content=data, headers=PNG).status_code == 200
        release = server.hold()
        large, before = data + bytes(31_000_000 - len(data)), resident_bytes()
        for _ in range(16):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(HEAD % len(large) + large)
                until(lambda: server.service.pool.waiting == 1)
            # The worker is still busy: nobody has come to the job and found it cancelled.
            until(lambda: server.service.pool.waiting == 0)
        assert resident_bytes() - before < 200_000_000, "a few of them, not sixteen"
        assert server.client.get("/readyz").status_code == 200
        release.set()
        assert server.client.post("/v1/detect", content=data, headers=PNG).status_code == 200
        assert server.count("inferences_total") == 2


def test_clients_that_are_slow_are_let_go(quick_model: MaskRCNN) -> None:
    with served(quick_model, head_s=0.2, body_s=0.3) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            client.sendall(b"GET /healthz HT")
            assert _rest(client) == b""
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += client.recv(4096)
            client.sendall(b"GET /healthz HT")
            assert _rest(client) == b"", "nor may the second request take long"
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            client.sendall(HEAD % 99 + b"\x89")
            assert b" 408 " in client.recv(4096)


def _rest(client: socket.socket) -> bytes:
    try:
        return client.recv(100)
    except ConnectionResetError:
        return b""


def test_too_many_connections_are_told_to_come_again(quick_model: MaskRCNN) -> None:
    with served(quick_model, connections=4) as server:
        release = server.hold()
        with ThreadPoolExecutor(2) as threads:
            data = png(picture())
            waiting = [threads.submit(server.client.post, "/v1/detect", content=data, headers=PNG) for _ in range(2)]
            until(lambda: server.service.pool.waiting == 2)
            fields = check_problem(server.client.get("/v1/model"), 503)
            assert "this client has 2 of the 4" in fields["detail"]
            release.set()
            assert [one.result().status_code for one in waiting] == [200, 200]


def test_eight_clients_at_once_get_the_right_answers(quick_model: MaskRCNN) -> None:
    pictures = [png(picture(seed)) for seed in range(8)]
    with served(quick_model, workers=2) as server:

        def ask(data: bytes) -> Any:
            return server.client.post("/v1/detect", content=data, headers=PNG).json()["detections"]

        one_by_one = [ask(data) for data in pictures]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(ask, pictures * 2)) == one_by_one * 2


def test_settings_of_one_request_do_not_reach_the_next(server: Served) -> None:
    data = png(picture())
    before = server.client.post("/v1/detect", content=data, headers=PNG).json()["detections"]
    server.client.post("/v1/detect?score_threshold=0.9&classes=0", content=data, headers=PNG)
    assert server.client.post("/v1/detect", content=data, headers=PNG).json()["detections"] == before


def test_all_pictures_together_are_limited(quick_model: MaskRCNN) -> None:
    with served(quick_model, held_bytes=200_000) as server:
        release = server.hold()
        data = png(picture())
        data += bytes(60_000 - len(data))
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(server.client.post, "/v1/detect", content=data, headers=PNG)
            until(lambda: server.service.pool.waiting == 1)
            check_problem(server.client.post("/v1/detect", content=data, headers=PNG), 503)
            release.set()
            assert waiting.result().status_code == 200
        assert server.client.post("/v1/detect", content=data, headers=PNG).status_code == 200


def test_the_client_of_the_docs_works(server: Served, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "serve.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    definition, use = code.split("for found in")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    found: dict[str, Any] = {}
    exec(definition, found)
    assert [one["label"] for one in found["detect"](tmp_path / "scene.jpg", server.url)]
    assert 'found["label"]' in use
