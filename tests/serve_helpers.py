"""A real server in a thread, and a source that gives frames when a test says so."""

from __future__ import annotations

import json
import queue
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="needs cvmask[serve]")
httpx = pytest.importorskip("httpx", reason="needs cvmask[serve-test]")
websockets = pytest.importorskip("websockets.sync.client", reason="needs cvmask[serve]")

from cvmask import scenes  # noqa: E402
from cvmask.errors import SourceError  # noqa: E402
from cvmask.runtime.model import MaskRCNN  # noqa: E402
from cvmask.serve.app import make_app  # noqa: E402
from cvmask.serve.limits import Limits  # noqa: E402
from cvmask.serve.server import listen, make_server  # noqa: E402
from cvmask.serve.service import Service  # noqa: E402
from cvmask.serve.view import Controls  # noqa: E402
from cvmask.streams.sources import Frame, Source  # noqa: E402

SIZE_WH = (160, 128)
PATIENCE_S = 20


class Served:
    """A server that runs: `url`, `port`, `service`, and a client."""

    def __init__(self, service: Service, port: int, token: str | None) -> None:
        self.service, self.port = service, port
        self.url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S, trust_env=False)

    def count(self, name: str) -> int:
        return self.service.metrics.total(name)

    def inferences(self, by: str) -> int:
        lines = self.service.metrics.text().splitlines()
        start = f'cvmask_inferences_total{{by="{by}"}} '
        return next((int(line.removeprefix(start)) for line in lines if line.startswith(start)), 0)

    def hold(self) -> threading.Event:
        """Keep a worker busy until the event is set."""
        release, held = threading.Event(), threading.Event()
        self.service.pool.submit("test", lambda worker: (held.set(), release.wait(PATIENCE_S)))
        until(held.is_set)
        return release

    def connect(self, path: str, **options: Any) -> Any:
        """Give a context manager: a WebSocket while the block runs."""
        address = f"ws://127.0.0.1:{self.port}{path}"
        return websockets.connect(address, proxy=None, max_size=None, compression=None, **options)


@contextmanager
def served(
    model: MaskRCNN,
    open_source: Callable[[], Source] | None = None,
    *,
    token: str | None = None,
    port: int = 0,
    proxies: Sequence[str] = (),
    workers: int = 1,
    **limits: Any,
) -> Iterator[Served]:
    """Run a server while the block runs; what it says of itself at the end must be that nothing failed."""
    # A test hands out frames when it likes.
    limits.setdefault("lost_s", 600.0)
    service = Service(
        model, open_source, name="shapes", controls=Controls(), workers=workers, limits=Limits(**limits)
    )
    hosts = None if token else {"127.0.0.1", "localhost"}
    socket = listen("127.0.0.1", port)
    server = make_server(make_app(service, token=token, hosts=hosts), service.limits, proxies)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        until(lambda: server.started)
        running = Served(service, socket.getsockname()[1], token)
        with running.client:
            yield running
        assert running.count("failed_total") == 0
    finally:
        server.should_exit = True
        thread.join()
        service.close()
        socket.close()
    assert not service.folder.exists()


def until(true: Callable[[], Any]) -> None:
    """Wait for something that another thread does."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, "waited for too long"
        time.sleep(0.005)


class Hand(Source):
    """A live source: gives the frames that `give` is handed; `break_off` ends it as a lost camera does."""

    live = True
    name = "hand"

    def __init__(self) -> None:
        self._queue: queue.Queue[NDArray[np.uint8] | str | None] = queue.Queue()

    def give(self, image: NDArray[np.uint8]) -> None:
        self._queue.put(image)

    def break_off(self, reason: str) -> None:
        self._queue.put(reason)

    def close(self) -> None:
        self._queue.put(None)

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while (item := self._queue.get()) is not None:
            if isinstance(item, str):
                raise SourceError(f"{self.name}: {item}")
            yield Frame(item, index, None, self.name, taken_at_s=time.monotonic())
            index += 1


class Viewer:
    """One who looks at the page: takes messages and answers each, if it does."""

    def __init__(self, connection: Any, answers: bool = True) -> None:
        self._connection, self._answers = connection, answers
        self.messages = 0

    def __enter__(self) -> Viewer:
        self._socket = self._connection.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._connection.__exit__(*raised)

    def next(self, timeout_s: float = PATIENCE_S) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        message = self._socket.recv(timeout=timeout_s)
        if isinstance(message, str):
            return json.loads(message), None
        self.messages += 1
        (length,) = struct.unpack_from(">I", message)
        if self._answers:
            self.order(do="seen")
        jpeg = np.frombuffer(message[4 + length :], np.uint8)
        return json.loads(message[4 : 4 + length]), cv2.imdecode(jpeg, 1) if jpeg.size else None

    def wait(
        self, fits: Callable[[dict[str, Any]], Any], patience_s: float = PATIENCE_S
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """Take messages until one fits; TimeoutError if none does."""
        end_s = time.monotonic() + patience_s
        while True:
            status, image = self.next(max(0.1, end_s - time.monotonic()))
            if fits(status):
                return status, image

    def order(self, **order: Any) -> None:
        self._socket.send(json.dumps(order))

    def push(self, data: bytes | str) -> None:
        self._socket.send(data)


def picture(seed: int = 5, objects: int = 4) -> NDArray[np.uint8]:
    return scenes.make_scene(seed, SIZE_WH, objects=objects).image


def jpeg(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


def png(image: NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def avi(frames: int) -> bytes:
    """Make a video that can be cut short and still be read, 160 x 128, 25 a second."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.avi")
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE_WH)
        for index in range(frames):
            writer.write(picture(index))
        writer.release()
        return path.read_bytes()
