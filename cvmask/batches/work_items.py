"""The work list: numbered units of work, the same at every start."""

from __future__ import annotations

import io
import os
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cvmask.batches.storage import LOCAL, StoragePath, list_files, read_bytes, write_bytes
from cvmask.batches.table import Counts, counts_of, read_note

PICTURES, TAR, PARQUET, VIDEO = "pictures", "tar", "parquet", "video"


class Item(NamedTuple):
    """A file of the archive.

    Attributes
    ----------
    place
        Its location.
    name
        The name for annotated pictures and videos: its path relative to the source that the user gave.
    kind
        Of `PICTURES`, `TAR`, `PARQUET`, `VIDEO`.
    size
        Bytes; None if it comes from a list file, or is a broken link.
    error
        Why it cannot be read, if the name alone tells; "" if it can be tried.
    """

    place: StoragePath
    name: str
    kind: str
    size: int | None
    error: str = ""


class VideoSegment(NamedTuple):
    """A part of a video that begins with a keyframe, so that it can be decoded alone.

    Attributes
    ----------
    first
        Index of its first frame in the video, from 0.
    frames
        How many there are.
    begin_ms, end_ms
        When the first one is due, and the first one of the next segment (None for the last segment).
    zero_ms
        When the first frame of the video is due.
    """

    first: int
    frames: int
    begin_ms: float
    end_ms: float | None
    zero_ms: float


class WorkItem(NamedTuple):
    """What one worker reads at once: some pictures, a tar shard, a Parquet file, or a segment of a video."""

    number: int
    kind: str
    items: tuple[Item, ...]
    segment: VideoSegment | None = None

    @property
    def frames(self) -> int | None:
        """How many frames it has; None if that is only known after reading."""
        if self.kind == PICTURES:
            return len(self.items)
        return None if self.segment is None else self.segment.frames


SCHEMA = pa.schema(
    [
        ("unit", pa.int64()),
        ("kind", pa.string()),
        ("path", pa.list_(pa.string())),
        ("name", pa.list_(pa.string())),
        ("size", pa.list_(pa.int64())),
        ("error", pa.list_(pa.string())),
        ("root", pa.string()),
        ("first", pa.int64()),
        ("frames", pa.int64()),
        ("begin_ms", pa.float64()),
        ("end_ms", pa.float64()),
        ("zero_ms", pa.float64()),
    ]
)


def write_units(place: StoragePath, units: list[WorkItem]) -> None:
    """Write the work list as Parquet, with the roots' passwords left out."""
    rows = [
        {
            "unit": unit.number,
            "kind": unit.kind,
            "path": [item.place.path for item in unit.items],
            "name": [item.name for item in unit.items],
            "size": [item.size for item in unit.items],
            "error": [item.error for item in unit.items],
            "root": _shown(unit.items[0].place.root),
            **({} if unit.segment is None else unit.segment._asdict()),
        }
        for unit in units
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), file, compression="zstd")
    write_bytes(place, file.getvalue())


def read_units(place: StoragePath, roots: Iterable[str]) -> list[WorkItem]:
    """Read a file of `write_units`; `roots` are those of the sources, with their passwords."""
    units = []
    known = {_shown(root): root for root in roots}
    for row in pq.read_table(pa.BufferReader(read_bytes(place))).to_pylist():
        root = known.get(row["root"], row["root"])
        items = tuple(
            Item(StoragePath(root, path), name, row["kind"], size, error)
            for path, name, size, error in zip(row["path"], row["name"], row["size"], row["error"])
        )
        segment = None
        if row["first"] is not None:
            segment = VideoSegment(*(row[field] for field in VideoSegment._fields))
        units.append(WorkItem(row["unit"], row["kind"], items, segment))
    return units


def _shown(root: str) -> str:
    return StoragePath(root, "").shown


FOLDER = "parts"
_NAME = re.compile(r"part-(\d{6,})-(\d{4,})(-last)?\.parquet")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.part(\.\w+)?")
_READERS = 16


def part_name(unit: int, chunk: int, last: bool) -> str:
    """Name the file of a chunk; sorted by name, the rows of a video are in the order of its frames."""
    return f"part-{unit:06d}-{chunk:04d}{'-last' if last else ''}.parquet"


class Finished:
    """The finished parts, by unit and chunk."""

    def __init__(self, output: StoragePath) -> None:
        self._ends: dict[int, int] = {}
        self._places: dict[int, dict[int, StoragePath]] = defaultdict(dict)
        folder = output / FOLDER
        for path, _ in list_files(folder):
            name = _NAME.fullmatch(path.rsplit("/", 1)[-1])
            if name is None:
                continue
            unit, chunk = int(name[1]), int(name[2])
            self._places[unit][chunk] = StoragePath(output.root, path)
            if name[3]:
                self._ends[unit] = chunk

    def chunks(self, unit: int) -> frozenset[int]:
        """Return the finished chunks of a unit."""
        return frozenset(self._places.get(unit, ()))

    def has_all(self, unit: int) -> bool:
        """Return whether a unit is finished."""
        end = self._ends.get(unit)
        return end is not None and self._places[unit].keys() == set(range(end + 1))

    def of(self, unit: int) -> list[StoragePath]:
        """Give the parts of a unit, in order of their numbers."""
        return [place for _, place in sorted(self._places.get(unit, {}).items())]

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def counts(self, without: Collection[int] = ()) -> Counts:
        """Sum the counts of the parts from their footers, except for the units in `without`."""
        total = Counts()
        for unit, _, counts in self._counted():
            if unit not in without:
                total.add(counts)
        return total

    def failed(self) -> dict[int, list[StoragePath]]:
        """Give the parts that hold failures, by unit."""
        found: dict[int, list[StoragePath]] = defaultdict(list)
        for unit, place, counts in self._counted():
            if counts.failed:
                found[unit].append(place)
        return dict(found)

    def others(self, numbers: Collection[int]) -> list[StoragePath]:
        """Give the parts of all units but these."""
        return [place for unit, parts in self._places.items() if unit not in numbers for place in parts.values()]

    def _counted(self) -> Iterator[tuple[int, StoragePath, Counts]]:
        parts = [(unit, place) for unit, chunks in self._places.items() for place in chunks.values()]
        with ThreadPoolExecutor(_READERS) as pool:
            counted = pool.map(_counts_of, [place for _, place in parts])
            yield from ((unit, place, counts) for (unit, place), counts in zip(parts, counted))


def remove_leftovers(output: StoragePath) -> None:
    """Remove unfinished files of killed workers: only those named by `system.files`."""
    if output.root != LOCAL:
        return
    for folder, _, names in os.walk(output.path):
        for name in filter(_LEFTOVER.fullmatch, names):
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))


def missing(numbers: Iterable[int], finished: Finished) -> list[int]:
    """Return the unfinished units."""
    return [number for number in numbers if not finished.has_all(number)]


def note_of(place: StoragePath) -> dict[str, Any]:
    """Read the footer of a part."""
    with place.filesystem.open_input_file(place.path) as file:
        return read_note(file)


def _counts_of(place: StoragePath) -> Counts:
    return counts_of(note_of(place))
