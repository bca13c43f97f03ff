"""The virtual camera: pyvirtualcam with a device of the test's own, since no machine must have a real one."""

from __future__ import annotations

import os
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.cli.main import main
from cvmask.errors import SinkError
from cvmask.streams.sinks import VirtualCamera, open_sink
from cvmask.streams.sources import Frame, Video

BLACK = np.zeros((49, 65, 3), np.uint8)


class Device:
    """What pyvirtualcam asks of a backend; keeps what is sent to it."""

    made: ClassVar[list[Device]] = []
    broken = False

    def __init__(self, *, width: int, height: int, fps: float, fourcc: int, device: str | None) -> None:
        self.size_wh, self.rate = (width, height), fps
        self.sent: list[tuple[float, NDArray[np.uint8]]] = []
        self.closed = 0
        self.made.append(self)

    def device(self) -> str:
        return "/dev/video9"

    def native_fourcc(self) -> None:
        return None

    def send(self, frame: NDArray[np.uint8]) -> None:
        if self.broken:
            raise RuntimeError("device is gone.")
        self.sent.append((time.monotonic(), frame.copy()))

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> type[Device]:
    camera: Any = pytest.importorskip("pyvirtualcam.camera", reason="needs pyvirtualcam: pip install pyvirtualcam")
    monkeypatch.setattr(camera, "BACKENDS", {"made": Device})
    monkeypatch.setattr(Device, "made", [])
    monkeypatch.setattr(Device, "broken", False)
    return Device


def frame(index: int) -> Frame:
    return Frame(np.full((49, 65, 3), index, np.uint8), index, index / 20, "a.mp4")


def test_frames_go_to_the_camera_in_even_size_and_their_colours(device: type[Device]) -> None:
    told: list[str] = []
    with VirtualCamera(frame_rate=Fraction(20), on_message=told.append) as sink:
        colours = np.random.default_rng(0).integers(0, 256, (49, 65, 3), dtype=np.uint8)
        sink.write(colours)
        sink.write(np.zeros((98, 130, 3), np.uint8))
        sink.close()
    (camera,) = device.made
    assert (camera.size_wh, camera.rate, camera.closed) == ((66, 50), 20, 1)
    assert [image.size for _, image in camera.sent] == [66 * 50 * 3] * 2
    assert np.array_equal(camera.sent[0][1].reshape(50, 66, 3)[:49, :65], colours)
    assert told == ["virtual: 66x50 at /dev/video9"]
    with pytest.raises(SinkError, match="virtual is closed: no frame can follow"):
        sink.write(BLACK)


@pytest.mark.parametrize("paced", [True, False])
def test_a_file_is_shown_at_its_pace_and_what_is_live_at_once(device: type[Device], paced: bool) -> None:
    with VirtualCamera(paced=paced) as sink:
        began_s = time.monotonic()
        for index in range(4):
            sink.write(frame(index).image, frame(index))
        took_s = time.monotonic() - began_s
    assert took_s >= 0.149 if paced else took_s < 0.14
    assert len(device.made[0].sent) == 4


def test_a_device_that_fails_is_one_line(device: type[Device], monkeypatch: pytest.MonkeyPatch) -> None:
    with VirtualCamera() as sink:
        sink.write(BLACK)
        monkeypatch.setattr(device, "broken", True)
        with pytest.raises(SinkError, match=r"virtual: the camera refuses frames: device is gone$"):
            sink.write(BLACK)
    assert device.made[0].closed == 1


def test_without_a_device_one_line_says_where_one_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    camera: Any = pytest.importorskip("pyvirtualcam.camera", reason="needs pyvirtualcam: pip install pyvirtualcam")

    def no_device(**wanted: object) -> None:
        raise RuntimeError("No v4l2 loopback device found.\nDid you run 'modprobe v4l2loopback'?")

    monkeypatch.setattr(camera, "BACKENDS", {"none": no_device})
    with VirtualCamera() as sink, pytest.raises(SinkError) as caught:
        sink.write(BLACK)
    (line,) = str(caught.value).splitlines()
    assert line.startswith("virtual: no virtual camera can be opened ('none' backend: No v4l2 loopback device found.")
    assert line.endswith("; on Linux load v4l2loopback (sudo modprobe v4l2loopback), on macOS and Windows install OBS")


def test_without_the_package_one_line_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match="virtual: a virtual camera needs pyvirtualcam: pip install pyvirtualcam"):
        open_sink("virtual")


def test_edit_shows_a_video_in_the_camera(device: type[Device], clip_mp4: Path) -> None:
    assert main(["edit", "-m", "shapes", "clip.mp4", "--effect", "blur-background", "-o", "virtual"]) == 0
    assert (device.made[0].size_wh, device.made[0].rate, len(device.made[0].sent)) == ((160, 128), 25, 6)
    assert os.listdir() == ["clip.mp4"]
    with Video("clip.mp4") as source:
        assert open_sink("virtual", source=source)._paced


def test_pictures_go_to_no_camera(clip_mp4: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("a.png").touch()
    for sources in (["a.png"], ["clip.mp4", "a.png"]):
        assert main(["predict", "-m", "shapes", *sources, "-o", "virtual"]) == 2
        assert "-o virtual: a virtual camera shows one video" in capfd.readouterr().err
