"""Which files a run reads, so that none of its results replaces one."""

from __future__ import annotations

import os
from collections.abc import Iterable

FileId = tuple[int, int]


def file_id(path: str | os.PathLike[str]) -> FileId | None:
    """Give what is the same for all names of one file; None if there is no such file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # ValueError: an address with a null character
        return None
    return found.st_dev, found.st_ino


def file_ids(paths: Iterable[str | os.PathLike[str]]) -> frozenset[FileId]:
    """Give those of the files that there are."""
    return frozenset(filter(None, map(file_id, paths)))
