"""Where the results of a run go: a file for one picture, or a folder with one name for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvmask.cli.options import UsageError
from cvmask.formats.metadata import Metadata
from cvmask.streams.sinks import SUFFIXES as STREAM_SUFFIXES
from cvmask.streams.sinks.encoders import wrong_codec
from cvmask.streams.sinks.image_sink import write_image
from cvmask.system.files import fit_name, write_whole

_LONGEST_STEM = 240  # bytes: a number and any ending fit behind it
DEFAULT_FOLDER = Path("cvmask_out")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")


class Place(NamedTuple):
    """Where results go.

    Attributes
    ----------
    path
        The file or the folder.
    is_file
        Whether it is a file: it has an ending, is no folder that exists, and was not named with a
        slash behind it.
    """

    path: Path
    is_file: bool = False

    @property
    def folder(self) -> Path:
        """The folder for what belongs to no single source: itself, or where the file lies."""
        return self.path.parent if self.is_file else self.path


def place_of(text: str) -> Place:
    """Understand what was given to -o."""
    path = Path(text)
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(path) or not path.suffix
    return Place(path, not is_folder)


def check_place(place: Place, sources: int, stream: bool, alpha: bool = False) -> None:
    """Say what cannot be before anything is loaded.

    Parameters
    ----------
    sources
        How many there are: one file takes the results of one.
    stream
        Whether that one is a video, a camera or a stream, and no picture.
    alpha
        Whether pictures have transparency.

    Raises
    ------
    UsageError
        If a file is named for several sources or in a format that is not written, or a folder that is
        a file.
    """
    path, suffix = place.path, place.path.suffix.lower()
    if not place.is_file:
        if path.exists() and not path.is_dir():
            raise UsageError(f"{path} is not a folder: end the name in .png or .jpg for a single picture")
        return
    if sources > 1:
        raise UsageError(f"{path} is one file for {sources} sources: give a folder")
    # One picture would hold the first frame of many.
    videos = tuple(ending for ending in STREAM_SUFFIXES if ending not in PICTURE_SUFFIXES)
    suffixes = videos if stream else PICTURE_SUFFIXES
    if suffix not in suffixes:
        known, what = " ".join(suffixes), "video" if stream else "picture"
        raise UsageError(f"{path}: of a {what} needed one of {known}, or a folder with / at its end, got {path.suffix}")
    if alpha and not stream and suffix not in ALPHA_SUFFIXES:
        raise UsageError(f"{path}: {suffix} has no transparency: end the name in .png")


def check_codec(place: Place | None, codec: str | None) -> None:
    """Raise UsageError for a video that cannot have this codec; a folder, or None, takes .mp4 files."""
    suffix = place.path.suffix.lower() if place is not None and place.is_file else ".mp4"
    if wrong := wrong_codec(suffix, codec):
        raise UsageError(f"--codec {codec}: {wrong}")


class Outputs:
    """Names and writes what belongs to each source.

    Parameters
    ----------
    place
        A file, for a single source, or a folder, made if missing; `check_place` has seen it. None: the
        folder ``cvmask_out`` here.
    sources
        All that will be written. Two of the same name get "_2", "_3" and so on.
    alpha
        Whether the pictures have transparency: then a ``.jpg`` becomes a ``.png``.
    """

    def __init__(self, place: Place | None, sources: Sequence[str], alpha: bool = False) -> None:
        target, one_file = place or Place(DEFAULT_FOLDER)
        self._suffixes = ALPHA_SUFFIXES if alpha else PICTURE_SUFFIXES
        self._pictures: dict[str, Path] = {}
        taken: set[str] = set()
        for source in sources:
            path = target if one_file else target / self._name(Path(source), taken)
            self._pictures[source] = path

    @property
    def planned(self) -> list[tuple[Path, str]]:
        """The pictures that will be written, each with its source."""
        return [(path, source) for source, path in self._pictures.items()]

    def path_of(self, source: str) -> Path:
        """Give the place of the annotated picture of a source."""
        return self._pictures[source]

    def write_picture(self, source: str, picture: NDArray[np.uint8], metadata: Metadata) -> None:
        """Write the annotated picture of a source."""
        write_image(self._pictures[source], picture, metadata)

    def write_text(self, source: str, suffix: str, text: str) -> None:
        """Write a text beside the picture of a source."""
        write_whole(self._pictures[source].with_suffix(suffix), text.encode(errors="backslashreplace"))

    def _name(self, source: Path, taken: set[str]) -> str:
        suffix = source.suffix.lower() if source.suffix.lower() in self._suffixes else ".png"
        return free_stem(source.stem, taken) + suffix


def free_stem(stem: str, taken: set[str]) -> str:
    """Give a name that no other source has, also where the file system ignores case, and add it to those taken.

    Without its ending, so that what is written beside a file has a name of its own too.
    """
    stem = fit_name(stem, longest=_LONGEST_STEM)
    free, number = stem, 1
    while free.casefold() in taken:
        number += 1
        free = f"{stem}_{number}"
    taken.add(free.casefold())
    return free
