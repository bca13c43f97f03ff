"""Annotated pictures and videos of a batch, in the folder ``annotated`` of its output."""

from __future__ import annotations

import posixpath
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.batches.storage import Place, write_bytes
from cvmask.errors import CvmaskError, SinkError
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sinks.image_sink import encode_image
from cvmask.streams.sinks.video_sink import VideoFile
from cvmask.streams.sources.source import Frame

FOLDER, CLIPS = "annotated", "annotated/_clips"


def write_picture(place: Place, image: NDArray[np.uint8]) -> None:
    """Write the annotated form of a picture; one that is too large for its format becomes a PNG beside that name."""
    data = encode_image(posixpath.splitext(place.path)[1], image)
    if data is None:
        place = Place(place.root, f"{place.path}.png")
        data = encode_image(".png", image)
    if data is None:
        raise SinkError(f"{place.shown}: OpenCV cannot write {image.shape[1]}x{image.shape[0]} pixels so")
    write_bytes(place, data)


def clip_place(output: Place, part: str) -> Place:
    """Where the piece of an annotated video lies that belongs to a part, until all pieces are joined."""
    return output / CLIPS / f"{part}.mp4"


class Clip:
    """The annotated frames of one part of a video, encoded into a temporary file on this machine."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cvmask-clip-")
        self._path = Path(self._folder.name) / "clip.mp4"
        self._video = VideoFile(self._path, use_av=True)
        self.first_s: float | None = None

    def add(self, image: NDArray[np.uint8], frame: Frame) -> None:
        """Encode a frame."""
        self.first_s = frame.time_s if self.first_s is None else self.first_s
        self._video.write(image, frame)

    def finish(self, place: Place) -> None:
        """Write the clip to its place; nothing if it has no frame."""
        with self._folder:
            self._video.close()
            if self.first_s is not None:
                write_bytes(place, self._path.read_bytes())

    def discard(self) -> None:
        """End without a file."""
        with self._folder:
            self._video.discard()


def need_av() -> None:
    """CvmaskError if annotated videos cannot be made here."""
    if not has_av():
        raise CvmaskError("annotated videos of a batch need PyAV: pip install 'cvmask[av]'")
