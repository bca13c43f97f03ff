"""Small videos that only the ffmpeg command makes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def ffmpeg(path: Path, *arguments: str) -> Path:
    """Run ffmpeg, the output last; skip where there is none."""
    command = shutil.which("ffmpeg")
    if command is None:
        pytest.skip("needs the ffmpeg command")
    subprocess.run([command, "-v", "error", "-y", *arguments, str(path)], check=True, timeout=60)
    return path
