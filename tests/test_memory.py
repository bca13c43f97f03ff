"""cvmask.runtime.memory: freed memory goes back to the system, where the C library can do that."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from cvmask.runtime import memory


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


@pytest.mark.skipif(sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_freed_memory_goes_back() -> None:
    kept, freed = [], []
    for number in range(60_000):
        (kept if number % 50 == 0 else freed).append(bytes(1000))
    before = resident_bytes()
    freed.clear()
    memory.give_back()
    assert resident_bytes() < before - 20_000_000
    assert kept


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refuse(name: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    memory.give_back()
