"""The recipes of packaging/ for a container and a service."""

from __future__ import annotations

import configparser
import re
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


def test_the_container_installs_what_the_extra_names() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    extras = config["options.extras_require"]["serve"].split()
    core = config["options"]["install_requires"].replace("opencv-python", "opencv-python-headless").split()
    named = re.findall(r'"([\w-]+[<>=][^"]*)"', (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    assert sorted(named) == sorted([*extras, *core])
