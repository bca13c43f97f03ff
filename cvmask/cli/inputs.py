"""Expands the sources that the user gave: pictures, folders, patterns, videos, cameras, streams."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cvmask.cli.options import NUMBERED, PICTURE, VIDEO
from cvmask.errors import SourceError
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sources import find_images
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.image_source import SUFFIXES
from cvmask.streams.sources.moving import is_animation, is_numbered, name_of
from cvmask.streams.sources.opening import is_pattern, is_picture, live_kind
from cvmask.streams.sources.source import local_path
from cvmask.system.files import wrong_name


class Input(NamedTuple):
    """One file, camera or stream.

    Attributes
    ----------
    path
        Its path or address.
    name
        Its name in records: relative to the user's folder, with forward slashes. A camera or an address
        gets a name such as ``camera0``, because an address may contain a password.
    stream
        Whether it is something other than a picture.
    """

    path: str
    name: str
    stream: bool = False

    @property
    def kind(self) -> str:
        """`PICTURE`, `VIDEO`, `NUMBERED`, or what `live_kind` calls it."""
        if self.stream and (os.path.isdir(self.path) or is_numbered(self.path)):
            return NUMBERED
        return live_kind(self.path) or (VIDEO if self.stream else PICTURE)


def expand(sources: Sequence[str], rated: bool = False) -> tuple[list[Input], list[str]]:
    """Turn sources into inputs, in order and without duplicates; also return messages for those that are none.

    With a rate (`rated`) a folder is one video. In a folder an animated picture is a picture, anywhere else a video.
    """
    bases: dict[str, str] = {}
    pictures: set[str] = set()
    seen: set[str] = set()
    failures: list[str] = []
    for source in map(local_path, sources):
        if Path(source).suffix.lower() in (".pb", ".pbtxt"):
            failures.append(f"{source}: belongs to a model, give the .pb with -m, the .pbtxt with --graph")
            continue
        try:
            whole = rated and os.path.isdir(source)
            found = find_images(source) if _is_many(source) and not whole else [source]
            pictures |= set(found) if os.path.isdir(source) and not whole else set()
        except SourceError as error:
            failures.append(str(error))
            continue
        for path in found:
            # Reported before a model is loaded; a picture may have such a name too.
            full = os.path.abspath(path) if is_file(path) else path
            if (wrong := wrong_name(full)) and path not in pictures and is_stream(path):
                failures.append(f"{path}: {wrong}")
                continue
            real = os.path.realpath(path) if is_file(path) else path
            if real not in seen:
                seen.add(real)
                bases[path] = os.path.dirname(os.path.abspath(source)) if whole else _base_of(source)
    return _named(bases, pictures), failures


def files_left_out(sources: Sequence[str]) -> list[str]:
    """Return notes about ignored files: for each folder, one line for videos and one for other files."""
    lines = []
    for folder in map(local_path, sources):
        with suppress(OSError):
            files = [path for path in Path(folder).iterdir() if path.name[0] != "." and not path.is_dir()]
            endings = Counter(path.suffix for path in files)
            if not any(ending.lower() in SUFFIXES for ending in endings):
                continue
            videos = {ending: count for ending, count in endings.items() if ending.lower() in CODECS}
            if videos:
                count = sum(videos.values())
                named = " ".join(f"'{os.path.join(folder, '*' + ending)}'" for ending in sorted(videos))
                cure = f"to process its {'video, name it' if count == 1 else f'{count} videos, name them'}: {named}"
                lines.append(f"{folder}: only the pictures of a folder are read; {cure}")
            others = {end: count for end, count in endings.items() if end.lower() not in (*SUFFIXES, *CODECS)}
            if others:
                counted = ", ".join(f"{others[ending]} {ending or 'without an ending'}" for ending in sorted(others))
                cure = "to read them, name them"
                lines.append(f"{folder}: ignored, because of their endings: {counted}; {cure}")
    return lines


def _is_many(source: str) -> bool:
    # A question mark in an address is not a wildcard.
    return is_file(source) and (os.path.isdir(source) or is_pattern(source))


def _base_of(source: str) -> str:
    """Return the folder that the user meant: the source itself, or the part before a file or the first wildcard."""
    if os.path.isdir(source):
        return source
    if not _is_many(source):
        return os.path.dirname(source)
    return os.path.join("", *itertools.takewhile(lambda part: not glob.has_magic(part), Path(source).parent.parts))


def _named(bases: dict[str, str], pictures: Collection[str]) -> list[Input]:
    names = [_name(path, base) for path, base in bases.items()]
    if len(set(names)) < len(names):
        # If a name occurs in several folders, the folders become part of it.
        folder = _common_folder([path for path in bases if is_file(path)])
        names = [_name(path, folder) for path in bases]
    streams = [path not in pictures and is_stream(path) for path in bases]
    return [Input(path, name, stream) for path, name, stream in zip(bases, names, streams)]


def _common_folder(paths: Sequence[str]) -> str:
    try:
        return os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    except ValueError:  # several drives
        return ""


def _name(path: str, base: str) -> str:
    if not is_file(path):
        return stem_of(path)
    try:
        return Path(os.path.relpath(path, base or ".")).as_posix()
    except ValueError:  # another drive
        return Path(os.path.abspath(path)).as_posix()


def is_stream(place: str) -> bool:
    """Return True if a source is not a still picture."""
    return not is_file(place) or is_numbered(place) or is_animation(place) or not is_picture(place)


def is_file(place: str) -> bool:
    """Return True if a source is a file, and not a camera, an address or standard input."""
    return not live_kind(place)


# Endings of files at an address; the name of a host ends in others.
_ENDING = re.compile(r"\.(mp4|m4v|mov|mkv|avi|webm|ts|flv|m3u8|mjpe?g|jpe?g|png)$", re.IGNORECASE)


def stem_of(place: str) -> str:
    """Return a name for outputs of a source: camera0, stdin, host_path, or the stem of the file."""
    if place == "-":
        return "stdin"
    if place.isdigit():
        return f"camera{place}"
    path = local_path(place)
    if "://" in path:
        address = without_password(path).split("://", 1)[1].split("@")[-1].split("?")[0]
        return re.sub(r"[^A-Za-z0-9.-]+", "_", _ENDING.sub("", address)).strip("_") or "stream"
    return (name_of(path) if is_numbered(path) else Path(path).stem) or "video"
