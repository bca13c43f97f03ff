"""Frames out of a run of bytes: JPEG after JPEG, or raw pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.jpegs import ReadSome, split_jpegs
from cvmask.streams.sources.source import Notify


def decode_jpegs(
    read_some: ReadSome, name: str, on_damaged: Callable[[], None]
) -> Iterator[NDArray[np.uint8]]:
    """Decode each JPEG; a damaged one is told and left out, never shown in part."""
    for data in split_jpegs(read_some, on_damaged):
        try:
            image, warnings = decode_image(data, name)
        except SourceError:
            image = None
        if image is None or warnings:
            on_damaged()
        else:
            yield image


class DamagedCount:
    """Counts the damaged JPEGs of a live stream; tells of the 1st, the 10th, the 100th and so on."""

    def __init__(self, name: str, notify: Notify) -> None:
        self._name, self._notify = name, notify
        self._count, self._tell_at = 0, 1

    def add(self) -> None:
        """Count one more."""
        self._count += 1
        if self._count == self._tell_at:
            self._tell_at *= 10
            self._notify(f"{self._name}: damaged JPEGs left out so far: {self._count}")


def split_raw(
    read_some: ReadSome, size_wh: tuple[int, int], on_cut: Callable[[int], None]
) -> Iterator[NDArray[np.uint8]]:
    """Cut raw BGR pixels into frames, shape (height, width, 3); `on_cut` gets the bytes of one that is cut short."""
    width, height = size_wh
    length = width * height * 3
    held = bytearray()
    while some := read_some():
        held += some
        while len(held) >= length:
            yield np.frombuffer(bytes(held[:length]), dtype=np.uint8).reshape(height, width, 3).copy()
            del held[:length]
    if held:
        on_cut(len(held))
