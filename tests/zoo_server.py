"""A real HTTP server on loopback that behaves as badly as it is told to, and archives for it to serve."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Callable

import pytest
from background import running

from cvmask.models import fetch, zoo
from cvmask.models.zoo import CONFIG_FILE, GRAPH_FILE, get

RESNET50 = get("coco-resnet50")


class Handler(BaseHTTPRequestHandler):
    """Answers with the next behaviour of its server's list, and honestly once that is empty."""

    server: Server

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers.items())))
        behave = self.server.behaviours.pop(0) if self.server.behaviours else honest
        content = self.server.files.get(self.path.rsplit("/", 1)[-1])
        if content is None and behave is honest:
            behave = status(404)
        behave(self, content or b"")
        self.close_connection = True

    def head(self, code: int, **headers: object) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


Behaviour = Callable[[Handler, bytes], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.behaviours: list[Behaviour] = []
        self.requests: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextmanager
def serving(
    files: dict[str, bytes], prepare: Callable[[Server], None] = lambda server: None
) -> Iterator[Server]:
    with Server(files) as server:
        prepare(server)
        with running(server):
            yield server


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def honest(handler: Handler, content: bytes, send: int | None = None) -> None:
    """What a good server does; with `send`, it hangs up after so many bytes."""
    start = 0
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range") == etag(content):
        start = int(wanted[len("bytes=") :].rstrip("-"))
        if start >= len(content):
            return handler.head(416, Content_Range=f"bytes */{len(content)}", Content_Length=0)
        span = f"bytes {start}-{len(content) - 1}/{len(content)}"
        handler.head(206, Content_Range=span, Content_Length=len(content) - start, ETag=etag(content))
    else:
        handler.head(200, Content_Length=len(content), ETag=etag(content))
    handler.wfile.write(content[start:] if send is None else content[start : start + send])


def break_off(after: int) -> Behaviour:
    return lambda handler, content: honest(handler, content, send=after)


def status(code: int, **headers: object) -> Behaviour:
    def behave(handler: Handler, content: bytes) -> None:
        handler.head(code, Content_Length=0, **headers)

    return behave


def ignore_range(handler: Handler, content: bytes) -> None:
    handler.head(200, Content_Length=len(content))
    handler.wfile.write(content)


def claim_length(n_bytes: int) -> Behaviour:
    def behave(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=n_bytes, ETag=etag(content))
        handler.wfile.write(content)

    return behave


def answer_with(body: bytes, **headers: object) -> Behaviour:
    def behave(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return behave


def stall(seconds: float) -> Behaviour:
    def behave(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=len(content), ETag=etag(content))
        handler.wfile.write(content[:100])
        handler.wfile.flush()
        time.sleep(seconds)

    return behave


def slow(pause_s: float, pieces: int) -> Behaviour:
    def behave(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=len(content), ETag=etag(content))
        step = len(content) // pieces + 1
        for start in range(0, len(content), step):
            handler.wfile.write(content[start : start + step])
            handler.wfile.flush()
            time.sleep(pause_s)

    return behave


def hold(go_on: threading.Event) -> Behaviour:
    """Send half, and the rest when told: what happens in between takes as long as it takes."""

    def behave(handler: Handler, content: bytes) -> None:
        handler.head(200, Content_Length=len(content), ETag=etag(content))
        half = len(content) // 2
        handler.wfile.write(content[:half])
        handler.wfile.flush()
        go_on.wait(60)
        handler.wfile.write(content[half:])

    return behave


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what another process or thread is about to do."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.01)


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(n_bytes)


DATA = Path(__file__).parent / "data"
GRAPH = (DATA / "tiny_plain.pb").read_bytes()
OTHER_GRAPH = (DATA / "tiny_sigmoid.pb").read_bytes()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def tar_gz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def model_archive(folder: str, graph: bytes = GRAPH) -> bytes:
    """An archive laid out as the zoo's are."""
    return tar_gz(
        member(folder, type=tarfile.DIRTYPE, mode=0o755),
        member(f"{folder}/checkpoint", b"text"),
        member(f"{folder}/{GRAPH_FILE}", graph),
        member(f"{folder}/{CONFIG_FILE}", b"model {}\n"),
        member(f"{folder}/saved_model/saved_model.pb", noise(200_000, seed=1)),
    )


STEM = "mask_rcnn_resnet50_atrous_coco_2018_01_28"
ARCHIVE = model_archive(STEM)


def clean_home(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Make `folder` the cache, and the environment as if nothing had been set; `ARCHIVE` may be the ResNet-50 model."""
    monkeypatch.setitem(zoo._BY_NAME, RESNET50.name, replace(RESNET50, listed_sha256=None))
    for name in ("CVMASK_MIRROR", "CVMASK_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("CVMASK_HOME", str(folder))
    monkeypatch.setattr(fetch, "sleep", lambda seconds: None)
    return folder


def put_model(home: Path, name: str, graph: bytes = GRAPH) -> Path:
    """Lay a model down as if somebody had put it there by hand."""
    folder = home / "models" / name
    folder.mkdir(parents=True)
    (folder / GRAPH_FILE).write_bytes(graph)
    return folder
