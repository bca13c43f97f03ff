"""From what a user named to the files of an archive: folders, patterns, lists, single files."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Sequence

from cvmask.batches.names import with_own_names
from cvmask.batches.storage import LOCAL, Place, file_size, is_folder, list_files, one_line, place_of, read_bytes
from cvmask.batches.work_items import PARQUET, PICTURES, TAR, VIDEO, Item
from cvmask.errors import SourceError
from cvmask.streams.sources.image_source import SUFFIXES
from cvmask.system.files import wrong_name

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
LISTS = (".txt", ".lst", ".list")
VIDEOS = (
    *(".3gp", ".asf", ".avi", ".flv", ".h264", ".h265", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov"),
    *(".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
_KINDS = {PICTURES: SUFFIXES, TAR: TARS, PARQUET: (".parquet",), VIDEO: VIDEOS}
_WILDCARD = re.compile(r"[*?[]")


def find_items(sources: Iterable[str | os.PathLike[str]]) -> list[Item]:
    """Find the files of an archive, each once, in the order of the sources and of their names.

    Raises
    ------
    SourceError
        If a folder or a pattern holds nothing of a known kind, a file is missing, or a place cannot be
        reached. What a list names is not looked at: it is told when it is read.
    """
    found: dict[Place, Item] = {}
    for source in sources:
        for item in _expand(os.fspath(source)):
            found.setdefault(item.place, item)
    return with_own_names(list(found.values()))


def kind_of(path: str) -> str | None:
    """Tell the kind of a file by the end of its name; None where that is unknown."""
    name = path.lower()
    return next((kind for kind, ends in _KINDS.items() if name.endswith(tuple(ends))), None)


def _expand(source: str) -> list[Item]:
    place = place_of(source)
    _check_name(place.path)
    if source.lower().endswith(LISTS):
        return _listed(source, place)
    magic = _WILDCARD.search(place.path)
    if magic and not (place.root == LOCAL and os.path.exists(place.path)):
        base = Place(place.root, posixpath.dirname(place.path[: magic.start()]))
        wanted = re.compile(_pattern(place.path))
        files = [file for file in list_files(base) if wanted.fullmatch(file[0])]
        return _items(base, files, source, f"{source}: a pattern must match files, found none", strict=False)
    if is_folder(place):
        cure = "a folder must hold pictures, videos, .tar or .parquet files, found none"
        return _items(place, list_files(place), source, f"{source}: {cure}", strict=True)
    size = file_size(place)
    if size is None:
        raise SourceError(f"{source}: cannot be read: no such file or folder")
    return [Item(place, posixpath.basename(place.path), kind_of(place.path) or PICTURES, size)]


def _items(base: Place, files: Sequence[tuple[str, int]], source: str, empty: str, strict: bool) -> list[Item]:
    """Make items of the files below `base`; with `strict` leave out what is of no known kind."""
    items = []
    for path, size in files:
        kind = kind_of(path)
        if kind is not None or not strict:
            _check_name(path)
            name = posixpath.relpath(path, base.path) if base.path else path
            items.append(Item(Place(base.root, path), name, kind or PICTURES, size))
    if not items:
        raise SourceError(empty)
    return items


def _listed(source: str, place: Place) -> list[Item]:
    """Read a list: one path or address a line, relative ones from the folder of the list."""
    try:
        lines = read_bytes(place).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{source}: this list cannot be read: {one_line(error)}") from None
    folder = Place(place.root, posixpath.dirname(place.path))
    items = []
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        absolute = "://" in line or line.startswith("/") or os.path.isabs(line)
        entry = place_of(line) if absolute else folder / posixpath.normpath(line)
        name = posixpath.basename(line) if absolute else posixpath.normpath(line)
        items.append(Item(entry, name, kind_of(line) or PICTURES, None))
    if not items:
        raise SourceError(f"{source}: a list must name files, one a line, found none")
    return items


def _check_name(path: str) -> None:
    """Raise SourceError for a name that no table can hold, and that videos cannot have."""
    if wrong := wrong_name(path):
        raise SourceError(f"{path}: {wrong}")


def _pattern(text: str) -> str:
    """Turn a glob into a regular expression: ``*`` stays in its folder, ``**/`` goes down."""
    out, at = "", 0
    while at < len(text):
        char = text[at]
        closing = text.find("]", at + 2) if char == "[" else -1
        if text.startswith("**/", at):
            out, at = out + "(?:[^/]+/)*", at + 3
        elif text.startswith("**", at):
            out, at = out + ".*", at + 2
        elif closing > 0:
            inside = text[at + 1 : closing].replace("\\", "\\\\")
            out, at = out + f"[{'^' + inside[1:] if inside[0] in '!^' else inside}]", closing + 1
        else:
            out, at = out + {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)), at + 1
    return out
