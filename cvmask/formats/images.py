"""Pictures: upright frames, and as PNG one mask per file, maps of instances or classes, crops and cutouts."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.palette import distinct_colors
from cvmask.errors import SinkError
from cvmask.formats.metadata import embed, png_chunk
from cvmask.formats.record import FileForEach, Record, object_ending
from cvmask.results.arrays import Picture, check_frame_of, label_of
from cvmask.results.detections import Detections
from cvmask.system.files import write_whole

PNG_KINDS = ("masks", "instances", "classes", "classes-grey")


def to_instance_map(detections: Detections, mask_threshold: float | None = None) -> NDArray[np.uint16]:
    """Give the number of the object at each pixel, from 1 in the order of the detections; 0 is none.

    Shape (height, width). Where masks overlap the smaller object is on top, as in drawings.
    """
    return _paint(detections, np.arange(1, len(detections) + 1), mask_threshold)


def to_class_map(detections: Detections, mask_threshold: float | None = None) -> NDArray[np.uint8]:
    """Give the class id plus 1 at each pixel; 0 is none. SinkError above 255."""
    values = detections.class_id + 1
    if len(values) and (values.max() > 255 or values.min() < 1):
        raise SinkError(f"a class map holds the class ids 0 to 254, got {values.max() - 1}: save instances")
    return _paint(detections, values, mask_threshold).astype(np.uint8)


def _paint(detections: Detections, values: NDArray[np.integer], threshold: float | None) -> NDArray[np.uint16]:
    painted = np.zeros(detections.frame_size, dtype=np.uint16)
    masks = detections.box_masks(threshold)
    for row in detections.largest_first().tolist():
        painted[masks[row].window][masks[row].mask] = values[row]
    return painted


def encode_png(picture: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """Encode grey of 8 or 16 bit, BGR or BGRA."""
    return bytes(cv2.imencode(".png", picture)[1].tobytes())


def encode_palette_png(indices: NDArray[np.uint8], palette_bgr: NDArray[np.uint8]) -> bytes:
    """Encode indices with their colours, shape (k, 3); OpenCV writes no PNG of this kind."""
    height, width = indices.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    rows = np.zeros((height, width + 1), dtype=np.uint8)
    rows[:, 1:] = indices
    chunks = {
        b"IHDR": header,
        b"PLTE": np.ascontiguousarray(palette_bgr[:, ::-1]).tobytes(),
        b"IDAT": zlib.compress(rows.tobytes()),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(name, data) for name, data in chunks.items())


class PngWriter(FileForEach):
    """Writes masks into a folder.

    Parameters
    ----------
    kind
        ``"masks"``: ``NAME_001_dog.png`` for each object, as large as the frame, 0 and 255.
        ``"instances"``: ``NAME.png`` of 16 bit, see `to_instance_map`.
        ``"classes"``: ``NAME.png`` of 8 bit with a palette, see `to_class_map`.
        ``"classes-grey"``: the same values as grey, for readers that turn a palette into colours.
    colors
        Of the classes, shape (k, 3), BGR; background is black.
    """

    def __init__(
        self,
        folder: Path,
        labels: Sequence[str],
        kind: str = "masks",
        colors: NDArray[np.uint8] | None = None,
        mask_threshold: float | None = None,
    ) -> None:
        if kind not in PNG_KINDS:
            raise ValueError(f"kind must be one of {', '.join(PNG_KINDS)}, got {kind!r}")
        super().__init__(folder)
        self._labels, self._kind, self._threshold = labels, kind, mask_threshold
        chosen = distinct_colors(255) if colors is None else np.asarray(colors, dtype=np.uint8)
        repeated = chosen[np.arange(255) % len(chosen)]
        self._palette = np.concatenate([np.zeros((1, 3), dtype=np.uint8), repeated])

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write the file or files of one record."""
        found = record.detections
        if self._kind == "instances":
            write_whole(self.path_for(record, ".png"), encode_png(to_instance_map(found, self._threshold)))
        elif self._kind == "classes-grey":
            write_whole(self.path_for(record, ".png"), encode_png(to_class_map(found, self._threshold)))
        elif self._kind == "classes":
            indices = to_class_map(found, self._threshold)
            write_whole(self.path_for(record, ".png"), encode_palette_png(indices, self._palette))
        else:
            self._write_masks(record)

    def _write_masks(self, record: Record) -> None:
        found = record.detections
        columns = zip(found.class_id.tolist(), found.each_box_mask(self._threshold))
        for number, (class_id, box_mask) in enumerate(columns, 1):
            picture = np.zeros(found.frame_size, dtype=np.uint8)
            picture[box_mask.window] = box_mask.mask * np.uint8(255)
            ending = object_ending(number, label_of(class_id, self._labels)) + ".png"
            write_whole(self.path_for(record, ending), encode_png(picture))


def cut_crops(frame: Picture, detections: Detections) -> Iterator[NDArray[np.uint8]]:
    """Cut out each box, BGR, shape (h, w, 3); ValueError if the frame is another one."""
    frame = check_frame_of(frame, detections.frame_size)
    for left, top, right, bottom in detections.boxes().tolist():
        yield frame[top:bottom, left:right].copy()


class CropsWriter(FileForEach):
    """Writes ``folder/NAME_001_dog.png`` for each object."""

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        super().__init__(folder)
        self._labels = labels

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write the crops of one record, which needs its frame."""
        if frame is None:
            raise ValueError("crops need the frame: write(record, frame)")
        crops = zip(record.detections.class_id.tolist(), cut_crops(frame, record.detections))
        for number, (class_id, crop) in enumerate(crops, 1):
            ending = object_ending(number, label_of(class_id, self._labels)) + ".png"
            write_whole(self.path_for(record, ending), embed(encode_png(crop), record.metadata))


def cut_out(
    frame: Picture, detections: Detections, mask_threshold: float | None = None, refine: bool = True
) -> Iterator[NDArray[np.uint8]]:
    """Cut each object out along its mask, BGRA, shape (h, w, 4), as large as its box.

    What is not the object is transparent black. The edges are drawn to those of the frame, unless `refine` is False.
    ValueError if the frame is another one.
    """
    frame = check_frame_of(frame, detections.frame_size)
    for box_mask in (detections.refined(frame) if refine else detections).each_box_mask(mask_threshold):
        picture = np.zeros((*box_mask.mask.shape, 4), dtype=np.uint8)
        picture[..., :3] = frame[box_mask.window] * box_mask.mask[..., None]
        picture[..., 3] = box_mask.mask * np.uint8(255)
        yield picture


class CutoutsWriter(FileForEach):
    """Writes ``folder/NAME_001_dog.png`` for each object, with an alpha channel."""

    def __init__(self, folder: Path, labels: Sequence[str], mask_threshold: float | None = None) -> None:
        super().__init__(folder)
        self._labels, self._threshold = labels, mask_threshold

    def write(self, record: Record, frame: Picture = None) -> None:
        """Write the cutouts of one record, which needs its frame."""
        if frame is None:
            raise ValueError("cutouts need the frame: write(record, frame)")
        found = record.detections
        pictures = zip(found.class_id.tolist(), cut_out(frame, found, self._threshold))
        for number, (class_id, picture) in enumerate(pictures, 1):
            ending = object_ending(number, label_of(class_id, self._labels)) + ".png"
            write_whole(self.path_for(record, ending), embed(encode_png(picture), record.metadata))


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
