"""Writes pictures and video frames as upright files, for programs that read the results beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.formats.images import encode_png
from cvmask.formats.metadata import embed
from cvmask.formats.record import FileForEach, Record
from cvmask.results.arrays import Picture, check_frame_of
from cvmask.system.files import write_whole


def frame_file(record: Record, frame: NDArray[np.uint8]) -> tuple[str, bytes]:
    """Give the ending and the bytes of a picture that every reader sees as `frame`.

    A complete, upright JPEG is copied. Anything else becomes a PNG, because other readers may ignore an EXIF
    orientation, show transparent pixels, or not know the format.
    """
    if record.image_path is not None and record.metadata.upright:
        try:
            data = record.image_path.read_bytes()
        except OSError:
            data = b""
        if data.startswith(b"\xff\xd8\xff") and data.endswith(b"\xff\xd9"):
            return ".jpg", data
    return ".png", embed(encode_png(frame), record.metadata)


class FramesWriter(FileForEach):
    """Writes ``folder/NAME.jpg`` or ``folder/NAME.png`` for each record, see `frame_file`."""

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write the picture of one record, which needs its frame."""
        self.save(record, frame)

    def save(self, record: Record, frame: Picture) -> Path:
        """Write the picture and return its path."""
        if frame is None:
            raise ValueError("frames are pictures: write(record, frame)")
        ending, data = frame_file(record, check_frame_of(frame, record.detections.frame_size))
        path = self.path_for(record, ending)
        write_whole(path, data)
        return path
