"""Find the files of an archive: folders, patterns, lists, single files."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import ray.data

from cvmask.batches.storage import (
    LOCAL,
    StoragePath,
    file_size,
    is_folder,
    list_files,
    one_line,
    read_bytes,
    spelled,
    storage_path,
)
from cvmask.batches.video_segments import cut, local_file
from cvmask.batches.work_items import PARQUET, PICTURES, TAR, VIDEO, Item, VideoSegment, WorkItem
from cvmask.errors import SourceError
from cvmask.streams.sinks.av_encoder import SUFFIXES as VIDEO_SUFFIXES
from cvmask.streams.sinks.image_sink import SUFFIXES as PICTURE_SUFFIXES
from cvmask.streams.sources.image_source import SUFFIXES
from cvmask.system.files import portable_name, wrong_name

# File systems have 255 bytes for a name.
_MOST_BYTES = 200


def annotated_name(item: Item) -> str:
    """Return the path of an item's annotated form; for a shard or a Parquet file the folder of its pictures."""
    if item.kind == VIDEO:
        return _ending(item.name, VIDEO_SUFFIXES, ".mp4")
    return _ending(item.name, PICTURE_SUFFIXES, ".png") if item.kind == PICTURES else item.name


def member_name(item: Item, index: int, member: str | None) -> str:
    """Return the path of an annotated picture of a shard: numbered, because a shard may hold a name twice.

    Names inside shards are not trusted: only the last part of a path is used, which cannot leave the folder.
    """
    own = (member or "").replace("\\", "/").rpartition("/")[2]
    name = f"{index:08d}-{portable_name(own, _MOST_BYTES)}" if own else f"{index:08d}"
    return f"{item.name}/{_ending(name, PICTURE_SUFFIXES, '.png')}"


def with_own_names(items: list[Item]) -> list[Item]:
    """Name the items so that no two results share a file, and none is another's folder, even if case is ignored."""
    files: set[str] = set()
    folders: set[str] = set()
    counts: dict[str, int] = defaultdict(int)
    result = []
    for item in items:
        parts = [portable_name(part, _MOST_BYTES) for part in item.name.split("/") if part not in ("", ".", "..")]
        stem, end = posixpath.splitext("/".join(parts) or "file")
        key = (stem + end).casefold()
        counts[key] += 1
        named = item._replace(name=stem + end if counts[key] == 1 else f"{stem}~{counts[key]}{end}")
        while not _is_free(path := annotated_name(named).casefold(), files, folders):
            counts[key] += 1
            if not files.isdisjoint(_folders(path)):  # its folder is a file
                stem = stem.replace("/", "~")
            named = item._replace(name=f"{stem}~{counts[key]}{end}")
        files.update((path, f"{path}.png"))  # a picture too large for a JPEG becomes a PNG beside it
        folders.update(_folders(path))
        result.append(named)
    return result


def _is_free(path: str, files: set[str], folders: set[str]) -> bool:
    return files.isdisjoint((path, f"{path}.png", *_folders(path))) and path not in folders


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _ending(name: str, known: tuple[str, ...], otherwise: str) -> str:
    return name if posixpath.splitext(name)[1].lower() in known else name + otherwise


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
        reached. Files in a list are not checked here: missing files and impossible names are
        reported when they are read.
    """
    found: dict[StoragePath, Item] = {}
    for source in sources:
        for item in _expand(os.fspath(source)):
            found.setdefault(item.place, item)
    return with_own_names(list(found.values()))


def kind_of(path: str) -> str | None:
    """Return the kind of a file by the end of its name; None if it is unknown."""
    name = path.lower()
    return next((kind for kind, ends in _KINDS.items() if name.endswith(tuple(ends))), None)


def _expand(source: str) -> list[Item]:
    place = storage_path(source)
    if wrong := wrong_name(place.path):
        raise SourceError(f"{place.path}: {wrong}")
    if source.lower().endswith(LISTS):
        return _listed(source, place)
    magic = _WILDCARD.search(place.path)
    if magic and not (place.root == LOCAL and os.path.exists(place.path)):
        base = StoragePath(place.root, posixpath.dirname(place.path[: magic.start()]))
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


def _items(
    base: StoragePath, files: Sequence[tuple[str, int | None]], source: str, empty: str, strict: bool
) -> list[Item]:
    """Make items of the files below `base`; with `strict`, leave out unknown kinds."""
    items = []
    for path, size in files:
        kind = kind_of(path)
        if kind is not None or not strict:
            name = posixpath.relpath(path, base.path) if base.path else path
            items.append(_item(StoragePath(base.root, path), name, kind or PICTURES, size))
    if not items:
        raise SourceError(empty)
    return items


def _listed(source: str, place: StoragePath) -> list[Item]:
    """Read a list with one path or address per line; relative paths start from the folder of the list."""
    try:
        data = read_bytes(place)
    except OSError as error:
        raise SourceError(f"{source}: this list cannot be read: {one_line(error)}") from None
    if b"\0" in data:
        raise SourceError(f"{source}: this list is not text in UTF-8: save it as such")
    lines = data.decode("utf-8-sig", "surrogateescape").replace("\r\n", "\n").split("\n")
    folder = StoragePath(place.root, posixpath.dirname(place.path))
    items = []
    for line in (line.strip() for line in lines):
        if not line or line.startswith("#"):
            continue
        absolute = "://" in line or line.startswith("/") or os.path.isabs(line)
        name = posixpath.basename(line) if absolute else posixpath.normpath(line)
        wrong = ""
        try:
            entry = storage_path(line) if absolute else folder / posixpath.normpath(line)
        except SourceError as error:
            scheme, _, rest = line.partition("?")[0].partition("://")
            entry, wrong = StoragePath(LOCAL, f"{scheme}://{rest.rpartition('@')[2]}"), str(error)
        items.append(_item(entry, name, kind_of(line) or PICTURES, None, wrong))
    if not items:
        raise SourceError(f"{source}: a list must name files, one per line, found none")
    return items


def _item(place: StoragePath, name: str, kind: str, size: int | None, error: str = "") -> Item:
    """Make an item; it fails if its name cannot be stored in a table or given to a video."""
    error = error or wrong_name(place.path)
    if not error:
        return Item(place, name, kind, size)
    return Item(StoragePath(place.root, spelled(place.path)), spelled(name), PICTURES, None, error)


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


_MOST_BLOCKS = 200


def plan(items: Sequence[Item], part_frames: int, run: str) -> list[WorkItem]:
    """Make the work list: pictures in groups, shards and files one by one, videos in segments, in order."""
    segments = _cut_videos([item for item in items if item.kind == VIDEO], part_frames, run)
    units: list[WorkItem] = []
    group: list[Item] = []
    for item in items:
        full = len(group) == part_frames
        if group and (full or item.kind != PICTURES or item.place.root != group[0].place.root):
            units.append(WorkItem(len(units), PICTURES, tuple(group)))
            group = []
        if item.kind == PICTURES:
            group.append(item)
            continue
        for segment in segments.get(item) or [None]:
            units.append(WorkItem(len(units), item.kind, (item,), segment))
    if group:
        units.append(WorkItem(len(units), PICTURES, tuple(group)))
    return units


def _cut_videos(videos: Sequence[Item], part_frames: int, run: str) -> dict[Item, list[VideoSegment | None]]:
    if not videos:
        return {}
    rows = [
        {"index": index, "root": item.place.root, "path": item.place.path, "least": part_frames, "run": run}
        for index, item in enumerate(videos)
    ]
    cuts = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map(_cut_one)
    found = {row["index"]: json.loads(row["segments"]) for row in cuts.iter_rows()}
    return {item: [VideoSegment(*segment) for segment in found[index]] for index, item in enumerate(videos)}


def _cut_one(row: dict[str, Any]) -> dict[str, Any]:
    """Split one video; no segments if that is not possible: reading it whole will say why."""
    try:
        segments = cut(local_file(StoragePath(row["root"], row["path"]), row["run"]), row["least"])
    except (SourceError, OSError):
        segments = []
    return {"index": row["index"], "segments": json.dumps(segments)}
