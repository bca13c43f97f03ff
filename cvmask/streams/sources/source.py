"""The base class of every source of frames."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Callable
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.formats.metadata import NO_METADATA, Metadata

Notify = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Frame:
    """A picture with its place in a source.

    Attributes
    ----------
    image
        Shape (height, width, 3), BGR.
    index
        The number of the frame in its source, from 0. Frames left out by `stride` or "newest first" count too.
    time_s
        Seconds since the first frame of the source; None for pictures, which have no time.
    name
        The file or stream, as messages name it.
    warnings
        What is wrong or special with this picture, one line each.
    taken_at_s
        ``time.monotonic()`` when it came from a live source, to tell its age; None for files.
    metadata
        Colour profile and resolution of a picture file, to be kept in its outputs; pixels are not converted.
    """

    image: NDArray[np.uint8]
    index: int
    time_s: float | None
    name: str
    warnings: tuple[str, ...] = ()
    taken_at_s: float | None = None
    metadata: Metadata = NO_METADATA


class Source(ABC):
    """An iterator over `Frame`, for one pass; leaving the loop in any way releases the source.

    A second pass raises SourceError.

    Attributes
    ----------
    name
        Its name in messages.
    size_wh
        Width and height in pixels; None if unknown or if frames differ.
    frame_rate
        Frames a second, the mean if it varies; None if unknown or if there is none.
    length
        The stated number of frames; None if unknown. Files can be wrong about it.
    live
        Whether frames come at their own pace and are lost if they are not taken.
    newest
        Whether a live source gives its newest frame and skips older ones.
    returns
        Whether a live source that has ended may be opened again.
    dropped
        How many frames so far were skipped for newer ones.
    lost
        How many frames so far could not be decoded.
    """

    name: str = ""
    size_wh: tuple[int, int] | None = None
    frame_rate: Fraction | None = None
    length: int | None = None
    live: bool = False
    newest: bool = False
    returns: bool = True
    dropped: int = 0
    lost: int = 0
    _begun = False

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._begun:
            raise SourceError(f"{self.name}: its frames were already read: open it again")
        self._begun = True
        return self._until_left()

    def __repr__(self) -> str:
        size = "" if self.size_wh is None else " {}x{}".format(*self.size_wh)
        rate = "" if self.frame_rate is None else f", {float(self.frame_rate):g} frames a second"
        length = "" if self.length is None else f", {self.length} frames"
        return f"<{type(self).__name__} {self.name}{size}{rate}{length}>"

    def _until_left(self) -> Iterator[Frame]:
        try:
            yield from self._frames()
        finally:
            self.close()

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """Yield every frame; SourceError where it cannot go on."""

    @abstractmethod
    def close(self) -> None:
        """Release the source; a second call does nothing. Any thread may call it."""


def ignore(message: str) -> None:
    """Ignore a message: the default if a caller wants none."""


_FILE = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)


def local_path(place: str) -> str:
    """Return the path that a file:// address names; any other name unchanged."""
    scheme = _FILE.match(place)
    if scheme is None:
        return place
    path = unquote(place[scheme.end() :])
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path
