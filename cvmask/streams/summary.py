"""Counts and times of a run."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Classes of durations, 2% apart, from 1 microsecond up: a run of days takes no more memory.
_RATIO = math.log(1.02)
_SHORTEST_S = 1e-6
# One for all: a stage can be copied and pickled.
_ADDING = threading.Lock()


class Stage:
    """Durations of one stage, in seconds: count, mean and percentiles (to 2%). Any thread may add one."""

    def __init__(self) -> None:
        self.count = 0
        self.total_s = 0.0
        self._classes: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """Count one duration."""
        index = int(math.log(max(seconds, _SHORTEST_S) / _SHORTEST_S) / _RATIO)
        with _ADDING:
            self.count += 1
            self.total_s += seconds
            self._classes[index] = self._classes.get(index, 0) + 1

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count how long the block takes."""
        began = time.perf_counter()
        yield
        self.add(time.perf_counter() - began)

    @property
    def mean_s(self) -> float:
        """The mean; 0 if there is none."""
        return self.total_s / self.count if self.count else 0.0

    def percentile_s(self, share: float = 0.95) -> float:
        """Return the duration that this share of all does not exceed, to 2%; 0 if there are none."""
        with _ADDING:
            left, classes = math.ceil(share * self.count), sorted(self._classes.items())
        for index, count in classes:
            left -= count
            if left <= 0:
                return _SHORTEST_S * math.exp((index + 1) * _RATIO)
        return 0.0


class Summary:
    """Counts and times of a run, updated while it runs.

    When the run has ended, `read` equals `written` plus `refused` plus `in_flight`. `dropped` and `lost` frames
    were never read.

    Attributes
    ----------
    read
        Frames that the source gave.
    written
        Frames that every output took, or would have taken if there is none.
    dropped
        Frames of a live source that were skipped for newer ones.
    failed
        Pictures that could not be read.
    lost
        Frames that could not be decoded.
    carried
        Written frames that the network did not see: objects of other frames were carried to them.
    refused
        Frames that an output could not write; other outputs have them.
    in_flight, ended_by
        Frames that were read and not finished when the run ended, and what ended it: "interrupted".
    bridged
        How often an object was filled in where it was missed between two sightings.
    stages
        Durations of "read", "detect", "draw", "write"; "age" for live sources: how old a frame was when
        its inference began. Stages overlap: their sum is not the time of the run.
    """

    def __init__(self) -> None:
        self.read = self.written = self.dropped = self.failed = self.lost = self.carried = self.bridged = 0
        self.refused = self.in_flight = 0
        self.ended_by = ""
        self.stages: dict[str, Stage] = {}
        self._began = time.perf_counter()
        self._ended: float | None = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began; its duration once it has ended."""
        return (time.perf_counter() if self._ended is None else self._ended) - self._began

    @property
    def frames_per_second(self) -> float:
        """Frames written, per second of the run."""
        return self.written / max(self.elapsed_s, 1e-9)

    def stage(self, name: str) -> Stage:
        """Give the stage of this name."""
        return self.stages.setdefault(name, Stage())

    def end(self) -> None:
        """Stop the clock."""
        self._ended = self._ended or time.perf_counter()

    def lines(self) -> list[str]:
        """Return lines to print: one for the frames and one for each stage."""
        counts = f"{self.read} read, {self.written} written, {self.dropped} dropped, {self.failed} failed"
        counts += f", {self.lost} lost" if self.lost else ""
        counts += f", {self.carried} of them carried" if self.carried else ""
        counts += f", {self.refused} refused by an output" if self.refused else ""
        counts += f", {self.in_flight} in flight when {self.ended_by}" if self.in_flight else ""
        counts += f", {self.bridged} missed objects filled in" if self.bridged else ""
        speed = f"{self.elapsed_s:.1f} s, {self.frames_per_second:.1f} frames a second"
        stages = [
            f"  {name:7} mean {1000 * stage.mean_s:8.1f} ms   95% below {1000 * stage.percentile_s():8.1f} ms"
            for name, stage in self.stages.items()
            if stage.count
        ]
        return [f"frames: {counts}; {speed}", *stages]
