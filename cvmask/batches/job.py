"""One output folder belongs to one command: the settings that affect the results are stored and compared."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cvmask.batches.storage import StoragePath, file_size, list_files, read_bytes, write_bytes
from cvmask.batches.work_items import Finished, WorkItem
from cvmask.errors import SinkError

RUN, UNITS, SUMMARY, SUCCESS = "_run.json", "_units.parquet", "_summary.json", "_SUCCESS"


def is_begun(output: StoragePath, command: dict[str, Any]) -> bool:
    """Return whether this command has written into a folder before.

    Raises
    ------
    SinkError
        If another command has, or the folder holds something else.
    """
    if file_size(output / RUN) is None:
        strange = [path for path, _ in list_files(output) if path.rsplit("/", 1)[-1] != UNITS]
        if strange:
            raise SinkError(f"{output.shown} is not empty and holds no batch: give a new folder with -o")
        return False
    before = json.loads(read_bytes(output / RUN))
    different = [name for name in {**before, **command} if before.get(name) != command.get(name)]
    if different:
        name = different[0]
        was, now = (_short(values.get(name)) for values in (before, command))
        raise SinkError(
            f"{output.shown} holds a batch of another command ({name} was {was}, is {now}): "
            "give a new folder with -o, or the same command to go on"
        )
    return True


def begin(output: StoragePath, command: dict[str, Any]) -> None:
    """Store which command a folder belongs to: from now on its work list is fixed."""
    write_bytes(output / RUN, (json.dumps(command, indent=1) + "\n").encode())


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


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
        Seconds from the request for workers to the last part.
    waiting
        Why there is no progress, in a call made only to say so; "" otherwise.
    """

    dashboard: str = ""
    total: int = 0
    done: int = 0
    frames: int = 0
    objects: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    elapsed_s: float = 0.0
    waiting: str = ""
    _before: int = 0
    _began: float = field(default_factory=time.monotonic)

    def begin(self, units: Sequence[WorkItem], finished: Finished, todo: Sequence[WorkItem], again: set[int]) -> None:
        """Start from the results of an earlier run; `again` are units to repeat."""
        self.total, self._before = len(units), len(units) - len(todo)
        self.done = self._before
        counts = finished.counts(without=again)
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
