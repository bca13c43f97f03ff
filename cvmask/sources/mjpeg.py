"""Frames out of a run of bytes: JPEG after JPEG, or raw pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.sources.headers import jpeg_length
from cvmask.sources.images import decode_image

ReadSome = Callable[[], bytes]
_START = b"\xff\xd8\xff"
_LARGEST_JPEG_BYTES = 64 << 20


def split_jpegs(read_some: ReadSome) -> Iterator[bytes]:
    """Find each whole JPEG in a run of bytes; whatever stands between them is passed over.

    Parameters
    ----------
    read_some
        Gives the next bytes, as many as there are; none at the end.
    """
    held = bytearray()
    while True:
        start = held.find(_START)
        if start > 0:
            del held[:start]
        length = jpeg_length(held) if start >= 0 else None
        if length is not None:
            yield bytes(held[:length])
            del held[:length]
            continue
        if start < 0:
            # The first bytes of a JPEG may be here already.
            del held[:-2]
        if len(held) > _LARGEST_JPEG_BYTES:
            raise SourceError(f"a JPEG of more than {_LARGEST_JPEG_BYTES >> 20} MB: not a stream of JPEGs")
        some = read_some()
        if not some:
            return
        held += some


def decode_jpegs(
    read_some: ReadSome, name: str, on_damaged: Callable[[], None]
) -> Iterator[NDArray[np.uint8]]:
    """Decode each JPEG; a damaged one is told and left out, never shown in part."""
    for data in split_jpegs(read_some):
        try:
            image, _ = decode_image(data, name)
        except SourceError:
            on_damaged()
        else:
            yield image


def split_raw(read_some: ReadSome, size_wh: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Cut raw BGR pixels into frames, shape (height, width, 3); SourceError if the last one is cut short."""
    width, height = size_wh
    length = width * height * 3
    held = bytearray()
    while some := read_some():
        held += some
        while len(held) >= length:
            yield np.frombuffer(bytes(held[:length]), dtype=np.uint8).reshape(height, width, 3).copy()
            del held[:length]
    if held:
        needed = f"raw frames of {width}x{height} need {length} bytes each"
        raise SourceError(f"{needed}, the last has {len(held)}")
