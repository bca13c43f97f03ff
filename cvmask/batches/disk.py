"""The files of a folder on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress


def files_below(folder: str) -> Iterator[tuple[str, int]]:
    """Find every file below a folder, hidden ones left out, in no order: paths and bytes.

    Folders behind links are gone into, each once: a link that leads back up has no end.

    What is removed meanwhile is passed over. Paths have forward slashes on every system.

    Raises
    ------
    OSError
        If a folder cannot be read, or there is none.
    """
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = _entries(here)
        except FileNotFoundError:
            if here == folder:
                raise
            continue
        for entry in entries:
            if entry.is_dir():
                waiting.append(entry.path)
                continue
            with suppress(FileNotFoundError):
                if entry.is_file():
                    yield entry.path.replace(os.sep, "/"), entry.stat().st_size


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Give what is to be looked at, the last name first; of links those that lead somewhere."""
    with os.scandir(folder) as listing:
        seen = [entry for entry in listing if not entry.name.startswith(".")]
    seen = [entry for entry in seen if not entry.is_symlink() or os.path.exists(entry.path)]
    return sorted(seen, key=lambda entry: entry.name, reverse=True)
