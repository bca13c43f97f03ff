"""What lies at an HTTP address is live or a file, whatever the server calls it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clips import ffmpeg

from cvmask.errors import SourceError
from cvmask.streams.sources import Video, open_source
from cvmask.streams.sources.live import Newest

CLIP = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.4", "-pix_fmt", "yuv420p", "-g", "1")
CODECS = {"ts": "mpeg2video", "flv": "flv1", "mkv": "mpeg4", "webm": "vp8"}


class Server(ThreadingHTTPServer):
    """Answers with the bytes for a path, of the length that it claims: None is none, 0 the right one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, tuple[str, bytes]] = {}
        self.length: int | None = None
        self.stalls = False
        self.asked: list[str] = []
        self.over = threading.Event()

    def address(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        kind, data = self.server.answers[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        if self.server.length is not None:
            self.send_header("Content-Length", str(self.server.length or len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
            if self.server.stalls:
                self.server.over.wait(20)
        except OSError:
            pass

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.over.set()
        server.shutdown()
        thread.join()


def taken(address: str, count: int, **options: Any) -> tuple[int, list[str]]:
    """Take so many frames of a live source; how many came, and what was told."""
    messages: list[str] = []
    source = open_source(address, every_frame=True, on_message=messages.append, **options)
    came = 0
    with source:
        assert source.live
        for _ in source:
            came += 1
            if came == count:
                break
    return came, messages


@pytest.mark.parametrize("ending", CODECS)
def test_video_without_a_length_is_live_and_comes_back(tmp_path: Path, server: Server, ending: str) -> None:
    clip = ffmpeg(tmp_path / f"clip.{ending}", *CLIP, "-c:v", CODECS[ending])
    server.answers["/live"] = "application/octet-stream", clip.read_bytes()
    came, messages = taken(server.address("/live"), 12)
    assert came == 12
    assert any("attempt 1 of" in message for message in messages)
    assert any("back after" in message for message in messages)
    with open_source(server.address("/live")) as source:
        assert isinstance(source, Newest)


def test_a_live_video_that_stalls_is_tried_again_after_the_timeout(tmp_path: Path, server: Server) -> None:
    long = (*CLIP[:3], CLIP[3].replace("0.4", "8"))
    data = ffmpeg(tmp_path / "clip.ts", *long, "-c:v", "mpeg2video").read_bytes()
    server.answers["/live"], server.stalls = ("video/mp2t", data), True
    began = time.monotonic()
    with pytest.raises(SourceError, match="given up after 0 attempts"):
        taken(server.address("/live"), 1000, timeout_s=0.5, retries=0)
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("boundary", [b"", b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"])
@pytest.mark.parametrize("kind", ["video/x-motion-jpeg", "application/octet-stream", "multipart/mixed"])
def test_jpegs_under_any_name_are_a_stream(server: Server, kind: str, boundary: bytes) -> None:
    jpegs = [boundary + cv2.imencode(".jpg", np.full((48, 64, 3), 20 * i, np.uint8))[1].tobytes() for i in range(6)]
    server.answers["/live"] = kind, b"\r\n".join(jpegs)
    came, messages = taken(server.address("/live"), 8)
    assert came == 8
    assert any("back after" in message for message in messages)


def segments(folder: Path, server: Server, *more: str) -> None:
    """Serve three segments of half a second, and a list of lists that leads to theirs."""
    video = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=20:duration=1.5", "-c:v", "mpeg2video", "-g", "10")
    ffmpeg(folder / "list.m3u8", *video, "-f", "hls", "-hls_time", "0.5", "-hls_list_size", "0", *more)
    server.length = 0
    for path in folder.iterdir():
        server.answers[f"/{path.name}"] = "application/octet-stream", path.read_bytes()
    top = b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=100000\nlist.m3u8\n"
    server.answers["/top.m3u8"] = "application/vnd.apple.mpegurl", top


@pytest.mark.parametrize("name", ["list.m3u8", "top.m3u8"])
def test_a_list_of_segments_without_an_end_is_live(tmp_path: Path, server: Server, name: str) -> None:
    segments(tmp_path, server, "-hls_flags", "omit_endlist")
    began = time.monotonic()
    came, _ = taken(server.address(f"/{name}"), 20)
    assert came == 20
    assert time.monotonic() - began > 0.8  # at their pace, not all at once


def test_a_list_of_segments_with_an_end_is_a_film(tmp_path: Path, server: Server) -> None:
    segments(tmp_path, server)
    with open_source(server.address("/list.m3u8")) as source:
        assert isinstance(source, Video)
        assert len(list(source)) == 30


def avi(path: Path) -> bytes:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for index in range(40):
        writer.write(np.full((48, 64, 3), 5 * index, np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.5, 1])
def test_a_download_that_is_cut_is_told(tmp_path: Path, server: Server, share: float) -> None:
    data = avi(tmp_path / "clip.avi")
    server.answers["/clip.avi"], server.length = ("video/avi", data[: int(share * len(data))]), len(data)
    messages: list[str] = []
    source = open_source(server.address("/clip.avi"), on_message=messages.append)
    assert isinstance(source, Video)
    count = len(list(source))
    assert count + source.lost == 40
    assert bool(source.lost) == (share < 1)
    assert any("broke off" in message for message in messages) == (share < 1)


def test_a_file_at_an_address_that_stalls_ends(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvmask.streams.sources.opening._FILE_TIMEOUT_S", 0.5)
    data = avi(tmp_path / "clip.avi")
    server.answers["/clip.avi"], server.length, server.stalls = ("video/avi", data[: len(data) // 2]), len(data), True
    source = open_source(server.address("/clip.avi"), timeout_s=0.5)
    assert len(list(source)) + source.lost == 40
    assert source.lost > 0
