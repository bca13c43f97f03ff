"""Continue a batch: retry its failures and add new files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from cvmask.batches.annotated import FOLDER as ANNOTATED
from cvmask.batches.job import SUCCESS
from cvmask.batches.listing import annotated_name, plan, with_own_names
from cvmask.batches.storage import StoragePath, file_size
from cvmask.batches.work_items import PICTURES, VIDEO, Finished, Item, WorkItem


def new_items(units: Iterable[WorkItem], items: Sequence[Item]) -> list[Item]:
    """Give the files that are not in a work list."""
    known = {item.place for unit in units for item in unit.items}
    return [item for item in items if item.place not in known]


def with_added(units: list[WorkItem], new: Sequence[Item], part_frames: int, run: str) -> list[WorkItem]:
    """Return a work list with further files at its end; old entries keep their numbers and names."""
    old = list(dict.fromkeys(item for unit in units for item in unit.items))
    named = with_own_names([*old, *new])[len(old) :]
    first = 1 + max(unit.number for unit in units)
    return [*units, *(unit._replace(number=first + unit.number) for unit in plan(named, part_frames, run))]


class Retry:
    """The changes to a work list that retry every failure.

    In a group of pictures, the failed ones are retried, and their part is written again with the rows of the others.
    In a shard or a video, the parts with failures are removed and made again. A file that has changed, or an annotated
    video, is planned as a new file. A missing file stays a failure.

    Attributes
    ----------
    pictures
        Numbers of the units of pictures to repeat.
    removed
        Parts to remove.
    replanned
        Files to remove from the list with all their units and to add again as they are now.
    """

    def __init__(self, units: Sequence[WorkItem], finished: Finished, annotated: bool) -> None:
        failed = finished.failed()
        self.pictures: set[int] = set()
        self.removed: list[StoragePath] = []
        self.replanned: dict[Item, Item] = {}
        for unit in units:
            if unit.number not in failed:
                continue
            item = unit.items[0]
            if unit.kind == PICTURES:
                self.pictures.add(unit.number)
            elif (size := file_size(item.place)) is None:
                continue
            elif size != item.size or (annotated and unit.kind == VIDEO):
                self.replanned[item] = item._replace(size=size)
            else:
                self.removed += failed[unit.number]

    def apply(self, units: list[WorkItem], part_frames: int, run: str) -> list[WorkItem]:
        """Give the new work list."""
        if not self.replanned:
            return units
        left = [unit for unit in units if unit.items[0] not in self.replanned]
        # Numbers are not given twice.
        first = 1 + max(unit.number for unit in units)
        planned = plan(list(self.replanned.values()), part_frames, run)
        return [*left, *(unit._replace(number=first + unit.number) for unit in planned)]

    def remove(self, output: StoragePath) -> None:
        """Remove the parts that are made again, and the annotated videos that are joined again."""
        for place in self.removed:
            _remove(place)
        for item in self.replanned:
            if item.kind == VIDEO:
                _remove(output / ANNOTATED / annotated_name(item))


def reopen(output: StoragePath) -> None:
    """Mark a batch as not finished."""
    _remove(output / SUCCESS)


def remove_strangers(units: Iterable[WorkItem], finished: Finished) -> None:
    """Remove the parts of units that are no longer in the list."""
    for place in finished.others({unit.number for unit in units}):
        _remove(place)


def _remove(place: StoragePath) -> None:
    with suppress(FileNotFoundError):
        place.filesystem.delete_file(place.path)
