"""The window, on a display of its own: what is shown, and what keys do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
from conftest import ROOT

_PROGRAM = """
    import sys, time
    sys.path.insert(0, sys.argv[1])
    import numpy as np
    from cvmask.streams.sinks import Window
    red = np.zeros((120, 160, 3), np.uint8); red[..., 2] = 255
    window = Window()
    print("ready", flush=True)
    end = time.monotonic() + 300
    count = 0
    while not window.ended and time.monotonic() < end:
        window.write(red); count += 1
        time.sleep(0.02)
    window.close()
    print("ended" if window.ended else "late", flush=True)
"""


@pytest.fixture
def display() -> Iterator[str]:
    if not (shutil.which("Xvfb") and shutil.which("import") and shutil.which("xdotool")):
        pytest.skip("needs Xvfb, ImageMagick and xdotool")
    name = f":{90 + os.getpid() % 400}"
    server = subprocess.Popen(["Xvfb", name, "-screen", "0", "640x480x24"], stderr=subprocess.DEVNULL)
    time.sleep(2)
    yield name
    server.terminate()
    server.wait()


def test_window_shows_the_picture_and_ends_on_q(display: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DISPLAY": display}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(ROOT)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert child.stdout is not None
    if child.stdout.readline() != "ready\n":
        assert "built without windows" in child.communicate()[1]
        pytest.skip("this OpenCV is built without windows")
    shot = tmp_path / "shot.png"
    for _ in range(30):
        time.sleep(1)
        subprocess.run(["import", "-window", "root", str(shot)], env=environment, check=True)
        picture = cv2.imread(str(shot))
        red = (picture == (0, 0, 255)).all(axis=2)
        if red.sum() == 160 * 120:
            break
        # Without a window manager Qt sometimes misses that its window has come: show it once more.
        again = ["xdotool", "search", "--name", "cvmask", "windowunmap", "windowmap"]
        subprocess.run(again, env=environment, check=False)
    assert red.sum() == 160 * 120
    subprocess.run(
        ["xdotool", "search", "--name", "cvmask", "windowfocus", "key", "q"], env=environment, check=False
    )
    out, _ = child.communicate(timeout=90)
    assert out == "ended\n"
