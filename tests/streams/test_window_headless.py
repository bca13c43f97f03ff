"""What --show does where OpenCV has no windows: opencv-python-headless."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.cli.main import main

pytestmark = pytest.mark.skipif(
    re.search(r"GUI:\s+NONE", cv2.getBuildInformation()) is None, reason="needs opencv-python-headless"
)


def test_show_is_one_line_with_the_cure_and_the_run_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Headless OpenCV never looks at the display, so any name will do.
    monkeypatch.setenv("DISPLAY", ":0")
    cv2.imwrite("a.png", np.zeros((64, 64, 3), np.uint8))
    assert main(["predict", "-m", "shapes", "a.png", "--show"]) == 0
    assert capsys.readouterr().err == (
        "cvmask: no window can be shown: this OpenCV is built without windows: "
        "install opencv-python in place of opencv-python-headless\n"
    )
    assert os.listdir("cvmask_out") == ["a.png"]
