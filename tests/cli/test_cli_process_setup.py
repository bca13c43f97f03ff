"""The command where standard streams are closed, as under a service manager; and OpenCV's own log."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

from cvmask.system.process import opencv_silent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")


def run(line: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, **more}
    return subprocess.run(
        ["sh", "-c", f'"$PYTHON" -m cvmask {line}'], env=environment, capture_output=True, text=True
    )


@pytest.fixture
def picture(work: Path) -> str:
    cv2.imwrite("a.png", np.full((48, 64, 3), 90, np.uint8))
    return "a.png"


def test_everything_works_with_closed_streams(picture: str) -> None:
    done = run(f"predict -m shapes {picture} -o out/a.png <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert cv2.imread("out/a.png").shape == (48, 64, 3)


@pytest.mark.parametrize("streams", ["", "2>&-", ">&-"])
def test_a_name_that_is_not_utf8_is_a_name_like_any_other(work: Path, streams: str) -> None:
    names = [b"a.png", b"b\xff.png", b"c\xff.png", b"z.png"]
    try:
        for name in names:
            Path(os.fsdecode(name)).write_bytes(cv2.imencode(".png", np.zeros((48, 64, 3), np.uint8))[1].tobytes())
    except OSError:
        pytest.skip("needs a file system that takes any name")
    Path(os.fsdecode(names[2])).write_bytes(b"no picture")
    done = run(f"predict -m shapes *.png -o out {streams}", PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    written = sorted(os.fsencode(path.name)[:2] for path in Path("out").iterdir())
    assert written == [b"a.", b"b\xff", b"z."]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_one_line() -> None:
    done = run("models list > /dev/full")
    assert (done.returncode, done.stderr) == (1, "cvmask: error: No space left on device\n")


def test_frames_from_a_closed_standard_input_are_one_line(work: Path) -> None:
    done = run("predict -m shapes - -o out.mp4 <&-")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("cvmask: -: standard input holds no frame (JPEGs expected;")


def test_a_reader_that_is_gone_is_no_error_where_its_signal_has_no_name(work: Path) -> None:
    code = "import signal; del signal.SIGPIPE; from cvmask.cli.main import main; exit(main(['models', 'list']))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-u", "-c", code]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, text=True, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + 13, "")


def test_opencv_is_silent_and_then_talks_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    monkeypatch.delenv("CVMASK_DEBUG", raising=False)
    log = cv2 if hasattr(cv2, "getLogLevel") else cv2.utils.logging
    before = log.getLogLevel()
    with opencv_silent():
        assert log.getLogLevel() == 0
    assert log.getLogLevel() == before != 0
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    with opencv_silent():
        assert log.getLogLevel() == before


@pytest.mark.parametrize(("name", "code"), [("truncated_faststart.mp4", 3), ("text.mp4", 1)])
def test_ffmpeg_is_silent_about_a_damaged_video(work: Path, shared: Path, name: str, code: int) -> None:
    path = shared / "data" / "odd_video" / name
    done = run(f"predict -m shapes --size 64 {path} -o out.mp4")
    assert done.returncode == code
    assert name in done.stderr
    assert all(line.startswith("cvmask: ") for line in done.stderr.splitlines())
