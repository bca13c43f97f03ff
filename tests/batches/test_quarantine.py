"""Who killed the process: a picture is to blame only if it crashes alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cvmask.errors import SourceError

quarantine = pytest.importorskip("cvmask.batches.quarantine", reason="needs PyArrow: pip install pyarrow")
from cvmask.batches.storage import storage_path  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends processes by signals")




def suspect(name: str) -> quarantine.Quarantine:
    """Take over from a watched worker that died at picture 2 of a chunk."""
    for _ in range(2):
        deaths = quarantine.Quarantine(storage_path(name), watching=True)
        deaths.begin(3, 0)
        assert [deaths.is_suspect(number) for number in range(2)] == [False, False]
        told = deaths.is_suspect(2)
    assert told
    return deaths


def test_a_picture_that_crashes_alone_fails_and_is_not_tried_again(work: Path) -> None:
    deaths = suspect("out")
    with pytest.raises(SourceError, match="kills the process that reads it"):
        deaths.alone(2, signal.raise_signal, signal.SIGABRT)
    assert not deaths.is_suspect(3)  # the next one is tried, and has killed once the chunk is begun again
    after = quarantine.Quarantine(storage_path("out"), watching=True)
    after.begin(3, 0)
    assert [after.is_suspect(number) for number in (0, 1, 2)] == [False, False, True]
    began = time.monotonic()
    with pytest.raises(SourceError, match="kills the process that reads it"):
        after.alone(2, time.sleep, 60)
    assert time.monotonic() - began < 10
    after.end()
    assert not list(Path("out").rglob("*.json"))


def test_a_suspect_that_survives_alone_gives_its_result(work: Path) -> None:
    assert suspect("out").alone(2, divmod, 17, 5) == (3, 2)
    with pytest.raises(ZeroDivisionError):
        suspect("other").alone(2, divmod, 17, 0)


class Holding(Exception):
    """An error that no other process can read."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)
        self.lock = threading.Lock() if number else None


def fail(number: int) -> None:
    raise Holding(number, "the lens is dirty")


@pytest.mark.parametrize("number", [0, 1])
def test_an_error_that_cannot_be_sent_keeps_its_words(work: Path, number: int) -> None:
    with pytest.raises(RuntimeError, match="Holding: the lens is dirty"):
        suspect("out").alone(2, fail, number)


def children_of(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes through /proc")
def test_kills_from_outside_are_no_evidence(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "_LONGEST_WAIT_S", 0.01)
    deaths, killed, over = suspect("out"), set[int](), threading.Event()
    before = set(children_of(os.getpid()))

    def kill_nine() -> None:
        while len(killed) < 9 and not over.wait(0.02):
            for child in set(children_of(os.getpid())) - before - killed:
                os.kill(child, signal.SIGKILL)
                killed.add(child)

    killer = threading.Thread(target=kill_nine)
    killer.start()
    try:
        assert deaths.alone(2, divmod, 17, 5) == (3, 2)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 9


def test_what_is_killed_without_end_fails_in_the_end(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "_LONGEST_WAIT_S", 0.01)
    monkeypatch.setattr(quarantine, "_MOST_TRIES", 3)
    with pytest.raises(SourceError, match="was killed each time: out of memory"):
        suspect("out").alone(2, signal.raise_signal, signal.SIGKILL)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes through /proc")
def test_a_process_of_a_suspect_ends_with_its_worker(work: Path) -> None:
    code = "import time; from cvmask.batches.quarantine import alone; alone(time.sleep, 60)"
    worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)})
    end = time.monotonic() + 30
    while not (children := children_of(worker.pid)):
        assert time.monotonic() < end
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    while Path(f"/proc/{children[0]}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
