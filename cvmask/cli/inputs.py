"""What the user named as sources: pictures, folders, patterns."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cvmask.errors import SourceError
from cvmask.sources import find_images

WILD = frozenset("*?[")


class Input(NamedTuple):
    """One file.

    Attributes
    ----------
    path
        Where it lies.
    name
        What records call it: relative to what the user gave, with forward slashes.
    """

    path: str
    name: str


def expand(sources: Sequence[str]) -> tuple[list[Input], list[str]]:
    """Turn files, folders and patterns into inputs, in order and each once; and what could not be."""
    bases: dict[str, str] = {}
    failures: list[str] = []
    for source in sources:
        try:
            found = find_images(source) if _is_many(source) else [source]
        except SourceError as error:
            failures.append(str(error))
            continue
        for path in found:
            bases.setdefault(path, _base_of(source))
    return _named(bases), failures


def _is_many(source: str) -> bool:
    return Path(source).is_dir() or (not WILD.isdisjoint(source) and not Path(source).exists())


def _base_of(source: str) -> str:
    """Give the folder that the user meant: itself, or what stands before a file or the first wildcard."""
    if Path(source).is_dir():
        return source
    if not _is_many(source):
        return os.path.dirname(source)
    plain = itertools.takewhile(WILD.isdisjoint, Path(source).parent.parts)
    return os.path.join("", *plain)


def _named(bases: dict[str, str]) -> list[Input]:
    names = [_relative(path, base) for path, base in bases.items()]
    if len(set(names)) < len(names):
        # The same name in several folders: then the folders are part of the name.
        folder = _common_folder(list(bases))
        names = [_relative(path, folder) for path in bases]
    return [Input(path, name) for path, name in zip(bases, names)]


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # several drives
        return ""


def _relative(path: str, base: str) -> str:
    try:
        return Path(os.path.relpath(path, base or ".")).as_posix()
    except ValueError:  # another drive
        return Path(os.path.abspath(path)).as_posix()
