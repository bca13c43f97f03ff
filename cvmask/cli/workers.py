"""How many models work on a video at the same time, where nobody said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2

from cvmask.graph.check import available_memory
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sources import Source

MOST = 4
WORTH_FRAMES = 50  # what a second model gains on fewer is spent on loading it
MEMORY_TIMES = 12  # what a loaded model and its layers take, in sizes of its graph


def usual_workers(source: Source, model: MaskRCNN) -> int:
    """One for each thread of OpenCV, up to `MOST`, where a video is long enough and memory lasts.

    Two models of one thread are faster than one of two, by a tenth to a fifth: what a network does in one
    thread only, it does for two frames at once. A camera or stream has one: its newest frame comes first.
    """
    if source.live or (source.length or 0) < WORTH_FRAMES or model.target.effective != "cpu":
        return 1
    free = available_memory()
    fitting = MOST if free is None else 1 + free // 2 // (MEMORY_TIMES * model.graph_bytes)
    return max(1, min(cv2.getNumThreads(), MOST, fitting))


@contextmanager
def threads_shared_by(workers: int) -> Iterator[None]:
    """OpenCV's threads, shared out for a while: all that there are for one worker."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(max(1, threads // workers))
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
