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

from cvmask.errors import SourceError, install
from cvmask.formats.metadata import NO_METADATA, Metadata
from cvmask.streams.sources.bmp import decode_bmp, mended_bmp
from cvmask.streams.sources.headers import ALL, Header, first_gif_frame, read_header
from cvmask.streams.sources.pam import decode_pam
from cvmask.streams.sources.picture_metadata import read_metadata
from cvmask.streams.sources.pillow import cure, pillow_reads, read_with_pillow
from cvmask.streams.sources.source import Frame, Source, local_path
from cvmask.streams.sources.tiff import decode_tiff_alpha

MAX_PIXELS = 200_000_000
_BAND_PIXELS = 1 << 16
_BRIGHTEST_OF_12_BITS = 4095 >> 8  # in the upper 8 of 16 bits
SUFFIXES = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".hdr", ".heic", ".heif", ".hif", ".j2k", ".jfif", ".jp2", ".jpe"),
    *(".jpeg", ".jpg", ".pam", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".ras", ".tif", ".tiff", ".webp"),
)
# Read as pictures when named, but not taken from a folder. FFmpeg would make a video of one frame of them.
RARE_SUFFIXES = (
    *(".cri", ".cur", ".dds", ".dpx", ".exr", ".fits", ".gem", ".icb", ".icns", ".ico", ".im1", ".im8", ".im24"),
    *(".im32", ".j2c", ".jls", ".jpc", ".jps", ".jpx", ".jxl", ".ljpg", ".pcd", ".pct", ".pcx", ".pfm", ".pgx", ".phm"),
    *(".pict", ".pix", ".psd", ".ptx", ".qoi", ".rgba", ".sgi", ".sun", ".svg", ".targa", ".tga", ".vbn", ".vda"),
    *(".vst", ".wbmp", ".xbm", ".xface", ".xpm", ".xwd"),
)
_TGA_SUFFIXES = (".icb", ".targa", ".tga", ".vda", ".vst")  # old ones have no signature


def read_image(
    path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Read the first picture of a file, whatever its ending.

    Grey becomes BGR, and of 16 bits a value the upper 8 are kept. The picture is turned upright as its EXIF data or
    its format say, and laid on white where it is transparent. An alpha of 0 everywhere in a BMP is ignored. If
    OpenCV cannot read the picture, Pillow does if it is installed.

    Parameters
    ----------
    path
        A regular file: pipes and devices are refused, since reading them could wait forever.
    max_pixels
        Refuse more than this before decoding; 200 million are 600 MB.

    Returns
    -------
    The picture, shape (height, width, 3), BGR, and warnings: that it is cut short, or that further
    pictures of the file were left out. There is none for damage inside a JPEG: libjpeg notices about half
    of it, and only writes to stderr.

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
    if header is None and Path(name).suffix.lower() in _TGA_SUFFIXES:
        header = Header("TGA", odd=ALL)
    if header is None:
        raise SourceError(f"{name}: not a known kind of picture, it starts with {data[:12]!r}")
    if header.size_wh:
        _check_pixels(header.size_wh, name, max_pixels)
    try:
        image = _decode(data, header, name, max_pixels)
    except MemoryError:
        raise SourceError(f"{name}: this {header.kind} needs more memory than there is") from None
    # A damaged header may state no size, or a wrong one.
    _check_pixels((image.shape[1], image.shape[0]), name, max_pixels)
    return image, tuple(_warnings(header, image))


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
                data = _read_bytes(path)
                image, warnings = decode_image(data, path, self._max_pixels)
            except SourceError as error:
                if self._on_error is None:
                    raise
                self._on_error(error)
                continue
            yield Frame(image, index, None, path, warnings, metadata=read_metadata(data))

    def close(self) -> None:
        """Do nothing: no file stays open between pictures."""


class Still(Source):
    """One decoded picture."""

    def __init__(
        self,
        image: NDArray[np.uint8],
        name: str,
        warnings: tuple[str, ...] = (),
        metadata: Metadata = NO_METADATA,
    ) -> None:
        self.name, self.length = name, 1
        self.size_wh = image.shape[1], image.shape[0]
        self._frame = Frame(image, 0, None, name, warnings, metadata=metadata)

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


def _decode(data: bytes, header: Header, path: str | os.PathLike[str], max_pixels: int) -> NDArray[np.uint8]:
    kind = header.kind
    if header.odd and pillow_reads(kind):
        return _flat(read_with_pillow(data, kind, path, max_pixels), header, premultiplied=False)
    if header.odd:
        what = f"{kind} files" if header.odd == ALL else f"a {kind} {header.odd}"
        raise SourceError(f"{path}: OpenCV does not read {what}: {cure(kind)}")
    if header.size_wh is None and header.whole:
        raise SourceError(f"{path}: this {kind} does not say its size where it must: it is damaged")
    own = {"BMP": decode_bmp, "PAM": decode_pam}.get(kind, decode_tiff_alpha if header.apart else None)
    image = own(data) if own else None
    if image is None and header.apart:
        raise SourceError(f"{path}: OpenCV does not find the alpha of this {kind}: {cure(kind)}")
    image = _decode_cv(data, header, path) if image is None else image
    if image is None and header.whole and pillow_reads(kind):
        return _flat(read_with_pillow(data, kind, path, max_pixels), header, premultiplied=False)
    if image is None:
        reason = f"damaged, or of a form that OpenCV {cv2.__version__} cannot read: {cure(kind)}"
        reason = reason if header.whole else "cut short before its first row"
        raise SourceError(f"{path}: this {kind} is {reason}")
    return _upright(_flat(image, header, header.premultiplied), header.orientation)


def _decode_cv(data: bytes, header: Header, path: str | os.PathLike[str]) -> NDArray[Any] | None:
    # OpenCV 4.14 gives up on a JPEG without its end, older ones do not; with an end all decode what is there.
    if not header.whole and header.kind == "JPEG":
        data += b"\xff\xd9"
    elif header.kind == "GIF":
        data = first_gif_frame(data)
    elif header.kind == "BMP":
        data = mended_bmp(data)
    buffer = np.frombuffer(data, dtype=np.uint8)
    color = cv2.IMREAD_COLOR
    if header.orientation != 1 or header.kind in ("AVIF", "WebP"):
        color |= cv2.IMREAD_IGNORE_ORIENTATION  # some versions turn some of them; here it is done for all
    try:
        raw = header.alpha or header.largest
        image = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED) if raw else None
        if image is not None and (image.dtype.itemsize > 2 or image.dtype.kind == "f"):
            # Their value of white is unknown, and OpenCV reads some of them in wrong colours.
            advice = "save it with 8 or 16 bits a value"
            raise SourceError(f"{path}: this {header.kind} holds {image.dtype} values: {advice}")
        if image is not None and header.kind == "PNM":
            return _scaled(image, header, text=data[1:2] in b"123")
        if image is not None and image.ndim == 3 and image.shape[2] == 4:
            return image
        return cv2.imdecode(buffer, color)
    except cv2.error as error:
        reason = " ".join(error.err.split())
        raise SourceError(f"{path}: OpenCV refuses this {header.kind}: {reason}: {cure(header.kind)}") from error


def _scaled(image: NDArray[Any], header: Header, text: bool) -> NDArray[np.uint8]:
    # OpenCV has already done it for 8-bit values written as text.
    if image.dtype.itemsize > 1 or not text:
        steps = np.minimum(np.arange(np.iinfo(image.dtype).max + 1), header.largest) * 255
        image = ((steps + header.largest // 2) // header.largest).astype(np.uint8)[image]
    return cast("NDArray[np.uint8]", cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image)


def _upright(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    # EXIF 2.3, tag 0x0112.
    turned = image.transpose(1, 0, 2) if orientation >= 5 else image
    turned = turned[::-1] if orientation in (3, 4, 7, 8) else turned
    turned = turned[:, ::-1] if orientation in (2, 3, 6, 7) else turned
    return np.ascontiguousarray(turned)


def _flat(image: NDArray[Any], header: Header, premultiplied: bool) -> NDArray[np.uint8]:
    """Lay what is transparent on white."""
    if image.shape[2] == 3:
        return image
    # Many programs leave alpha at 0 in a BMP that should be visible.
    if header.kind == "BMP" and not image[..., 3].any():
        return np.ascontiguousarray(image[..., :3])
    deep = image.dtype.itemsize > 1
    full = np.float32(header.largest if header.largest and deep else np.iinfo(image.dtype).max)
    pixels = image.reshape(-1, 4)
    mixed = np.empty((len(pixels), 3), np.uint8)
    # The fractions of the whole picture at once would take many times its memory.
    for start in range(0, len(pixels), _BAND_PIXELS):
        band = np.minimum(pixels[start : start + _BAND_PIXELS] / full, 1)
        alpha = band[:, 3:]
        color = band[:, :3] if premultiplied else band[:, :3] * alpha
        mixed[start : start + _BAND_PIXELS] = (255 * np.minimum(color + (1 - alpha), 1)).round()
    return mixed.reshape(*image.shape[:2], 3)


def _warnings(header: Header, image: NDArray[np.uint8]) -> Iterator[str]:
    if not header.whole:
        yield f"this {header.kind} is cut short: what is missing is grey or blurred"
    if header.more:
        moves = header.kind in ("GIF", "PNG", "WebP") and not pillow_reads("GIF")
        all_of_them = f"; all of them with Pillow: {install('pillow')}" if moves else ""
        yield f"this {header.kind} holds several pictures: only the first is used{all_of_them}"
    if header.deep and 0 < int(image.max()) <= _BRIGHTEST_OF_12_BITS:
        cure = "if it is of 12 bits or fewer, it is too dark: scale its values to 65535"
        yield f"this {header.kind} has 16 bits a value, but no value above 4095: {cure}"
