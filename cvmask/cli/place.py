"""What -o names: one file, or a folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from cvmask.cli.options import UsageError
from cvmask.streams.sinks import SUFFIXES as STREAM_SUFFIXES
from cvmask.streams.sinks.codecs import wrong_codec

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
