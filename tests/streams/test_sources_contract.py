"""What every source keeps to."""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
import pytest

from cvmask.errors import SourceError
from cvmask.streams.sources import Camera, Frame, Images, Newest, Source, Video, open_source
from cvmask.streams.sources.image_source import Still
from cvmask.streams.sources.live import Stream
from cvmask.streams.sources.mjpeg import Stdin

SIZE_WH = (32, 16)


def picture(grey: int = 0) -> np.ndarray:
    return np.full((SIZE_WH[1], SIZE_WH[0], 3), grey, np.uint8)


class Capture:
    """A camera that never ends."""

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return {cv2.CAP_PROP_FRAME_WIDTH: 32, cv2.CAP_PROP_FRAME_HEIGHT: 16}.get(what, 30)

    def read(self) -> tuple[bool, Any]:
        time.sleep(0.002)
        return True, picture(7)

    def release(self) -> None:
        pass


class Connection:
    """A stream that never ends."""

    size_wh, frame_rate = SIZE_WH, None

    def __init__(self) -> None:
        self.over = threading.Event()

    def images(self) -> Iterator[np.ndarray]:
        while not self.over.wait(0.002):
            yield picture(8)

    def close(self) -> None:
        self.over.set()


def images(folder: Path) -> Source:
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), picture(index))
    return open_source(folder)


def video(folder: Path) -> Source:
    path = str(folder / "a.avi")
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, SIZE_WH)
    for index in range(4):
        writer.write(picture(index))
    writer.release()
    return Video(path)


def stdin(folder: Path) -> Source:
    return Stdin(SIZE_WH, Fraction(25), file=io.BytesIO(picture().tobytes() * 4))


SOURCES: dict[str, Callable[[Path], Source]] = {
    "images": images,
    "still": lambda folder: Still(picture(), "a"),
    "video": video,
    "stdin": stdin,
    "camera": lambda folder: Camera(0, lambda device: Capture()),
    "stream": lambda folder: Stream("rtsp://here", Connection),
    "newest": lambda folder: Newest(Camera(0, lambda device: Capture())),
}


@pytest.fixture(params=sorted(SOURCES))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Source]:
    before = set(threading.enumerate())
    source = SOURCES[request.param](tmp_path)
    yield source
    source.close()
    assert [thread for thread in threading.enumerate() if thread not in before] == []


def first(source: Source, count: int) -> list[Frame]:
    found = []
    for frame in source:
        found.append(frame)
        if len(found) == count:
            break
    return found


def test_source_says_what_it_knows_and_none_for_the_rest(source: Source) -> None:
    assert source.name
    assert source.size_wh in (None, SIZE_WH)
    assert source.frame_rate is None or isinstance(source.frame_rate, Fraction)
    assert source.length is None or source.length > 0
    assert not source.live or source.length is None


def test_frames_are_frames_with_rising_places(source: Source) -> None:
    frames = first(source, 4)
    assert len(frames) == min(4, source.length or 4)
    for frame in frames:
        assert frame.image.dtype == np.uint8
        assert frame.image.shape == (SIZE_WH[1], SIZE_WH[0], 3)
        assert frame.name
        assert (frame.taken_at_s is not None) == source.live
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    times = [frame.time_s for frame in frames if frame.time_s is not None]
    assert times == sorted(times)
    assert len(times) in (0, len(frames))
    # Each picture is an array of its own: a reader may keep it.
    assert len({frame.image.__array_interface__["data"][0] for frame in frames}) == len(frames)


def test_source_is_its_own_context_and_closes_twice(source: Source) -> None:
    with source as same:
        assert same is source
        source.close()
    source.close()


def test_closing_from_another_thread_ends_the_loop(source: Source) -> None:
    timer = threading.Timer(0.3, source.close)
    timer.start()
    began = time.monotonic()
    for _ in source:
        time.sleep(0.01)
    timer.join()
    assert time.monotonic() - began < 3


# A server for RTSP, from Debian: gir1.2-gst-rtsp-server-1.0, python3-gi and the good and ugly plugins.

_RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(); server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch("( videotestsrc is-live=true pattern=white"
                   " ! video/x-raw,format=I420,width=160,height=120,framerate=25/1"
                   " ! jpegenc ! rtpjpegpay name=pay0 pt=26 )")
factory.set_shared(True)
server.get_mount_points().add_factory("/live", factory)
server.attach(None); print("ready", flush=True); GLib.MainLoop().run()
"""


def start_rtsp(port: int) -> subprocess.Popen[str]:
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    server = subprocess.Popen(
        [python, "-c", _RTSP_SERVER, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout is not None
    if server.stdout.readline() != "ready\n":
        stop(server)
        pytest.skip("needs GStreamer's RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi")
    return server


def stop(server: subprocess.Popen[str]) -> None:
    server.kill()
    server.wait()
    assert server.stdout is not None
    server.stdout.close()


def test_rtsp_stream_is_followed_lost_and_found_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = start_rtsp(port)
    messages: list[str] = []
    try:
        source = open_source(
            f"rtsp://127.0.0.1:{port}/live", every_frame=True, timeout_s=4, on_message=messages.append
        )
        frames = []
        for frame in source:
            frames.append(frame)
            if len(frames) == 5:
                stop(server)
                server = start_rtsp(port)
            if len(frames) > 5 and any("back after" in message for message in messages):
                break
    finally:
        stop(server)
    assert all(frame.image.shape == (120, 160, 3) for frame in frames)
    assert all(frame.image.mean() > 200 for frame in frames), "a frame that the server did not send"
    assert "attempt 1 of 10" in messages[0]


def test_images_and_unknown_paths(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="is a pipe or a device, not a video file: use -"):
        open_source(tmp_path / "pipe")
    assert isinstance(open_source(tmp_path / "gone.png"), Images)
