"""Runs Python code in a process that file permissions bind; root's power to pass them by is taken away."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# As in <linux/prctl.h> and <linux/capability.h>.
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2


def run_unprivileged(code: str, home: Path) -> str:
    """What the code prints; the test is skipped where nothing binds this process."""
    if os.name != "posix":
        pytest.skip("permissions: needs a POSIX system")
    is_root = os.geteuid() == 0
    if is_root and not _binds(home.parent):
        pytest.skip("permissions: they do not bind root here, and it may not give up its privileges")
    environment = {**os.environ, "CVMASK_HOME": str(home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, timeout=120,
        preexec_fn=_drop_privileges if is_root else None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _binds(folder: Path) -> bool:
    """Whether a process of root's without its privileges is kept out of a closed folder."""
    closed = folder / "closed-to-all"
    closed.mkdir(mode=0)
    done = subprocess.run(["ls", str(closed)], capture_output=True, preexec_fn=_drop_privileges)
    closed.rmdir()
    return done.returncode != 0


def _drop_privileges() -> None:
    """What a program that is started after this may not do, whoever its user is."""
    try:
        libc = ctypes.CDLL(None)
        for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    except (OSError, AttributeError):
        """Not Linux: the test is skipped."""
