"""Where the results of a run go: a file for one picture, or a folder with one name for each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.files import write_whole

DEFAULT_FOLDER = Path("cvmask_out")
WRITABLE = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
WITH_ALPHA = frozenset({".png", ".webp", ".tif", ".tiff"})


class Outputs:
    """Names and writes what belongs to each source.

    Parameters
    ----------
    output
        A file ending in a picture format, for a single source; otherwise a folder, made if missing.
        None: the folder ``cvmask_out`` here.
    sources
        All that will be written. Two of the same name get "_2", "_3" and so on.
    alpha
        Whether the pictures have transparency: then a ``.jpg`` becomes a ``.png``.

    Raises
    ------
    SinkError
        If a file is given for several sources, an output would replace its source, or the format of
        the file has no transparency.
    """

    def __init__(self, output: Path | None, sources: Sequence[str], alpha: bool = False) -> None:
        folder = DEFAULT_FOLDER if output is None else output
        one_file = output is not None and output.suffix.lower() in WRITABLE and not output.is_dir()
        if one_file and len(sources) > 1:
            raise SinkError(f"{output} is one file for {len(sources)} pictures: give a folder")
        if folder.exists() and not folder.is_dir() and not one_file:
            raise SinkError(f"{folder} is not a folder: end the name in .png or .jpg for a single picture")
        if alpha and one_file and folder.suffix.lower() not in WITH_ALPHA:
            raise SinkError(f"{folder}: {folder.suffix} has no transparency: end the name in .png")
        self._suffixes = WITH_ALPHA if alpha else WRITABLE
        self._pictures: dict[str, Path] = {}
        taken: set[str] = set()
        for source in sources:
            path = folder if one_file else folder / self._free_name(Path(source), taken)
            if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
                raise SinkError(f"{path} would replace its source: give another folder with -o")
            self._pictures[source] = path

    def write_picture(self, source: str, picture: NDArray[np.uint8]) -> Path:
        """Write the annotated picture of a source; where it went."""
        path = self._pictures[source]
        try:
            written, data = cv2.imencode(path.suffix, picture)
        except cv2.error:
            written = False
        if not written:
            raise SinkError(
                f"{path}: OpenCV cannot write {picture.shape[1]}x{picture.shape[0]} as {path.suffix}"
            )
        write_whole(path, data.tobytes())
        return path

    def write_text(self, source: str, suffix: str, text: str) -> Path:
        """Write a text beside the picture of a source; where it went."""
        path = self._pictures[source].with_suffix(suffix)
        write_whole(path, text.encode())
        return path

    def _free_name(self, source: Path, taken: set[str]) -> str:
        """A name that no other source has, also where the file system ignores case, JSON beside it included."""
        suffix = source.suffix.lower() if source.suffix.lower() in self._suffixes else ".png"
        number = 1
        stem = source.stem
        while stem.casefold() in taken:
            number += 1
            stem = f"{source.stem}_{number}"
        taken.add(stem.casefold())
        return stem + suffix


def folder_of(output: Path | None) -> Path:
    """Give the folder for what belongs to no single source: -o, or where the file that it names lies."""
    if output is None:
        return DEFAULT_FOLDER
    return output.parent if output.suffix and not output.is_dir() else output
