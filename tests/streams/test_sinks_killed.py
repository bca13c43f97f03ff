"""A recording outlives the process that is killed while it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from cvmask.streams.sinks import VideoFile
from cvmask.streams.sources import Video

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

PROGRAM = """
import sys, time, numpy as np
from fractions import Fraction
from cvmask.streams.sinks import VideoFile
sink = VideoFile(sys.argv[1], frame_rate=Fraction(25), live=True)
for index in range(250):
    sink.write(np.random.default_rng(index).integers(0, 255, (48, 64, 3)).astype(np.uint8))
print("written", flush=True)
time.sleep(60)
"""


def killed(path: Path) -> None:
    """Record ten seconds, and kill the process."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(path)], stdout=subprocess.PIPE, env=environment) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"written\n"
        run.send_signal(signal.SIGKILL)


def record(path: Path) -> list[str]:
    """Record one frame; what was told."""
    messages: list[str] = []
    with VideoFile(path, frame_rate=Fraction(25), live=True, on_message=messages.append) as sink:
        sink.write(np.zeros((48, 64, 3), np.uint8))
    return messages


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_a_killed_recording_plays_and_is_found(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("av")
    path = tmp_path / f"night.{ending}"
    killed(path)
    assert not path.exists()
    rescued = tmp_path / f"night_rescued_1.{ending}"
    assert record(path) == [f"{path}: the part that a killed run left is now {rescued}"]
    assert sorted(tmp_path.iterdir()) == [path, rescued]
    frames = len(list(Video(rescued)))
    assert frames >= 250 - 4 * 25


def test_a_second_killed_recording_replaces_no_other(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "night.mp4"
    for _ in range(2):
        killed(path)
        record(path)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_read_is_removed_and_told(tmp_path: Path) -> None:
    (tmp_path / ".night.0123.part.mp4").write_bytes(b"\0" * 1000)
    messages = record(tmp_path / "night.mp4")
    assert f"{tmp_path}/night.mp4: the part that a killed run left cannot be read and is removed" in messages
    assert [path.name for path in tmp_path.iterdir()] == ["night.mp4"]


def test_a_recording_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "night.avi"
    first = VideoFile(path, live=True)
    first.write(np.zeros((48, 64, 3), np.uint8))
    assert not any("killed run" in message for message in record(path))
    first.close()
    assert [one.name for one in tmp_path.iterdir()] == ["night.avi"]


def test_a_finished_live_recording_is_as_any_other(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "night.mp4"
    with VideoFile(path, frame_rate=Fraction(25), live=True) as sink:
        for index in range(120):
            sink.write(np.full((48, 64, 3), index, np.uint8))
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 120
    capture.release()
    with av.open(str(path)) as container:
        times = sorted(float(packet.pts * packet.time_base) for packet in container.demux() if packet.pts is not None)
    assert times == pytest.approx([index / 25 for index in range(120)])


def test_without_pyav_that_it_may_be_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert "may be lost if the process is killed" in record(tmp_path / "night.mp4")[0]
