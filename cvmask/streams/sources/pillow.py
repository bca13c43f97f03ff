"""Pictures that OpenCV cannot read, or reads wrongly, by Pillow (extra `pillow`) and libheif (extra `heif`)."""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError, install

# Pillow's name of each kind. Pillow reads no other kinds here, above all none that run another program.
_FORMATS = {
    **{"AVIF": "AVIF", "BigTIFF": "TIFF", "BMP": "BMP", "CUR": "CUR", "DDS": "DDS", "GIF": "GIF", "HEIF": "HEIF"},
    **{"ICNS": "ICNS", "ICO": "ICO", "JPEG 2000": "JPEG2000", "PCX": "PCX", "Photoshop file": "PSD"},
    **{"PNM": "PPM", "QOI": "QOI", "SGI": "SGI", "TGA": "TGA", "TIFF": "TIFF", "WebP": "WEBP", "XBM": "XBM"},
    **{"XPM": "XPM"},
}
_DEEP_MODES = ("I", "F")


def pillow_reads(kind: str) -> bool:
    """Tell whether the extra that reads this kind is installed."""
    needed = ("PIL", "pillow_heif") if kind == "HEIF" else ("PIL",)
    return kind in _FORMATS and all(importlib.util.find_spec(name) for name in needed)


def cure(kind: str) -> str:
    """Return what makes a picture of this kind readable."""
    saved = "save it as an 8-bit TIFF or PNG" if kind in ("TIFF", "BigTIFF") else "save it as a JPEG or PNG"
    if kind not in _FORMATS or pillow_reads(kind):
        return saved
    return f"{install('heif' if kind == 'HEIF' else 'pillow')}, or {saved}"


def read_with_pillow(data: bytes, kind: str, name: str | os.PathLike[str], max_pixels: int) -> NDArray[np.uint8]:
    """Decode the first picture of a file, upright.

    Returns
    -------
    Shape (height, width, 3), BGR; or (height, width, 4) with alpha, BGRA, not multiplied with it.

    Raises
    ------
    SourceError
        If it cannot be read, or is larger than `max_pixels`.
    """
    from PIL import Image, ImageOps

    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about odd tags, and about sizes below our limit
            with Image.open(io.BytesIO(data), formats=[_FORMATS[kind]]) as picture:
                if picture.width * picture.height > max_pixels:
                    size = f"{picture.width}x{picture.height}"
                    raise SourceError(f"{name}: {size} pixels are more than the limit of {max_pixels}")
                if picture.mode in _DEEP_MODES:
                    advice = "save it with 8 or 16 bits a value"
                    raise SourceError(f"{name}: this {kind} holds values of 32 bits: {advice}")
                return _as_bgr(ImageOps.exif_transpose(picture))
    except (SourceError, MemoryError):
        raise
    except Exception as error:  # what a damaged file raises depends on the format
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = "its form is unknown, or its beginning is damaged"
        raise SourceError(f"{name}: Pillow cannot read this {kind}: {reason}: {cure(kind)}") from None


def _as_bgr(picture: Any) -> NDArray[np.uint8]:
    if picture.mode.startswith("I;16"):
        upper = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.repeat(upper[..., np.newaxis], 3, axis=2)
    if picture.has_transparency_data:
        return cast("NDArray[np.uint8]", np.asarray(picture.convert("RGBA"))[..., [2, 1, 0, 3]])
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[..., ::-1])
