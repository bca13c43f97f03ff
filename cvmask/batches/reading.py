"""The work list as a data source of Ray Data: it reads units in parallel, ahead of the workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ray.data import Datasource, ReadTask
from ray.data.block import BlockMetadata

from cvmask.batches.chunks import MOST_BYTES, read_chunks
from cvmask.batches.work_items import Unit


class Archive(Datasource):  # type: ignore[misc]
    """Chunks of units as tables of one row, one read task a unit.

    Parameters
    ----------
    units
        Those that are not finished, each with the chunks of it that are.
    part_frames, column
        See `chunks.read_chunks`.
    """

    def __init__(
        self, units: Sequence[tuple[Unit, frozenset[int]]], part_frames: int, column: str | None
    ) -> None:
        super().__init__()
        self._units, self._part_frames, self._column = units, part_frames, column

    def get_name(self) -> str:
        """Name it for Ray's own messages."""
        return "Archive"

    def estimate_inmemory_data_size(self) -> int | None:
        """Not known before it is read."""
        return None

    def get_read_tasks(self, parallelism: int, *args: Any, **kwargs: Any) -> list[ReadTask]:
        """Make a task for each unit, whatever parallelism is proposed."""
        metadata = BlockMetadata(num_rows=None, size_bytes=MOST_BYTES, exec_stats=None, input_files=None)
        return [
            ReadTask(_Read(unit, done, self._part_frames, self._column), metadata) for unit, done in self._units
        ]


class _Read:
    """Reads one unit; holds nothing but what that takes, since it travels to another process."""

    def __init__(self, unit: Unit, done: frozenset[int], part_frames: int, column: str | None) -> None:
        self._arguments = unit, part_frames, column, done

    def __call__(self) -> Iterator[Any]:
        for chunk in read_chunks(*self._arguments):
            yield chunk.to_table()
