"""cvmask.system.process: freed memory goes back or is used again, where the C library can do that."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cvmask
from cvmask.cli.main import main
from cvmask.system import process


def resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc"
)

# What OpenCV does in each frame: a large block is taken, written to and freed.
FAULTS = """
import resource
from cvmask.system import process as memory
memory.reuse_large_blocks()
for _ in range(3):  # the third time counts
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(48 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@needs_glibc
def test_freed_memory_goes_back() -> None:
    kept, freed = [], []
    for number in range(60_000):
        (kept if number % 50 == 0 else freed).append(bytes(1000))
    before = resident_bytes()
    freed.clear()
    process.give_back()
    assert resident_bytes() < before - 20_000_000
    assert kept


@needs_glibc
def test_a_large_block_is_used_again() -> None:
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name.upper()}
    environment.pop("GLIBC_TUNABLES", None)
    faults = int(subprocess.check_output([sys.executable, "-c", FAULTS], env=environment))
    assert faults < 100


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "0"),
        ("MALLOC_MMAP_THRESHOLD_", "4096"),
        ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
    ],
)
def test_limits_from_the_environment_hold(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the limits were changed"))
    process.reuse_large_blocks()


@pytest.mark.parametrize("error", [OSError, TypeError, AttributeError])
def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def refuse(name: object) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    process.give_back()
    process.reuse_large_blocks()


class Library:
    """Stands for glibc, and writes down which limits it is asked to set."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def mallopt(self, parameter: int, value: int) -> None:
        self.limits.append(parameter)

    def malloc_trim(self, padding: int) -> None:
        """Change no limit."""


def test_a_program_that_loads_a_model_keeps_its_limits_and_the_command_sets_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in list(os.environ):
        if "MALLOC" in name.upper() or name == "GLIBC_TUNABLES":
            monkeypatch.delenv(name)
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    cvmask.load("shapes").clone()
    assert library.limits == []
    with pytest.raises(SystemExit):
        main(["--version"])
    assert len(library.limits) == 2
