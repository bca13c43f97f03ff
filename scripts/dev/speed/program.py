"""The process that holds one program: answers each line on stdin with the time of a run.

Lines in: a number of boxes to keep, or ``save FILE``. Lines out: ``ready``, then milliseconds.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any, Callable

import numpy as np

Run = Callable[[int], "dict[str, Any]"]


def picture(size_wh: list[int]) -> np.ndarray:
    """The pixels that everybody sees: RGB, shape (H, W, 3), uint8, of smooth noise."""
    width, height = size_wh
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3)).astype(np.float32)
    big = np.repeat(np.repeat(coarse, 16, 0), 16, 1)[:height, :width]
    return np.clip(big + rng.normal(0, 12, big.shape), 0, 255).astype(np.uint8)


def serve(make: Callable[[dict[str, Any]], Run]) -> None:
    """Make a program from the settings on the command line and run it whenever asked."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    settings = json.loads(sys.argv[1])
    clock = time.process_time if settings["clock"] == "cpu" else time.perf_counter
    run = make(settings)
    result: dict[str, Any] = {}
    answers.write("ready\n")
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        if word == "save":
            np.savez(rest, **result)
            answers.write("saved\n")
            continue
        began = clock()
        result = run(int(word))
        answers.write(f"{1000 * (clock() - began):.3f}\n")
    answers.write(f"{peak_memory_mb():.1f}\n")


def peak_memory_mb() -> float:
    """The most memory that this process has had, in 10^6 bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
