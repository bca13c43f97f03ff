"""What PyInstaller needs to know of this package; it finds it by the entry point ``pyinstaller40``."""

from __future__ import annotations

import os


def hook_dirs() -> list[str]:
    """Give the folder of ``hook-cvmask.py``."""
    return [os.path.dirname(__file__)]
