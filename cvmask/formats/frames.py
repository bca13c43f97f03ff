"""Pictures and frames of videos as files, upright, for whoever reads the results beside them."""

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

    A whole JPEG that lies upright is taken as it is. Anything else becomes a PNG: other readers leave out an EXIF
    orientation, show what is transparent, or do not know the format.
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
        """Write the picture and give its place."""
        if frame is None:
            raise ValueError("frames are pictures: write(record, frame)")
        ending, data = frame_file(record, check_frame_of(frame, record.detections.frame_size))
        path = self.path_for(record, ending)
        write_whole(path, data)
        return path
