"""How long does a large .pb take to read, in how much memory? How long does a model take to load?

Every figure is the median of fresh processes. Memory is the most that was resident, less what Python, NumPy
and OpenCV hold before, as a share of the file. The graphs that are given have to be Mask R-CNNs with
weights; one more of --synthetic MB is made of the bundled one by adding weights to it, and read only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BUNDLED = ROOT / "models" / "shapes" / "frozen_inference_graph.pb"
_PIECE = 8 << 20  # bytes of weights in one added constant

_MEASURE = """
import json, resource, sys, time
import cvmask, cvmask.models.load
from cvmask.graph.check import prepare
from cvmask.graph.model_files import model_files
from cvmask.graph.graph_def import read_graph
from pathlib import Path
def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before, began = resident(), time.perf_counter()
what, path = sys.argv[1], Path(sys.argv[2])
{"read": lambda: [node.op for node in read_graph(path)],
 "text": lambda: prepare(model_files(path)),
 "load": lambda: cvmask.load(path)}[what]()
print(json.dumps([time.perf_counter() - began, resident() - before]))
"""


def measure(what: str, path: Path, home: Path, runs: int, fresh: bool = False) -> tuple[float, float]:
    """Seconds and bytes, medians; with `fresh`, without the text that an earlier run has cached."""
    found = []
    for _ in range(runs):
        if fresh:
            forget(path, home)
        command = [sys.executable, "-c", _MEASURE, what, str(path)]
        environment = {**os.environ, "CVMASK_HOME": str(home), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        found.append(json.loads(done.stdout))
    seconds, n_bytes = zip(*found)
    return statistics.median(seconds), statistics.median(n_bytes)


def forget(path: Path, home: Path) -> None:
    path.with_suffix(".cvmask.pbtxt").unlink(missing_ok=True)
    shutil.rmtree(home / "graphs", ignore_errors=True)


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def weights(index: int) -> bytes:
    """A node of 8 MB of weights, as graph.proto and tensor.proto spell it."""
    shape = message(2, b"\x08" + varint(_PIECE // 4))
    tensor = b"\x08\x01" + message(2, shape) + message(4, os.urandom(_PIECE))
    attr = message(5, message(1, b"value") + message(2, message(8, tensor)))
    return message(1, message(1, b"added_%d" % index) + message(2, b"Const") + attr)


@contextmanager
def grown(megabytes: int) -> Iterator[Path]:
    """The bundled graph with so many megabytes of weights more."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"synthetic-{megabytes}.pb"
        with path.open("wb") as file:
            file.write(BUNDLED.read_bytes())
            for index in range((megabytes << 20) // _PIECE):
                file.write(weights(index))
        yield path


def row(name: str, size: int, *cells: Any) -> None:
    print(f"| {name} | {size / 1e6:.0f} MB | " + " | ".join(cells) + " |", flush=True)


def measured_row(path: Path, home: Path, runs: int, whole: bool) -> None:
    size = path.stat().st_size
    seconds, n_bytes = measure("read", path, home, runs)
    cells = [f"{seconds:.2f} s", f"{n_bytes / size:.2f}"]
    if whole:
        for what in ("text", "load"):
            first, _ = measure(what, path, home, runs, fresh=True)
            again, _ = measure(what, path, home, runs)
            cells += [f"{first:.2f} s", f"{again:.2f} s"]
    row(path.name, size, *cells, *["-"] * (6 - len(cells)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="*", type=Path, metavar="PB")
    parser.add_argument("--synthetic", type=int, default=265, metavar="MB", help="0 for none (default: 265)")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    print("| graph | size | read | memory, times the file | text, first | cached | load, first | cached |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        for path in [BUNDLED, *args.graphs]:
            # A copy, so that the text is cached beside it and no text graph beside the original is taken.
            copy = Path(folder) / path.name
            shutil.copy(path, copy)
            measured_row(copy, home, args.runs, whole=True)
            copy.unlink()
            forget(copy, home)
        if args.synthetic:
            with grown(args.synthetic) as path:
                measured_row(path, home, args.runs, whole=False)


if __name__ == "__main__":
    main()
