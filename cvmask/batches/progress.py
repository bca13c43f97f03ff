"""How far a batch is."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cvmask.batches.parts import Finished
from cvmask.batches.work_items import Unit


@dataclass
class Progress:
    """Counts of a run; `on_progress` of `cvmask.batch` gets the same object each time.

    Attributes
    ----------
    dashboard
        Address of Ray's dashboard; "" if it has none.
    total, done
        Units of work, and how many of them are finished, in this run or an earlier one.
    frames, objects
        Of this run.
    failed, reasons
        Inputs that failed in this run and earlier ones, and how many for which reason.
    elapsed_s
        Seconds from when the workers were asked for to the last part.
    """

    dashboard: str = ""
    total: int = 0
    done: int = 0
    frames: int = 0
    objects: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    _before: int = 0
    _began: float = field(default_factory=time.monotonic)

    def begin(self, units: Sequence[Unit], finished: Finished, todo: Sequence[Unit]) -> None:
        """Set out from what an earlier run has left."""
        self.total, self._before = len(units), len(units) - len(todo)
        self.done = self._before
        counts = finished.counts()
        self.failed, self.reasons = counts.failed, Counter(counts.reasons)
        self._began = time.monotonic()

    def add(self, part: dict[str, Any]) -> None:
        """Count a part."""
        self.frames += part["frames"]
        self.objects += part["objects"]
        self.failed += part["failed"]
        self.reasons.update(json.loads(part["reasons"]))
        self.done += part["last"]
        self.elapsed_s = time.monotonic() - self._began

    @property
    def frames_per_second(self) -> float:
        """Frames of this run a second."""
        return self.frames / max(self.elapsed_s, 1e-9)

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at this rate, counted in units; None before the first is finished."""
        new = self.done - self._before
        return None if not new else (self.total - self.done) * self.elapsed_s / new
