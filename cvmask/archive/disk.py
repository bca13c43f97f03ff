"""The files of a folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cvmask.errors import SourceError


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Find every file below a folder, hidden ones left out, in no order: paths and bytes.

    Folders behind links are gone into, each once: a link that leads back up has no end.

    Raises
    ------
    OSError
        If a folder cannot be read.
    SourceError
        If a name is not UTF-8, which no table can hold.
    """
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(here) as listing:
            entries = sorted(listing, key=lambda entry: entry.name, reverse=True)
        for entry in entries:
            if entry.name.startswith(".") or (entry.is_symlink() and not os.path.exists(entry.path)):
                continue
            _check_name(entry.path)
            if entry.is_dir():
                waiting.append(entry.path)
            elif entry.is_file():
                yield entry.path, entry.stat().st_size


def _check_name(path: str) -> None:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{os.fsencode(path)!r}: this name is not UTF-8: rename it") from None
