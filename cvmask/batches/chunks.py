"""Chunks: the bytes of some pictures of a unit, read at once and sent to a worker."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from cvmask.batches.storage import LOCAL, StoragePath, one_line, read_bytes, spelled
from cvmask.batches.work_items import PARQUET, PICTURES, TAR, VIDEO, WorkItem
from cvmask.errors import SourceError
from cvmask.streams.sources.image_source import SUFFIXES

# The most bytes to send: beyond it the worker reads pictures of folders itself, and chunks of shards are shorter.
MOST_BYTES = 64 << 20
_LARGEST_PICTURE_BYTES = 256 << 20
_PICTURE_COLUMNS = ("image", "bytes", "image_bytes", "content", "data", "jpg", "jpeg", "png", "picture")


@dataclass
class Chunk:
    """Some pictures of a unit.

    Attributes
    ----------
    unit, number, last
        The unit, the number of this chunk in it, from 0, and whether it is the last.
    first
        Index of its first picture in the unit's file; 0 for files of one picture each.
    members
        The name of each picture in the file; None if it has no names.
    pictures
        The bytes of each picture; None if they were too large to send or could not be read.
    errors
        Why they could not be read; otherwise "".
    failure
        Why the unit ends here before its end; "" if it does not.
    done
        The finished parts of the unit, for a video or for pictures that are retried.
    """

    unit: WorkItem
    number: int = 0
    last: bool = True
    first: int = 0
    members: list[str | None] = field(default_factory=list)
    pictures: list[bytes | None] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    failure: str = ""
    done: list[int] = field(default_factory=list)

    def add(self, member: str | None, picture: bytes | None, error: str = "") -> None:
        """Add one picture, or why there is none."""
        self.members.append(member)
        self.pictures.append(picture)
        self.errors.append(error)

    @property
    def size(self) -> int:
        """Bytes of all pictures."""
        return sum(len(picture) for picture in self.pictures if picture is not None)

    def to_table(self) -> pa.Table:
        """Convert it to a table of one row."""
        head = {name: value for name, value in vars(self).items() if name not in ("unit", "pictures")}
        pictures = pa.array([self.pictures], pa.list_(pa.large_binary()))
        # With its unit: no worker has to hold the whole work list, which may name millions of files.
        return pa.table({"unit": [pickle.dumps(self.unit)], "head": [json.dumps(head)], "pictures": pictures})

    @classmethod
    def from_table(cls, table: Any) -> Chunk:
        """Read what `to_table` wrote."""
        unit, head, pictures = (table[name][0].as_py() for name in ("unit", "head", "pictures"))
        return cls(pickle.loads(unit), **json.loads(head), pictures=pictures)


def read_chunks(unit: WorkItem, frames: int, column: str | None, done: frozenset[int]) -> Iterator[Chunk]:
    """Read a unit in chunks of at most this many frames, without the finished ones.

    Errors are reported in the chunks. Workers read videos themselves: decoded frames are too large to send.
    """
    if unit.kind == PICTURES:
        yield _read_pictures(unit, done)
    elif unit.kind == VIDEO:
        yield Chunk(unit, done=sorted(done))
    else:
        yield from (chunk for chunk in _grouped(unit, frames, column) if chunk.number not in done)


def _read_pictures(unit: WorkItem, done: frozenset[int]) -> Chunk:
    chunk, room = Chunk(unit, done=sorted(done)), MOST_BYTES
    for item in unit.items:
        if item.error or room < (item.size or 0):
            chunk.add(None, None, item.error)
            continue
        try:
            chunk.add(None, picture := read_picture(item.place))
            room -= len(picture)
        except SourceError as error:
            chunk.add(None, None, str(error))
    return chunk


def read_picture(place: StoragePath) -> bytes:
    """Read the bytes of a picture file; SourceError in one line without its name."""
    try:
        data = read_bytes(place)
    except (OSError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        raise SourceError(f"cannot be read: {_no_such_file(place) if missing else one_line(error)}") from None
    if not data:
        raise SourceError("is empty (0 bytes)")
    return data


def _no_such_file(place: StoragePath) -> str:
    is_link = place.root == LOCAL and os.path.islink(place.path)
    return f"it is a link to {os.readlink(place.path)}, which is not there" if is_link else "no such file"


def _grouped(unit: WorkItem, frames: int, column: str | None) -> Iterator[Chunk]:
    """Gather the pictures of a shard; yield a chunk only once it is known whether another follows."""
    chunk = Chunk(unit)
    size = 0
    failure = ""
    try:
        for member, picture in _shard(unit, frames, column):
            if len(chunk.members) == frames or (size and size + len(picture or b"") > MOST_BYTES):
                chunk.last = False
                yield chunk
                chunk = Chunk(unit, chunk.number + 1, True, chunk.first + len(chunk.members))
                size = 0
            chunk.add(member, picture, "" if picture else "holds no picture bytes")
            size += len(picture or b"")
    except SourceError as error:
        failure = str(error)
    except (OSError, EOFError, ValueError, tarfile.TarError, pa.ArrowException) as error:
        failure = f"cannot be read to its end: {one_line(error)}"
    if not failure and not chunk.first and not chunk.members:
        failure = "holds no picture"
    chunk.failure = failure
    yield chunk


def _shard(unit: WorkItem, frames: int, column: str | None) -> Iterator[tuple[str | None, bytes | None]]:
    item = unit.items[0]
    read = {TAR: _tar, PARQUET: _parquet}[unit.kind]
    with item.place.filesystem.open_input_file(item.place.path) as file:
        if item.size is not None and file.size() != item.size:
            raise SourceError(f"has changed: {item.size} bytes when the run began, {file.size()} now")
        yield from read(file, frames, column)


def _tar(file: Any, frames: int, column: str | None) -> Iterator[tuple[str | None, bytes | None]]:
    """Yield the pictures of a WebDataset shard, in its order; other members are skipped."""
    with tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if not member.isfile() or not member.name.lower().endswith(SUFFIXES):
                continue
            content = tar.extractfile(member) if member.size <= _LARGEST_PICTURE_BYTES else None
            yield spelled(member.name), None if content is None else content.read()


def _parquet(file: Any, frames: int, column: str | None) -> Iterator[tuple[str | None, bytes | None]]:
    table = pq.ParquetFile(file)
    name = picture_column(table.schema_arrow, column)
    for batch in table.iter_batches(batch_size=frames, columns=[name]):
        for value in batch.column(0).to_pylist():
            if isinstance(value, dict):
                yield value.get("path"), value.get("bytes")
            else:
                yield None, value


def picture_column(schema: Any, wanted: str | None) -> str:
    """Choose the column of picture bytes: binary, or a struct with ``bytes`` in it as Hugging Face writes.

    Raises
    ------
    SourceError
        If there is none, or several and none of a usual name.
    """
    able = [one.name for one in schema if _holds_bytes(one.type)]
    if wanted is not None:
        if wanted in able:
            return wanted
        raise SourceError(f"has no column {wanted!r} of bytes: {', '.join(able) or 'none'}")
    usual = [name for name in _PICTURE_COLUMNS if name in able]
    if not able or (len(able) > 1 and not usual):
        raise SourceError(f"which column holds pictures? Of bytes: {', '.join(able) or 'none'}")
    return able[0] if len(able) == 1 else usual[0]


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        with suppress(KeyError):
            return _holds_bytes(kind.field("bytes").type)
        return False
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


class Archive(Datasource):  # type: ignore[misc]
    """Chunks of units as tables of one row, one read task a unit.

    Parameters
    ----------
    units
        The unfinished units, each with its finished chunks.
    part_frames, column
        See `chunks.read_chunks`.
    """

    def __init__(
        self, units: Sequence[tuple[WorkItem, frozenset[int]]], part_frames: int, column: str | None
    ) -> None:
        super().__init__()
        self._units, self._part_frames, self._column = units, part_frames, column

    def get_name(self) -> str:
        """Name it for Ray's own messages."""
        return "Archive"

    def estimate_inmemory_data_size(self) -> int | None:
        """Return None: the size is not known before reading."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        """Make a task for each unit, whatever parallelism is proposed."""
        metadata = BlockMetadata(num_rows=None, size_bytes=MOST_BYTES, exec_stats=None, input_files=None)
        return [
            ReadTask(_Read(unit, done, self._part_frames, self._column), metadata) for unit, done in self._units
        ]


class _Read:
    """Reads one unit; holds nothing but what that takes, since it travels to another process."""

    def __init__(self, unit: WorkItem, done: frozenset[int], part_frames: int, column: str | None) -> None:
        self._arguments = unit, part_frames, column, done

    def __call__(self) -> Iterator[Any]:
        for chunk in read_chunks(*self._arguments):
            yield chunk.to_table()
