"""Pictures read as a video: animated GIF, PNG and WebP through Pillow, and numbered frames."""

from __future__ import annotations

import glob
import importlib.util
import io
import os
import re
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.image_source import MAX_PIXELS, find_images, read_image
from cvmask.streams.sources.source import Frame, Notify, Source, ignore

_ANIMATED = ("GIF", "PNG", "WEBP")
_HEAD_BYTES = 1 << 20
# If a frame states 0.01 s or less, browsers show it for 0.1 s.
_SHORTEST_MS, _BROWSERS_MS = 10, 100
_MEASURED_FRAMES = 32
DEFAULT_RATE = Fraction(25)
_NUMBER = re.compile(r"%0?(\d+)?d")


class _Pictures(Source):
    """Pictures with times; `start_s`, `end_s` and `stride` as those of `Video`."""

    def __init__(self, name: str, start_s: float, end_s: float | None, stride: int, on_message: Notify) -> None:
        if stride < 1 or start_s < 0 or (end_s is not None and end_s <= start_s):
            raise ValueError(f"needs stride >= 1 and 0 <= start_s < end_s, got {stride}, {start_s} and {end_s}")
        self.name = name
        self._part = (start_s, end_s, stride)
        self._notify = on_message
        self._closed = False

    def close(self) -> None:
        """End before the next picture."""
        self._closed = True

    def _frames(self) -> Iterator[Frame]:
        start_s, end_s, stride = self._part
        wanted_from = None
        for index, time_s, picture in self._timed():
            if self._closed or (end_s is not None and time_s >= end_s):
                return
            if time_s < start_s:
                continue
            wanted_from = index if wanted_from is None else wanted_from
            if (index - wanted_from) % stride == 0 and (image := self._read(picture)) is not None:
                yield Frame(image, index, time_s, self.name)
        if wanted_from is None and start_s > 0 and not self._closed:
            raise SourceError(f"{self.name}: ends before the start at {start_s:g} s")

    def _is_part(self) -> bool:
        return self._part != (0.0, None, 1)

    @abstractmethod
    def _timed(self) -> Iterator[tuple[int, float, Any]]:
        """Give index, seconds since the first, and what `_read` makes the picture of."""

    @abstractmethod
    def _read(self, picture: Any) -> NDArray[np.uint8] | None:
        """Return the picture, shape (height, width, 3), BGR; None if it is damaged, which is reported and counted."""


class Animation(_Pictures):
    """Every frame of an animated GIF, PNG or WebP, whole and on white, once, for as long as browsers show it.

    A first picture of a PNG that is only for programs without animation is left out.

    Parameters
    ----------
    path
        A file for which `is_animation` is true.
    start_s, end_s, stride
        See `Video`.
    max_pixels
        Frames with more are refused.
    on_message
        Called with one line for what is damaged.

    Raises
    ------
    SourceError
        If Pillow cannot open it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        max_pixels: int = MAX_PIXELS,
        on_message: Notify = ignore,
    ) -> None:
        super().__init__(os.fspath(path), start_s, end_s, stride, on_message)
        try:
            self._picture = _opened(Path(path).read_bytes())
            self.size_wh = width, height = self._picture.size
            if width * height > max_pixels:
                raise SourceError(f"{self.name}: {width}x{height} pixels are more than the limit of {max_pixels}")
            self._count = int(self._picture.n_frames)
            self._first = int(bool(self._picture.info.get("default_image")))
            spent_ms = [self._go_to(self._first)]
        except SourceError:
            raise
        except Exception as error:  # what a damaged file raises depends on the format
            raise SourceError(f"{self.name}: Pillow cannot read this animation: {_words(error)}") from None
        with suppress(Exception):  # a later frame is reported when it is read
            spent_ms += [self._go_to(index) for index in range(self._first + 1, min(self._count, _MEASURED_FRAMES))]
        self.frame_rate = Fraction(1000 * len(spent_ms), sum(spent_ms)).limit_denominator(1001) / stride
        self.length = None if self._is_part() else self._count - self._first

    def _timed(self) -> Iterator[tuple[int, float, Any]]:
        time_ms = 0
        for index in range(self._first, self._count):
            try:
                lasts_ms = self._go_to(index)
                picture = self._picture.convert("RGBA")
            except Exception as error:
                self.lost += self._count - index
                self._notify(f"{self.name}: damaged, {self._count - index} frames are lost: {_words(error)}")
                return
            yield index - self._first, time_ms / 1000, picture
            time_ms += lasts_ms

    def _go_to(self, index: int) -> int:
        """Go to a frame; return for how many milliseconds it is shown."""
        self._picture.seek(index)
        self._picture.load()  # a WebP knows it only then
        lasts_ms = round(self._picture.info.get("duration") or 0)
        return lasts_ms if lasts_ms > _SHORTEST_MS else _BROWSERS_MS

    def _read(self, picture: Any) -> NDArray[np.uint8]:
        from PIL import Image

        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        flat = Image.alpha_composite(white, picture).convert("RGB")
        return np.ascontiguousarray(np.asarray(flat)[..., ::-1])


def is_animation(path: str) -> bool:
    """Return whether a file is an animated picture and Pillow is installed to read it."""
    try:
        if not os.path.isfile(path) or importlib.util.find_spec("PIL") is None:
            return False
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            # Most pictures are ruled out by their beginning, without Pillow.
            png = head.startswith(b"\x89PNG") and b"acTL" in head
            webp = head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)
            if not (png or webp or head.startswith(b"GIF8")):
                return False
            return bool(_opened(head + file.read()).is_animated)
    except Exception:  # a damaged picture is reported when it is read
        return False


def _opened(data: bytes) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that are below our limit
        return Image.open(io.BytesIO(data), formats=_ANIMATED)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


class NumberedFrames(_Pictures):
    """Picture files that follow each other at a rate: ``frame_%04d.png``, or all pictures of a folder.

    With a pattern, the times follow the numbers from the first one that exists: if one is missing, the frame before
    lasts longer, and a message says so. Pictures of a folder are sorted by name, with numbers by value. A picture that
    cannot be read is left out, reported, and counted in `lost`.

    Parameters
    ----------
    place
        A name with ``%d``, ``%04d`` or the like in its last part, or a folder.
    rate
        Frames a second; None: 25, and a message says so.
    start_s, end_s, stride
        See `Video`.
    max_pixels, on_message
        As for `Animation`.

    Raises
    ------
    SourceError
        If there is no such picture, or the first cannot be read.
    """

    def __init__(
        self,
        place: str | os.PathLike[str],
        rate: Fraction | None = None,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        stride: int = 1,
        max_pixels: int = MAX_PIXELS,
        on_message: Notify = ignore,
    ) -> None:
        super().__init__(os.fspath(place), start_s, end_s, stride, on_message)
        if os.path.isdir(place):
            self.paths = sorted(find_images(place), key=_by_value)  # frame_10 after frame_9
            self._numbers: Sequence[int] = range(len(self.paths))
        else:
            found = numbered(self.name)
            if not found:
                raise SourceError(f"{self.name}: no file has this name with a number in it")
            self.paths = [found[number] for number in sorted(found)]
            self._numbers = [number - min(found) for number in sorted(found)]
        if rate is None:
            on_message(f"{self.name}: 25 frames a second, since no rate is given")
        self._rate, self._max_pixels = rate or DEFAULT_RATE, max_pixels
        self.frame_rate = self._rate / stride
        self.length = None if self._is_part() else len(self.paths)
        image, _ = read_image(self.paths[0], max_pixels)
        self.size_wh = image.shape[1], image.shape[0]
        if missing := self._numbers[-1] + 1 - len(self.paths):
            on_message(f"{self.name}: {missing} numbers are missing: the frame before lasts longer")

    def _timed(self) -> Iterator[tuple[int, float, Any]]:
        for number, path in zip(self._numbers, self.paths):
            yield number, float(number / self._rate), path

    def _read(self, picture: str) -> NDArray[np.uint8] | None:
        try:
            return read_image(picture, self._max_pixels)[0]
        except SourceError as error:
            self.lost += 1
            self._notify(f"{error}: this frame is left out")
            return None


def is_numbered(name: str) -> bool:
    """Tell whether a name stands for numbered files: it has ``%d`` or ``%04d`` in its last part, and no file has it."""
    return bool(_NUMBER.search(os.path.basename(name))) and not os.path.exists(name)


def name_of(place: str) -> str:
    """Name what is made of numbered frames after what stands before the number, or after their folder."""
    before = _NUMBER.split(os.path.basename(place), maxsplit=1)[0].rstrip("_-. ")
    return before or os.path.basename(os.path.dirname(os.path.abspath(place)))


def numbered(name: str) -> dict[int, str]:
    """Find the files of a numbered name, by their numbers."""
    folder, last = os.path.split(name)
    before, width, after = _NUMBER.split(last, maxsplit=1)
    form = re.compile(rf"{re.escape(before)}(\d{{{width or 1},}}){re.escape(after)}", re.ASCII)
    paths = glob.glob(os.path.join(glob.escape(folder), glob.escape(before) + "*" + glob.escape(after)))
    matches = {path: form.fullmatch(os.path.basename(path)) for path in paths}
    return {int(match[1]): path for path, match in sorted(matches.items()) if match}


def _by_value(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path) if part]
