"""A guard, not a benchmark: the split must save what it is there to save. Ratios only, and wide ones."""

from __future__ import annotations

import time
from typing import Callable

import numpy as np

from cvmask.graph.text import print_text, read_text
from cvmask.runtime.net import Net
from cvmask.runtime.pair import Pair
from cvmask.system import folders

SIZE_WH = (64, 64)
# Measured on a busy machine: 6 times faster with one object, 1.1 to 1.3 times slower with 100.
FASTER, SLOWER = 2.5, 2.0
FOLDER = folders.path("models/shapes")


def least_seconds(works: list[Callable[[], object]], rounds: int = 5) -> list[float]:
    """The least time of each, taken in turns: a busy machine slows all of them down."""
    spent: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, times in zip(works, spent):
            began = time.perf_counter()
            work()
            if number:
                times.append(time.perf_counter() - began)
    return [min(times) for times in spent]


def test_one_object_costs_much_less_than_the_whole_graph() -> None:
    graph = np.fromfile(FOLDER / "frozen_inference_graph.pb", np.uint8)
    text = read_text(FOLDER / "graph.pbtxt")
    pair = Pair(graph, text, "cpu", "shapes")
    # Nets of their own for 1 and 100 rows: a change of the count lays memory out anew.
    many = Pair(graph, text, "cpu", "shapes")
    parts = pair.parts
    whole = Net(graph, print_text(text), [parts.detections, parts.masks], "shapes")
    blob = np.zeros((1, 3, SIZE_WH[1], SIZE_WH[0]), np.float32)
    one_s, many_s, whole_s = least_seconds(
        [
            lambda: pair.warm_up(SIZE_WH, boxes=1),
            lambda: many.warm_up(SIZE_WH, boxes=100),
            lambda: whole.forward({parts.image: blob}),
        ]
    )
    assert whole_s > FASTER * one_s, f"one object {one_s:.4f} s, the whole graph {whole_s:.4f} s"
    assert many_s < SLOWER * whole_s, f"100 objects {many_s:.4f} s, the whole graph {whole_s:.4f} s"
