"""Costs beside the network: import, load, memory, and everything around one frame."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

import cvmask
from cvmask.graph.facts import Resizer
from cvmask.results.detections import Detections
from cvmask.runtime.decode import keep_rows, to_detections
from cvmask.runtime.resize import to_blob

FRAME_WH, OBJECTS = (1920, 1080), 20
ZOO = Resizer("keep_aspect_ratio", 800, 1365)

_LOAD = """
import sys, time, cv2, numpy as np, resource
{prepare}
began = time.perf_counter()
{load}
print(time.perf_counter() - began)
{run}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
"""
_BLOB = "blob = np.zeros((1, 3, 800, 1066), np.float32)"
_CACHED = {
    "prepare": "import cvmask; cv2.setNumThreads(int(sys.argv[3]))",
    "load": "model = cvmask.load(sys.argv[1], size='native')",
    "run": "model.detect(np.zeros((800, 1066, 3), np.uint8)); model._pair.warm_up((1066, 800), 10)",
}
_OWN_TEXT = {**_CACHED, "load": "model = cvmask.load(sys.argv[1], graph=sys.argv[2], size='native')"}
_WHOLE = {
    "prepare": f"cv2.setNumThreads(int(sys.argv[3])); {_BLOB}",
    # OpenCV 5's new engine gives other outputs than those asked for.
    "load": "net = cv2.dnn.readNetFromTensorflow(sys.argv[1], sys.argv[2], "
    "**({'engine': cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, 'ENGINE_CLASSIC') else {}))",
    "run": "net.setInput(blob); net.forward(['detection_out_final', 'detection_masks'])",
}


def measure(graph: Path, text: Path, rounds: int, threads: int) -> dict[str, Any]:
    """Medians, each measurement in a fresh process where it starts from nothing."""
    result: dict[str, Any] = {"import_ms_beyond_cv2_and_numpy": import_ms(rounds)}
    in_a_process(_CACHED, graph, text, threads)  # converts the graph, if nobody has done so
    runs = [[in_a_process(parts, graph, text, threads) for parts in (_CACHED, _OWN_TEXT, _WHOLE)] for _ in range(5)]
    cached, own, whole = zip(*runs)
    result["load_s"] = {
        "cvmask, text graph in the cache": middle(cached, 0),
        "cvmask, text graph of one's own": middle(own, 0),
        "readNetFromTensorflow": middle(whole, 0),
    }
    result["peak_memory_mb_1066x800_10_boxes"] = {"cvmask": middle(cached, 1), "whole": middle(whole, 1)}
    result["around_ms_20_objects_1920x1080"] = around_ms(rounds, threads)
    return result


def middle(values: Sequence[list[float]], index: int) -> float:
    return round(statistics.median(value[index] for value in values), 3)


def import_ms(rounds: int) -> float:
    """How much longer `import cvmask` takes than its two dependencies."""
    code = "import time, cv2, numpy; b = time.perf_counter(); import cvmask; print(1000 * (time.perf_counter() - b))"
    times = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds)]
    return round(statistics.median(times), 1)


def in_a_process(parts: dict[str, str], graph: Path, text: Path, threads: int) -> list[float]:
    """Seconds to load, and peak memory in MB."""
    command = [sys.executable, "-c", _LOAD.format(**parts), str(graph), str(text), str(threads)]
    return [float(line) for line in subprocess.check_output(command, text=True).split()]


def around_ms(rounds: int, threads: int) -> dict[str, float]:
    """Resize, decode, and draw (which pastes) of made-up objects."""
    cv2.setNumThreads(threads)
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (FRAME_WH[1], FRAME_WH[0], 3), np.uint8)
    rows, masks = objects(rng)
    spent: dict[str, list[float]] = {"resize": [], "decode": [], "draw": []}
    for _ in range(rounds + 1):
        times = [time.perf_counter()]
        to_blob(frame, ZOO)
        times.append(time.perf_counter())
        found: Detections = to_detections(keep_rows(rows), masks, frame.shape[:2])
        times.append(time.perf_counter())
        cvmask.draw(frame, found)
        times.append(time.perf_counter())
        for name, before, after in zip(spent, times, times[1:]):
            spent[name].append(1000 * (after - before))
    return {name: round(statistics.median(values[1:]), 2) for name, values in spent.items()}


def objects(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows and masks of objects that are a tenth to a third of the frame wide and high."""
    rows = np.zeros((1, 1, 100, 7), np.float32)
    corner = rng.uniform(0, 0.7, (OBJECTS, 2))
    rows[0, 0, :OBJECTS, 1] = rng.integers(0, 90, OBJECTS)
    rows[0, 0, :OBJECTS, 2] = 0.9
    rows[0, 0, :OBJECTS, 3:5] = corner
    rows[0, 0, :OBJECTS, 5:7] = corner + rng.uniform(0.1, 0.3, (OBJECTS, 2))
    y, x = np.mgrid[-1:1:15j, -1:1:15j]
    blob = (1 - np.hypot(x, y)).clip(0, 1).astype(np.float32)
    return rows, np.broadcast_to(blob, (OBJECTS, 90, 15, 15))
