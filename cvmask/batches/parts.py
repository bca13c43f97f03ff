"""The files of a batch: ``parts/part-000012-0000-last.parquet`` is the first and last chunk of unit 12."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from cvmask.batches.storage import LOCAL, Place, list_files
from cvmask.batches.table import Counts, counts_of, read_note

FOLDER = "parts"
_NAME = re.compile(r"part-(\d{6,})-(\d{4,})(-last)?\.parquet")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.part(\.\w+)?")
_READERS = 16


def part_name(unit: int, chunk: int, last: bool) -> str:
    """Name the file of a chunk; sorted by name, the rows of a video are in the order of its frames."""
    return f"part-{unit:06d}-{chunk:04d}{'-last' if last else ''}.parquet"


class Finished:
    """Which parts are there, by unit and chunk."""

    def __init__(self, output: Place) -> None:
        self._ends: dict[int, int] = {}
        self._places: dict[int, dict[int, Place]] = defaultdict(dict)
        folder = output / FOLDER
        for path, _ in list_files(folder):
            name = _NAME.fullmatch(path.rsplit("/", 1)[-1])
            if name is None:
                continue
            unit, chunk = int(name[1]), int(name[2])
            self._places[unit][chunk] = Place(output.root, path)
            if name[3]:
                self._ends[unit] = chunk

    def chunks(self, unit: int) -> frozenset[int]:
        """Which chunks of a unit are there."""
        return frozenset(self._places.get(unit, ()))

    def has_all(self, unit: int) -> bool:
        """Whether nothing is left to do of a unit."""
        end = self._ends.get(unit)
        return end is not None and self._places[unit].keys() == set(range(end + 1))

    def of(self, unit: int) -> list[Place]:
        """Give the parts of a unit, in order of their numbers."""
        return [place for _, place in sorted(self._places.get(unit, {}).items())]

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def counts(self) -> Counts:
        """Sum up what the parts hold, from their footers."""
        total = Counts()
        places = [place for unit in self._places.values() for place in unit.values()]
        with ThreadPoolExecutor(_READERS) as pool:
            for counts in pool.map(_counts_of, places):
                total.add(counts)
        return total


def remove_leftovers(output: Place) -> None:
    """Remove what workers that were killed had begun to write: files that `system.files` names, no others."""
    if output.root != LOCAL:
        return
    for folder, _, names in os.walk(output.path):
        for name in filter(_LEFTOVER.fullmatch, names):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def missing(numbers: Iterable[int], finished: Finished) -> list[int]:
    """Give the units of which something is not there."""
    return [number for number in numbers if not finished.has_all(number)]


def note_of(place: Place) -> dict[str, Any]:
    """Read the footer of a part."""
    with place.filesystem.open_input_file(place.path) as file:
        return read_note(file)


def _counts_of(place: Place) -> Counts:
    return counts_of(note_of(place))
