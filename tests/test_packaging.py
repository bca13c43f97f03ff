"""The recipes of packaging/ for a container and a service."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "packaging"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = (FOLDER / "cvmask-serve.service").read_text(encoding="utf-8")
    unit = tmp_path / "cvmask-serve.service"
    # The program is not installed where the unit expects it.
    unit.write_text(text.replace("/opt/cvmask/bin/cvmask", sys.executable), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, complaints) == (0, []), done.stderr


@pytest.mark.parametrize("wheel", [None, "opencv-python-headless", "opencv-contrib-python", "opencv", ""])
def test_the_metadata_needs_numpy_and_the_opencv_that_is_named(wheel: str | None, tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    shutil.copy(ROOT / "setup.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "CVMASK_OPENCV"}
    environment.update({} if wheel is None else {"CVMASK_OPENCV": wheel})
    command = [sys.executable, "-W", "ignore", "setup.py", "-q", "egg_info"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    if wheel in ("opencv", ""):
        assert done.returncode == 1
        assert done.stderr.startswith("CVMASK_OPENCV needs one of opencv-python, opencv-python-headless")
        return
    (requirements,) = tmp_path.glob("*.egg-info/requires.txt")
    lines = [line.replace("<5.1,>=4.8", ">=4.8,<5.1") for line in requirements.read_text(encoding="utf-8").split()]
    assert lines == ["numpy>=1.21", f"{wheel or 'opencv-python'}>=4.8,<5.1"]
