"""What a run shows while it goes on: a bar on a real terminal with tqdm, plain lines everywhere else."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")

_PROGRAM = """
    import sys
    sys.path[:0] = [{root!r}, {tests!r}, {root!r} + "/tests"]
    if {without_tqdm}:
        sys.modules["tqdm"] = None
    import test_cli_streams
    from cvmask.cli import loading, progress
    from cvmask.cli.main import main
    loading.load_model = lambda *args: test_cli_streams.Model()
    progress._EVERY_S = {every_s}
    sys.exit(main({argv!r}))
"""


@pytest.fixture(autouse=True)
def _sources(work: Path) -> None:
    (work / "in").mkdir()
    for number in range(3):
        cv2.imwrite(f"in/{number}.png", np.zeros((30, 40, 3), np.uint8))
    writer = cv2.VideoWriter("in.avi", cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(6):
        writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()


def program(argv: list[str], with_tqdm: bool, every_s: float) -> list[str]:
    names = {"root": str(ROOT), "tests": str(ROOT / "tests" / "cli"), "argv": argv}
    code = textwrap.dedent(_PROGRAM).format(without_tqdm=not with_tqdm, every_s=every_s, **names)
    return [sys.executable, "-c", code]


def on_terminal(*argv: str, with_tqdm: bool = True, every_s: float = 0) -> tuple[str, str]:
    """Run the command with stderr on a terminal of 100 columns; stdout, and what came to the terminal."""
    import fcntl
    import termios

    if with_tqdm:
        pytest.importorskip("tqdm", reason="needs tqdm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    with open("stdout.txt", "wb") as out:
        child = subprocess.Popen(program(list(argv), with_tqdm, every_s), stdout=out, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while some := os.read(ours, 4096):
            shown += some
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait(timeout=60) == 0, shown
    return Path("stdout.txt").read_text(), shown.decode().replace("\r\n", "\n")


def in_file(*argv: str, every_s: float = 0) -> tuple[str, str]:
    """Run the command with both outputs to pipes."""
    done = subprocess.run(program(list(argv), True, every_s), capture_output=True, text=True, check=True, timeout=60)
    return done.stdout, done.stderr


FOLDER = ("predict", "in", "-o", "out/")
VIDEO = ("predict", "in.avi", "-o", "out.avi")


def test_folder_has_a_bar_with_rate_and_time_left_on_a_terminal() -> None:
    out, screen = on_terminal(*FOLDER)
    assert [line.split(":")[0] for line in out.splitlines()] == [str(Path("in") / f"{n}.png") for n in range(3)]
    assert re.search(r"100%\|.*\| 3/3 \[\d\d:\d\d<\d\d:\d\d, .*picture", screen)


@pytest.mark.parametrize("terminal", [True, False])
def test_folder_has_plain_lines_without_tqdm_and_without_a_terminal(terminal: bool) -> None:
    out, err = on_terminal(*FOLDER, with_tqdm=False) if terminal else in_file(*FOLDER)
    places = [f"[{n + 1}/3] {Path('in') / f'{n}.png'}" for n in range(3)]
    assert [line.split(":")[0] for line in out.splitlines()] == places
    assert err == ""


def test_video_has_a_bar_with_what_was_found_lately_on_a_terminal() -> None:
    out, screen = on_terminal(*VIDEO)
    assert re.search(r"in\.avi: 100%\|.*\| 6/6 \[\d\d:\d\d<\d\d:\d\d, .*frame.*, 1 thing\d+, 1 thing\d+\]", screen)
    # A message stands on a line of its own, above the bar.
    assert re.search(r"(^|\r *\r|\n)cvmask: out\.avi: sound, if there is any, is not kept: [^\r\n]*\n", screen)
    assert out.startswith("in.avi: frames: 6 read, 6 written")


@pytest.mark.parametrize("terminal", [True, False])
def test_video_has_plain_lines_without_tqdm_and_without_a_terminal(terminal: bool) -> None:
    out, err = on_terminal(*VIDEO, with_tqdm=False) if terminal else in_file(*VIDEO)
    lines = [line for line in err.splitlines() if " frames, " in line]
    assert len(lines) == 6
    assert re.fullmatch(
        r"cvmask: in\.avi: 3 of 6 frames, \d+\.\d a second, \d+ s left, 1 thing\d+, 1 thing\d+", lines[2]
    )
    assert "\r" not in err
    assert out.startswith("in.avi: frames: 6 read, 6 written")


def test_plain_lines_of_a_video_come_now_and_then() -> None:
    _, err = in_file(*VIDEO, every_s=3600)
    assert " a second" not in err


def test_render_counts_its_frames() -> None:
    in_file(*VIDEO, "--save-json")
    _, screen = on_terminal("render", "in.avi", "out.jsonl", "-o", "again.mp4")
    assert re.search(r"in\.avi: 100%\|.*\| 6/6 .*, 2 objects\]", screen)
