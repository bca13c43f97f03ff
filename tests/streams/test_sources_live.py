"""Cameras, streams and standard input: what is read, what happens when it stops, and that it lets go."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cvmask.errors import SourceError
from cvmask.streams.sources import Camera, Frame, Images, Newest, Source, Video, open_source
from cvmask.streams.sources.http import HttpStream, without_password
from cvmask.streams.sources.image_source import Still
from cvmask.streams.sources.mjpeg import Stdin
from cvmask.streams.sources.opening import live_kind


def jpeg(grey: int) -> bytes:
    return cv2.imencode(".jpg", np.full((16, 24, 3), grey, np.uint8))[1].tobytes()


class FakeCapture:
    """Behaves like cv2.VideoCapture on a camera: frames at a pace, then nothing."""

    def __init__(self, count: int = 5, opened: bool = True, pause_s: float = 0.002) -> None:
        self.left, self.opened, self.pause_s = count, opened, pause_s
        self.released = 0

    def isOpened(self) -> bool:
        return self.opened

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 24, cv2.CAP_PROP_FRAME_HEIGHT: 16, cv2.CAP_PROP_FPS: 30}[what]

    def read(self) -> tuple[bool, Any]:
        assert not self.released, "read after release crashes OpenCV"
        time.sleep(self.pause_s)
        self.left -= 1
        return (True, np.full((16, 24, 3), self.left % 256, np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released += 1


# Cameras


def test_camera_gives_frames_with_their_age_until_it_is_unplugged() -> None:
    capture = FakeCapture(3)
    camera = Camera(0, lambda device: capture)
    assert (camera.size_wh, camera.frame_rate, camera.length, camera.live) == ((24, 16), 30, None, True)
    frames: list[Frame] = []
    with pytest.raises(SourceError, match="camera 0: no frame comes after 3: unplugged"):
        frames.extend(camera)
    assert all(frame.taken_at_s is not None for frame in frames)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].time_s == 0
    assert capture.released


def test_leaving_the_loop_releases_the_camera() -> None:
    capture = FakeCapture(10_000)
    for frame in Newest(Camera(0, lambda device: capture)):
        if frame.index > 3:
            break
    assert capture.released
    assert not [thread for thread in threading.enumerate() if thread.name == "cvmask-newest"]


def test_missing_camera_is_one_line() -> None:
    with pytest.raises(SourceError, match=r"camera 93: /dev/video93 does not exist; cameras here: "):
        Camera(93, lambda device: FakeCapture(opened=False))


def test_busy_camera_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda path: True)
    monkeypatch.setattr("os.access", lambda path, mode: True)
    with pytest.raises(SourceError, match="camera 0: /dev/video0 cannot be opened: in use"):
        Camera(0, lambda device: FakeCapture(opened=False))


def test_newest_passes_over_what_is_older() -> None:
    source = Newest(Camera(0, lambda device: FakeCapture(60)))
    indices: list[int] = []

    def follow() -> None:
        for frame in source:
            indices.append(frame.index)
            time.sleep(0.02)

    with pytest.raises(SourceError, match="unplugged"):
        follow()
    assert indices == sorted(set(indices))
    assert len(indices) + source.dropped == 60
    assert source.dropped > 20


# Standard input


def test_newest_may_be_closed_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(1000)
    newest = Newest(Camera(0, lambda device: capture))
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        newest.close()
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    assert list(newest) == []
    assert capture.released


def test_stdin_reads_jpegs_and_leaves_damaged_ones_out() -> None:
    broken = jpeg(3)[:2] + b"\xff\xc0\x00\x04\x00\x00" + b"\xff\xd9"
    messages: list[str] = []
    stdin = Stdin(file=io.BytesIO(jpeg(10) + broken + jpeg(200)), on_message=messages.append)
    assert [round(frame.image.mean()) for frame in stdin] == [10, 200]
    assert messages == ["-: damaged JPEGs left out: 1"]


def test_stdin_that_is_cut_within_a_jpeg_says_so() -> None:
    messages: list[str] = []
    stdin = Stdin(file=io.BytesIO((jpeg(10) + jpeg(200))[:-2]), on_message=messages.append)
    assert [round(frame.image.mean()) for frame in stdin] == [10]
    assert messages == ["-: damaged JPEGs left out: 1"]


def test_a_jpeg_that_is_not_whole_is_left_out() -> None:
    cut_within = jpeg(3)[:-30] + b"\xff\xe0\xff\xff" + b"\xff\xd9"
    messages: list[str] = []
    stdin = Stdin(file=io.BytesIO(jpeg(10) + cut_within + jpeg(200)), on_message=messages.append)
    assert [round(frame.image.mean()) for frame in stdin] == [10, 200]
    assert messages == ["-: damaged JPEGs left out: 1"]


def test_stdin_reads_raw_frames() -> None:
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8)
    stdin = Stdin((5, 4), Fraction(10), file=io.BytesIO(pixels.tobytes()))
    frames = list(stdin)
    assert np.array_equal(np.stack([frame.image for frame in frames]), pixels.reshape(2, 4, 5, 3))
    assert [frame.time_s for frame in frames] == [0, 0.1]


@pytest.mark.parametrize("size_wh", [(0, 480), (640, 0), (-1, -1)])
def test_stdin_refuses_a_size_without_pixels(size_wh: tuple[int, int]) -> None:
    for make in (lambda: Stdin(size_wh, file=io.BytesIO(b"123")), lambda: open_source("-", size_wh=size_wh)):
        with pytest.raises(ValueError, match=f"needs a size_wh of at least 1x1, got {size_wh[0]}x{size_wh[1]}"):
            make()


def test_raw_frames_that_came_whole_are_kept() -> None:
    messages: list[str] = []
    stdin = Stdin((4, 4), file=io.BytesIO(b"x" * 100), on_message=messages.append)
    assert [frame.index for frame in stdin] == [0, 1]
    why = "4 of the 48 bytes of 4x4 came: is --raw-size right?"
    assert messages == [f"-: ends within frame 2, which is left out ({why})"]


@pytest.mark.parametrize(
    ("data", "size_wh", "message"),
    [
        (b"", None, r"holds no frame \(JPEGs expected; raw pixels need"),
        (b"hello" * 100, None, "holds no frame"),
        (b"", (4, 4), r"holds no frame \(raw BGR pixels expected\)"),
        (b"x" * 47, (4, 4), r"holds no frame \(47 of the 48 bytes of 4x4 came: is --raw-size right\?\)"),
    ],
)
def test_stdin_without_frames_is_one_line(data: bytes, size_wh: tuple[int, int] | None, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list(Stdin(size_wh, file=io.BytesIO(data)))


def test_closing_ends_a_read_that_waits_on_a_pipe() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as file, os.fdopen(writing, "wb"):
        stdin = Stdin(file=file)
        threading.Timer(0.1, stdin.close).start()
        assert list(stdin) == []


# Streams over HTTP


class MjpegServer(ThreadingHTTPServer):
    """Streams JPEGs; the script says, for each connection in turn, what happens.

    "damaged" cuts every second one short, "asked" sends one for each `asked.release()`.
    """

    daemon_threads = True

    def __init__(self, script: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), MjpegHandler)
        self.script = script
        self.grey = 0
        self.over = threading.Event()
        self.asked = threading.Semaphore(0)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/stream"


class MjpegHandler(BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self) -> None:
        action = self.server.script.pop(0) if self.server.script else "stream"
        if action == "refuse":
            self.send_error(503)
            return
        if action == "redirect":
            self.send_response(302)
            self.send_header("Location", "/else where")
            self.end_headers()
            return
        if action == "slow stall":
            self.server.over.wait(1)
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for index in range(3 if action in ("drop", "stall", "slow stall", "cut") else 10_000):
                whole = jpeg(self.server.grey)
                self.send_part(whole[:-20] if action == "damaged" and index % 2 else whole)
                self.server.grey = (self.server.grey + 10) % 250
                if self.server.over.wait(0.01):
                    return
                while action == "asked" and not self.server.asked.acquire(timeout=0.1):
                    if self.server.over.is_set():
                        return
            if action == "cut":
                self.send_part(jpeg(250)[:200])
            if action.endswith("stall"):
                self.server.over.wait(20)
        except OSError:
            pass

    def send_part(self, data: bytes) -> None:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"\r\n")

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def serve() -> Iterator[Any]:
    servers: list[MjpegServer] = []

    def start(*script: str) -> MjpegServer:
        server = MjpegServer(list(script))
        threading.Thread(target=server.serve_forever, args=(0.05,), name="test-server").start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


def greys(source: Source, count: int) -> list[int]:
    found = []
    for frame in source:
        found.append(round(frame.image.mean()))
        if len(found) == count:
            break
    return found


def test_mjpeg_stream_gives_every_frame(serve: Any) -> None:
    source = open_source(serve().address, every_frame=True)
    assert source.live
    assert greys(source, 5) == [0, 10, 20, 30, 40]


def test_damaged_pictures_of_a_stream_are_left_out_and_told_now_and_then(serve: Any) -> None:
    messages: list[str] = []
    source = open_source(serve("damaged").address, every_frame=True, on_message=messages.append)
    assert greys(source, 12) == [20 * index for index in range(12)]
    assert [message.split(": ", 1)[1] for message in messages] == [
        "damaged JPEGs left out so far: 1",
        "damaged JPEGs left out so far: 10",
    ]


def test_a_part_of_what_is_live_is_told_to_be_of_no_use(serve: Any) -> None:
    messages: list[str] = []
    address = serve().address
    source = open_source(address, every_frame=True, stride=2, on_message=messages.append)
    assert greys(source, 3) == [0, 10, 20]
    assert messages == [f"{address}: start, end and stride do not apply to a stream: all of it is read"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rtsp://host/a", "stream"),
        ("udp://host:1", "stream"),
        ("http://host/a", "address"),
        ("file:///in.mp4", ""),
        ("in.mp4", ""),
        ("-", "standard input"),
        ("0", "camera"),
    ],
)
def test_kinds_are_told_by_their_looks(name: str, kind: str) -> None:
    assert live_kind(name) == kind


@pytest.mark.parametrize("trouble", ["drop", "stall", "cut"])
def test_stream_that_fails_comes_back_with_nothing_invented(serve: Any, trouble: str) -> None:
    messages: list[str] = []
    server = serve(trouble, "refuse", "stream")
    source = open_source(server.address, every_frame=True, timeout_s=0.4, on_message=messages.append)
    assert greys(source, 6) == [0, 10, 20, 30, 40, 50]
    assert "attempt 1 of 10 in 0.5 s" in messages[0]
    assert "the server answers 503" in messages[1]
    assert "attempt 2 of 10 in 1 s" in messages[1]
    assert messages[2].endswith("back after 2 attempts")


def test_a_server_that_is_slow_to_answer_has_time_and_one_that_stalls_has_the_timeout(serve: Any) -> None:
    messages: list[str] = []
    server = serve("slow stall", "stream")
    source = open_source(server.address, every_frame=True, timeout_s=0.3, on_message=messages.append)
    assert greys(source, 4) == [0, 10, 20, 30]
    assert "nothing came for 0.3 s; attempt 1" in messages[0]


def test_stream_that_does_not_come_back_is_given_up(serve: Any) -> None:
    server = serve("drop", "refuse", "refuse", "refuse")
    source = open_source(server.address, every_frame=True, retries=1)
    with pytest.raises(SourceError, match=r"given up after 1 attempts in a row: .* answers 503"):
        list(source)


def test_wrong_address_is_an_error_at_once(serve: Any) -> None:
    server = serve("refuse")
    with pytest.raises(SourceError, match="the server answers 503"):
        open_source(server.address)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match="cannot be reached: "):
            open_source(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def test_redirect_is_followed(serve: Any) -> None:
    assert greys(open_source(serve("redirect", "stream").address, every_frame=True), 2) == [0, 10]


def test_closing_ends_a_read_that_waits_for_the_server(serve: Any) -> None:
    source = open_source(serve("stall").address, every_frame=True, timeout_s=15)
    threading.Timer(0.5, source.close).start()
    began = time.monotonic()
    assert len(list(source)) == 3
    assert time.monotonic() - began < 5


def test_newest_frame_of_a_stream_comes_first(serve: Any) -> None:
    server = serve("asked")
    source = open_source(server.address)
    assert isinstance(source, Newest)
    frames = iter(source)
    assert next(frames).index == 0
    for times in range(1, 4):
        for _ in range(5):
            server.asked.release()
        # Four of the five have been passed over once the fifth is here.
        deadline_s = time.monotonic() + 30
        while source.dropped < 4 * times and time.monotonic() < deadline_s:
            time.sleep(0.01)
        before_s = time.monotonic()
        frame = next(frames)
        assert frame.index == 5 * times
        assert frame.taken_at_s is not None
        assert frame.taken_at_s <= before_s
        assert source.dropped == 4 * times
    source.close()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://127.0.0.1:99999/", "a port is a number up to 65535"),
        ("http://127.0.0.1:abc/", "a port is a number up to 65535"),
        ("http://[bad/x", "a port is a number up to 65535"),
        ("http://", "no http address"),
        ("http://a b/", "the host is no name"),
        ("http://127.0.0.1:1\u00e4/", "a port is a number"),
        ("http://a..b/", "the host is no name"),
        ("http://u:se#cret@127.0.0.1:9/x", "in a password are written %2F %23"),
    ],
)
def test_what_is_no_address_is_one_line(address: str, why: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(address)
    message = str(caught.value)
    assert message.startswith(f"{without_password(address)}: no http address")
    assert why in message
    assert "cret" not in message


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b""])
def test_a_connection_without_an_answer_is_closed(answer: bytes) -> None:
    errors: list[SourceError] = []

    def ask(port: int) -> None:
        try:
            HttpStream(f"http://127.0.0.1:{port}/", 20)
        except SourceError as error:
            errors.append(error)  # and with it the frames that hold what is open

    with socket.create_server(("127.0.0.1", 0)) as listening:
        asking = threading.Thread(target=ask, args=(listening.getsockname()[1],))
        asking.start()
        with listening.accept()[0] as taken:
            taken.recv(4096)
            taken.sendall(answer)
            taken.shutdown(socket.SHUT_WR)
            taken.settimeout(10)
            assert taken.recv(4096) == b""
        asking.join()
    assert "answers no HTTP" in str(errors[0])


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:secret@host:554/a?b=c", "rtsp://me:***@host:554/a?b=c"),
        ("rtsp://u:se#cret@127.0.0.1:9/x", "rtsp://u:***@127.0.0.1:9/x"),
        ("rtsp://u:se/c?r@et@127.0.0.1:9/x", "rtsp://u:***@127.0.0.1:9/x"),
        ("rtsp://u:1se/cret@127.0.0.1:9/x", "rtsp://u:***@127.0.0.1:9/x"),
        ("rtsp://:secret@host", "rtsp://:***@host"),
        ("http://host/a", "http://host/a"),
        ("http://me@host:80/a", "http://me@host:80/a"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("http://[::1]:8080/a@b", "http://[::1]:8080/a@b"),
        ("http://[bad/x", "http://[bad/x"),
    ],
)
def test_a_password_is_hidden_and_nothing_else(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_password_is_not_shown() -> None:
    with pytest.raises(SourceError) as caught:
        open_source("http://me:secret@127.0.0.1:1/")
    assert "secret" not in str(caught.value)


def test_rtsp_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(SourceError, match=r"rtsp://127.0.0.1:1/x: no stream that OpenCV can open"):
        open_source("rtsp://127.0.0.1:1/x")


# Which source a name means


def test_names_choose_their_source(tmp_path: Path) -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), picture)
    os.rename(tmp_path / "b.png", tmp_path / "no_ending")
    writer = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (16, 16))
    writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    for name in ("", "a.png", "no_ending", "*.png"):
        assert isinstance(open_source(tmp_path / name), Images)
    with open_source(tmp_path / "c.avi") as video:
        assert isinstance(video, Video)
    with pytest.raises(SourceError, match=r"gone.mp4: cannot be read"):
        open_source("gone.mp4")


def test_the_address_of_a_file_is_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "a #1 %"
    folder.mkdir()
    cv2.imwrite(str(folder / "p.png"), np.full((4, 4, 3), 9, np.uint8))
    writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (16, 16))
    for _ in range(5):
        writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    video = open_source((folder / "v.avi").as_uri(), start_s=0.2)
    assert isinstance(video, Video)
    assert [frame.index for frame in video] == [2, 3, 4]
    assert greys(open_source((folder / "p.png").as_uri()), 2) == [9]
    assert greys(open_source(f"file://localhost{folder}"), 2) == [9]
    assert greys(Images([(folder / "p.png").as_uri()]), 2) == [9]
    with pytest.raises(SourceError, match=r"gone.mp4: cannot be read"):
        open_source("file:///gone.mp4")
    with pytest.raises(SourceError, match="file of another machine"):
        open_source("file://host/in.mp4")


def test_picture_over_http_is_a_picture(tmp_path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.end_headers()
            self.wfile.write(jpeg(70))

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            source = open_source(f"http://127.0.0.1:{server.server_address[1]}/a.jpg")
        finally:
            server.shutdown()
            thread.join()
    assert isinstance(source, Still)
    assert greys(source, 1) == [70]
