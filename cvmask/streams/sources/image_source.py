"""Picture files: one, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.headers import Header, read_header
from cvmask.streams.sources.source import Frame, Source, local_path

MAX_PIXELS = 200_000_000
_BAND_PIXELS = 1 << 16
SUFFIXES = (
    *(".avif", ".bmp", ".dib", ".gif", ".hdr", ".jp2", ".jpe", ".jpeg", ".jpg"),
    *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".tif", ".tiff", ".webp"),
)


def read_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read the first picture of a file, whatever its name says it is.

    Greys become BGR, 16 bits a value become the upper 8, EXIF rotation is applied, and what is
    transparent is laid on white (where a picture has both, it is not rotated). A BMP whose alpha is 0
    everywhere has none.

    Parameters
    ----------
    path
        A regular file: pipes and devices are refused, since reading them could wait forever.
    max_pixels
        Refuse more than this before decoding; 200 million are 600 MB.

    Returns
    -------
    The picture, shape (height, width, 3), BGR, and warnings: that it is cut short, or that further
    pictures of the file were left out. Damage inside a JPEG is not among them: libjpeg notices about half
    of it, and tells stderr alone.

    Raises
    ------
    SourceError
        If it cannot be read; the message names the file and the reason.
    """
    return decode_image(_read_bytes(path), path, max_pixels)


def decode_image(
    data: bytes, name: str | os.PathLike[str], max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Decode the bytes of a picture file, as `read_image` does; `name` is for messages."""
    header = read_header(data)
    if header is None:
        raise SourceError(f"{name}: no picture that is known here, it starts with {data[:12]!r}")
    if header.size_wh:
        _check_pixels(header.size_wh, name, max_pixels)
    try:
        image = _decode(data, header, name)
    except MemoryError:
        raise SourceError(f"{name}: this {header.kind} needs more memory than there is") from None
    # A damaged header may tell no size, or another one.
    _check_pixels((image.shape[1], image.shape[0]), name, max_pixels)
    return image, tuple(_warnings(header))


def _check_pixels(size_wh: tuple[int, int], name: str | os.PathLike[str], max_pixels: int) -> None:
    width, height = size_wh
    if width * height > max_pixels:
        raise SourceError(f"{name}: {width}x{height} pixels are more than the limit of {max_pixels}")


class Images(Source):
    """Picture files, in the given order.

    Parameters
    ----------
    paths
        The files.
    on_error
        Called with the SourceError of a file that cannot be read, and the next file follows. None:
        it is raised and ends the iteration.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        name: str = "",
        max_pixels: int = MAX_PIXELS,
        on_error: Callable[[SourceError], None] | None = None,
    ) -> None:
        self.paths = [os.fspath(path) for path in paths]
        self.name = name or (self.paths[0] if len(self.paths) == 1 else f"{len(self.paths)} pictures")
        self.length = len(self.paths)
        self._max_pixels = max_pixels
        self._on_error = on_error

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                image, warnings = read_image(path, self._max_pixels)
            except SourceError as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
                continue
            yield Frame(image, index, None, path, warnings)

    def close(self) -> None:
        """Do nothing: no file stays open between pictures."""


class Still(Source):
    """One picture that is decoded already."""

    def __init__(self, image: NDArray[np.uint8], name: str, warnings: tuple[str, ...] = ()) -> None:
        self.name, self.length = name, 1
        self.size_wh = image.shape[1], image.shape[0]
        self._frame = Frame(image, 0, None, name, warnings)

    def _frames(self) -> Iterator[Frame]:
        yield self._frame

    def close(self) -> None:
        """Do nothing: nothing is open."""


def find_images(place: str | os.PathLike[str]) -> list[str]:
    """Find the picture files of a folder (by their endings, not in its folders) or of a glob pattern.

    A pattern takes every file it matches, whatever its ending; ``**`` goes down into folders.

    Returns
    -------
    Sorted paths, at least one.

    Raises
    ------
    SourceError
        If there is none, or the folder cannot be read.
    """
    text = os.fspath(place)
    if os.path.isdir(text):
        try:
            inside = [path for path in Path(text).iterdir() if path.suffix.lower() in SUFFIXES]
        except OSError as error:
            raise SourceError(f"{text}: cannot be read: {error.strerror or error}") from error
        found = [os.fspath(path) for path in inside if not path.is_dir()]
        videos = f"videos are named, as in {os.path.join(text, '*.mp4')}"
        wanted = f"a folder must hold pictures ({' '.join(SUFFIXES)}; {videos})"
    else:
        found = [path for path in glob.glob(text, recursive=True) if not os.path.isdir(path)]
        wanted = "a pattern must match files"
    if not found:
        raise SourceError(f"{text}: {wanted}, found none")
    return sorted(found)


def _read_bytes(place: str | os.PathLike[str]) -> bytes:
    path = local_path(os.fspath(place))
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(f"{path}: is a folder, not a picture")
        if not stat.S_ISREG(mode):
            raise SourceError(f"{path}: is a pipe or a device, not a picture file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except MemoryError:
        raise SourceError(f"{path}: is larger than the memory there is") from None
    if not data:
        raise SourceError(f"{path}: is empty (0 bytes)")
    return data


def _decode(data: bytes, header: Header, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    # OpenCV 4.14 gives up on a JPEG without its end, older ones do not; with an end all decode what is there.
    complete = data if header.whole or header.kind != "JPEG" else data + b"\xff\xd9"
    buffer = np.frombuffer(complete, dtype=np.uint8)
    try:
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if header.alpha else None
        if image is not None and (image.dtype.itemsize > 2 or image.dtype.kind == "f"):
            # They have no white that is known, and OpenCV reads some of them as other colours.
            cure = "save it with 8 or 16 bits a value"
            raise SourceError(f"{path}: this {header.kind} holds {image.dtype} values: {cure}")
        if image is not None and image.ndim == 3 and image.shape[2] == 4 and _has_alpha(image, header):
            return _on_white(image)
        image = cv2.imdecode(buffer, cv2.IMREAD_COLOR)
    except cv2.error as error:
        reason = " ".join(error.err.split())
        raise SourceError(f"{path}: OpenCV refuses this {header.kind}: {reason}") from error
    if image is None:
        reason = f"damaged, or of a form that OpenCV {cv2.__version__} cannot read"
        reason = reason if header.whole else "cut short before its first row"
        raise SourceError(f"{path}: this {header.kind} is {reason}")
    return cast("NDArray[np.uint8]", image)


def _has_alpha(bgra: NDArray[Any], header: Header) -> bool:
    # Many programs leave it 0 in a BMP, and mean a picture that can be seen.
    return header.kind != "BMP" or bool(bgra[..., 3].any())


def _on_white(bgra: NDArray[Any]) -> NDArray[np.uint8]:
    full = np.float32(np.iinfo(bgra.dtype).max)
    pixels = bgra.reshape(-1, 4)
    mixed = np.empty((len(pixels), 3), np.uint8)
    # All at once the fractions would take many times the picture's own memory.
    for start in range(0, len(pixels), _BAND_PIXELS):
        band = pixels[start : start + _BAND_PIXELS]
        alpha = band[:, 3:] / full
        mixed[start : start + _BAND_PIXELS] = (255 * (band[:, :3] / full * alpha + (1 - alpha))).round()
    return mixed.reshape(*bgra.shape[:2], 3)


def _warnings(header: Header) -> Iterator[str]:
    if not header.whole:
        yield f"this {header.kind} is cut short: what is missing is grey or blurred"
    if header.more:
        yield f"this {header.kind} holds several pictures: only the first is used"
