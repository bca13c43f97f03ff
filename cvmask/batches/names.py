"""What annotated pictures and videos are called: each result has a name of its own, however its source is called."""

from __future__ import annotations

import posixpath
from collections import defaultdict

from cvmask.batches.work_items import PICTURES, VIDEO, Item
from cvmask.streams.sinks.av_encoder import SUFFIXES as VIDEO_SUFFIXES
from cvmask.streams.sinks.image_sink import SUFFIXES as PICTURE_SUFFIXES

# File systems have 255 bytes for a name.
_MOST_BYTES = 200


def annotated_name(item: Item) -> str:
    """Give the path of an item's annotated form; of a shard or a Parquet file the folder for its pictures."""
    if item.kind == VIDEO:
        return _ending(item.name, VIDEO_SUFFIXES, ".mp4")
    return _ending(item.name, PICTURE_SUFFIXES, ".png") if item.kind == PICTURES else item.name


def member_name(item: Item, index: int, member: str | None) -> str:
    """Give the path of the annotated form of a picture of a shard: numbered, for a shard may hold a name twice.

    Names inside of shards are anybody's: of a path the last part is taken, which leads out of no folder.
    """
    name = "-".join(filter(None, [f"{index:08d}", _short(posixpath.basename(member or ""))]))
    return f"{item.name}/{_ending(name, PICTURE_SUFFIXES, '.png')}"


def with_own_names(items: list[Item]) -> list[Item]:
    """Name each item so that no two results are one file, and none is another's folder, also where case is ignored."""
    files: set[str] = set()
    folders: set[str] = set()
    counts: dict[str, int] = defaultdict(int)
    result = []
    for item in items:
        parts = [_short(part) for part in item.name.split("/") if part not in ("", ".", "..")]
        stem, end = posixpath.splitext("/".join(parts) or "file")
        key = (stem + end).casefold()
        counts[key] += 1
        named = item._replace(name=stem + end if counts[key] == 1 else f"{stem}~{counts[key]}{end}")
        while not _is_free(path := annotated_name(named).casefold(), files, folders):
            counts[key] += 1
            if not files.isdisjoint(_folders(path)):  # what would be a folder is a file
                stem = stem.replace("/", "~")
            named = item._replace(name=f"{stem}~{counts[key]}{end}")
        files.update((path, f"{path}.png"))  # what is too large for a JPEG becomes a PNG beside
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


def _short(name: str) -> str:
    """Cut a name that no file system takes, but not its ending."""
    name = name.encode(errors="replace").decode()
    data = name.encode()
    if len(data) <= _MOST_BYTES:
        return name
    end = posixpath.splitext(name)[1][-10:]
    return data[: _MOST_BYTES - len(end.encode())].decode(errors="ignore") + end
