"""Servers that take a connection and then say nothing: whoever has had enough gets away at once.

Every timeout here is a minute, so that nothing but leaving can end what waits.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT

from cvmask import annotate
from cvmask.errors import SourceError
from cvmask.results.detections import Detections
from cvmask.streams.sources import Source, open_source
from cvmask.streams.sources.capture import BlockingCalls, Left
from cvmask.streams.sources.http import HttpStream

TIMEOUT_S = 60
# Far less than the timeout, far more than a busy machine needs.
SOON_S = 25


class Server:
    """Accepts connections, sends each the bytes that it was given, and is silent."""

    def __init__(self, *sends: bytes) -> None:
        self._sends = list(sends)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self.accepted = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def address(self, kind: str) -> str:
        return f"{kind}://127.0.0.1:{self._listening.getsockname()[1]}/x"

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for one in (*self._taken, self._listening):
            one.close()

    def _serve(self) -> None:
        while True:
            try:
                self._taken.append(self._listening.accept()[0])
            except OSError:
                return
            self._taken[-1].sendall(self._sends.pop(0) if self._sends else b"")
            self.accepted.release()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*sends: bytes) -> Server:
        servers.append(Server(*sends))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    for thread in threading.enumerate():
        if thread.name.startswith("cvmask"):
            thread.join(SOON_S)
            assert not thread.is_alive(), f"{thread.name} stays although OpenCV has returned"


@pytest.fixture
def clip(tmp_path: Path) -> bytes:
    """Give a video that can be read while it comes."""
    path = str(tmp_path / "clip.avi")
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for index in range(30):
        writer.write(np.full((48, 64, 3), 8 * index, np.uint8))
    writer.release()
    return Path(path).read_bytes()


def closed_while_it_waits(source: Source) -> float:
    """Read to the end of what comes, close from another thread, and give how long that took in seconds."""
    closed_at_s = []

    def close() -> None:
        closed_at_s.append(time.monotonic())
        source.close()

    timer = threading.Timer(1.5, close)
    timer.start()
    for _ in source:
        pass
    timer.join()
    return time.monotonic() - closed_at_s[0]


def test_closing_ends_a_read_through_ffmpeg(serve: Callable[..., Server], clip: bytes) -> None:
    source = open_source(serve(clip).address("tcp"), every_frame=True, timeout_s=TIMEOUT_S)
    assert closed_while_it_waits(source) < SOON_S


def test_closing_ends_a_new_attempt_to_connect(serve: Callable[..., Server]) -> None:
    picture = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    head = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace\r\nContent-Length: %d\r\n\r\n"
    messages: list[str] = []
    server = serve(head % len(picture) + picture)
    address = server.address("http")
    source = open_source(address, every_frame=True, timeout_s=TIMEOUT_S, on_message=messages.append)
    assert closed_while_it_waits(source) < SOON_S
    assert "attempt 1 of 10" in messages[0]
    assert server.accepted.acquire(timeout=0)
    assert server.accepted.acquire(timeout=SOON_S), "it waited before it had connected again"


def test_a_picture_that_stops_coming_is_one_line(serve: Callable[..., Server]) -> None:
    address = serve(b"HTTP/1.0 200 OK\r\nContent-Type: image/png\r\nContent-Length: 999\r\n\r\nP").address("http")
    with pytest.raises(SourceError, match=r"/x: nothing came for 0.2 s"):
        open_source(address, timeout_s=0.2)


def test_an_error_of_the_loop_does_not_wait_for_the_server(serve: Callable[..., Server], clip: bytes) -> None:
    class Model:
        calls = 0

        def detect(self, frame: np.ndarray) -> Detections:
            Model.calls += 1
            if Model.calls == 20:
                time.sleep(0.5)  # the reader has come to where nothing follows
                raise ZeroDivisionError
            return Detections.empty((frame.shape[0], frame.shape[1]))

    began_s = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        annotate(serve(clip).address("tcp"), Model(), every_frame=True, timeout_s=TIMEOUT_S).run()
    assert time.monotonic() - began_s < SOON_S


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", ["rtsp", "http"])
def test_ctrl_c_ends_a_program_that_waits_for_a_server(serve: Callable[..., Server], kind: str) -> None:
    server = serve()
    command = [sys.executable, "-m", "cvmask", "predict", "-m", "shapes", server.address(kind)]
    child = subprocess.Popen([*command, "--timeout", str(TIMEOUT_S)], stderr=subprocess.PIPE, cwd=ROOT)
    assert server.accepted.acquire(timeout=SOON_S)
    child.send_signal(signal.SIGINT)
    began_s = time.monotonic()
    _, message = child.communicate(timeout=TIMEOUT_S)
    assert (child.returncode, message) == (130, b"cvmask: interrupted\n")
    assert time.monotonic() - began_s < SOON_S


def test_ctrl_c_while_an_answer_is_begun_leaves_nothing_half_made(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = socket.SocketIO.__init__

    def interrupted(self: socket.SocketIO, *arguments: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        begin(self, *arguments)

    monkeypatch.setattr(socket.SocketIO, "__init__", interrupted)
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    with pytest.raises(KeyboardInterrupt):
        HttpStream(serve().address("http"), TIMEOUT_S)
    gc.collect()
    assert not unraisable


# The thread that waits in our place


def test_errands_give_results_and_errors() -> None:
    errands = BlockingCalls()
    assert [errands.do(lambda n=n: n * n) for n in range(3)] == [0, 1, 4]
    with pytest.raises(ZeroDivisionError):
        errands.do(lambda: 1 // 0)
    errands.leave()
    with pytest.raises(Left):
        errands.do(lambda: 1)


def test_errands_undo_what_comes_too_late() -> None:
    errands, begun, go = BlockingCalls(), threading.Event(), threading.Event()
    undone: list[object] = []

    def work() -> str:
        begun.set()
        go.wait(SOON_S)
        return "late"

    def leave() -> None:
        begun.wait(SOON_S)
        errands.leave(last=lambda: undone.append("last"))

    leaving = threading.Thread(target=leave)
    leaving.start()
    with pytest.raises(Left):
        errands.do(work, undo=undone.append)
    leaving.join()
    assert undone == []
    go.set()
    for thread in threading.enumerate():
        if thread.name == "cvmask-errands":
            thread.join(SOON_S)
    assert undone == ["late", "last"]


@pytest.mark.parametrize("late", [False, True], ids=["while the call goes on", "when its thread has ended"])
def test_errands_do_the_last_one_after_an_interrupt(late: bool) -> None:
    errands, begun, go, done = BlockingCalls(), threading.Event(), threading.Event(), threading.Event()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "cvmask-errands")

    def interrupt() -> None:
        begun.wait(SOON_S)
        signal.raise_signal(signal.SIGINT)

    def work() -> None:
        begun.set()
        go.wait(SOON_S)

    interrupting = threading.Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        errands.do(work)
    interrupting.join()
    if late:
        go.set()
        thread.join(SOON_S)
    calls: list[int] = []
    for number in range(2):
        errands.leave(last=lambda number=number: (calls.append(number), done.set()))
    go.set()
    thread.join(SOON_S)
    assert done.is_set()
    assert calls == [0]
