"""Where the results of a run go: a file for one picture, or a folder with one name for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.cli.place import ALPHA_SUFFIXES, DEFAULT_FOLDER, PICTURE_SUFFIXES, Place
from cvmask.streams.sinks.image_sink import write_image
from cvmask.system.files import write_whole


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

    def write_picture(self, source: str, picture: NDArray[np.uint8]) -> Path:
        """Write the annotated picture of a source; where it went."""
        path = self._pictures[source]
        write_image(path, picture)
        return path

    def write_text(self, source: str, suffix: str, text: str) -> Path:
        """Write a text beside the picture of a source; where it went."""
        path = self._pictures[source].with_suffix(suffix)
        write_whole(path, text.encode(errors="backslashreplace"))
        return path

    def _name(self, source: Path, taken: set[str]) -> str:
        suffix = source.suffix.lower() if source.suffix.lower() in self._suffixes else ".png"
        return free_stem(source.stem, taken) + suffix


def free_stem(stem: str, taken: set[str]) -> str:
    """Give a name that no other source has, also where the file system ignores case, and add it to those taken.

    Without its ending, so that what is written beside a file has a name of its own too.
    """
    free, number = stem, 1
    while free.casefold() in taken:
        number += 1
        free = f"{stem}_{number}"
    taken.add(free.casefold())
    return free
