"""Two single-thread workers of a batch against one, beside two bare single-thread processes against one.

The bare ratio is the bound: two busy cores share memory, caches and power, and need not do twice what one does.
Rounds alternate, and each ratio is of its own round, so that a machine that changes its pace changes neither.
The second table says where processor time goes; it is right on a busy machine too.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
from measure_batch import archive, family_of, rate_of

import cvmask

WORKER = re.compile(r"ray::MapWorker|ray::Map|ray::Read")
WAYS = [("bare", 1), ("bare", 2), ("batch", 1), ("batch", 2)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="shapes", help="a .pb, for the full-size graph (default: shapes)")
    parser.add_argument("--frames", type=int, default=40, help="pictures of each run (default: 40)")
    parser.add_argument("--size", default="800x600", help="of the pictures, WxH (default: 800x600)")
    parser.add_argument("--rounds", type=int, default=3, help="default: 3")
    parser.add_argument("--loop", nargs=2, metavar=("FOLDER", "START"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        loop(args.model, Path(args.loop[0]), Path(args.loop[1]))
        return
    began = time.monotonic()
    rates: dict[tuple[str, int], list[float]] = {way: [] for way in WAYS}
    spent: dict[int, Counter[str]] = {}
    with tempfile.TemporaryDirectory(prefix="cvmask-measure-") as folder:
        work = archive(Path(folder), args)
        model = cvmask.load(args.model)
        for number in range(args.rounds):
            for kind, workers in WAYS:
                if kind == "bare":
                    rates[kind, workers].append(bare(args.model, work, workers))
                else:
                    meter = Meter()
                    rates[kind, workers].append(rate_of(work, model, workers, number, on_progress=meter.look))
                    spent[workers] = meter.spent()
    print_rates(rates)
    print_spent(spent, args.frames)
    print(f"\nin {time.monotonic() - began:.0f} s")


def bare(model: str, work: Path, count: int) -> float:
    """Frames a second of so many bare processes at the same time, each over all pictures."""
    start = work / "start"
    start.unlink(missing_ok=True)
    command = [sys.executable, __file__, "-m", model, "--loop", str(work / "in"), str(start)]
    loops = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    for process in loops:
        assert process.stdout is not None
        process.stdout.readline()
    start.touch()
    answers = [process.communicate()[0] for process in loops]
    return sum(float(answer) for answer in answers)


def loop(model_name: str, folder: Path, start: Path) -> None:
    """Detect in one thread from when `start` is there; print frames a second."""
    cv2.setNumThreads(1)
    model = cvmask.load(model_name)
    paths = sorted(folder.iterdir())
    model.detect(cv2.imread(str(paths[0])))
    print("ready", flush=True)
    while not start.exists():
        time.sleep(0.005)
    began = time.perf_counter()
    for path in paths:
        model.detect(cv2.imread(str(path))).rle()
    print(len(paths) / (time.perf_counter() - began))


class Meter:
    """Processor seconds of this program and all that it started, by what they are, from the first part on."""

    def __init__(self) -> None:
        self._first: dict[int, float] = {}
        self._last: dict[int, tuple[str, float]] = {}
        self._parts = 0

    def look(self, progress: Any) -> None:
        if not progress.frames:
            return
        now = {pid: used for pid in family_of(os.getpid()) if (used := cpu_of(pid)) is not None}
        if not self._first:
            self._first = {pid: seconds for pid, (_, seconds) in now.items()}
            self._frames_before = progress.frames
        self._last |= now
        self._frames = progress.frames - self._frames_before

    def spent(self) -> Counter[str]:
        total: Counter[str] = Counter()
        for pid, (name, seconds) in self._last.items():
            total[name] += seconds - self._first.get(pid, 0.0)
        total["frames"] = self._frames
        return total


def cpu_of(pid: int) -> tuple[str, float] | None:
    """Name of a process and the processor seconds that it has used; None if it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    found = re.search(r"ray::\w+|(\w+)\.py\b|/(\w+) --", title)
    name = "this program" if pid == os.getpid() else (found[1] or found[2] or found[0] if found else title[:40])
    return name, (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def print_rates(rates: dict[tuple[str, int], list[float]]) -> None:
    print("| frames a second, best | one | two | ratio, median of rounds |\n|---|---|---|---|")
    for kind, what in (("bare", "bare processes of one thread"), ("batch", "workers of one thread")):
        one, two = rates[kind, 1], rates[kind, 2]
        ratio = statistics.median(b / a for a, b in zip(one, two))
        print(f"| {what} | {max(one):.3f} | {max(two):.3f} | {ratio:.2f} |")


def print_spent(spent: dict[int, Counter[str]], frames: int) -> None:
    names = sorted(set().union(*spent.values()) - {"frames"}, key=lambda name: -spent[2][name])
    print("\n| processor ms a frame, after the first part | one worker | two |\n|---|---|---|")
    for name in names:
        cells = [f"{1000 * used[name] / used['frames']:.1f}" for _, used in sorted(spent.items())]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
