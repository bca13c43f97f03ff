"""Detections drawn on a frame."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.captions import (
    SMALLEST_TEXT_PX,
    Color,
    make_plate,
    paint_plate_,
    place_plates,
    text_height_px,
)
from cvmask.drawing.letters import drawable
from cvmask.drawing.palette import distinct_colors
from cvmask.results.arrays import Picture, check_frame_of, check_range, label_of
from cvmask.results.detections import Detections
from cvmask.results.masks import BoxMask
from cvmask.system.interrupts import raise_if_stopped

MOST_PX = 500  # of lines and letters


def draw(
    frame: Picture,
    detections: Detections,
    *,
    labels: Sequence[str] | None = None,
    colors: NDArray[np.uint8] | Sequence[Sequence[int]] | None = None,
    color_by: str = "class",
    masks: bool = True,
    contours: bool = True,
    boxes: bool = True,
    captions: bool = True,
    scores: bool = True,
    opacity: float = 0.45,
    mask_threshold: float | None = None,
    line_px: int | None = None,
    text_px: int | None = None,
    refine: bool = False,
) -> NDArray[np.uint8]:
    """Draw detections on a copy of a frame, large objects first.

    Lines and letters grow with the picture, but those of a small object are smaller, so that it can be seen; the
    smallest have no outline. A plate is left out if it would hide a small object, or be hidden by other plates,
    wherever it is put. Where masks overlap, the smaller object's colour shows.

    Parameters
    ----------
    frame
        BGR, shape (height, width, 3); it is not changed.
    labels
        Names for ``class_id``; default: the detections' own names, or "class 3" if there are none.
        OpenCV 5 draws accents, Greek, Cyrillic, Hebrew, Chinese, Japanese and Korean. OpenCV 4 has ASCII letters only:
        accents are dropped, other letters become ``?``, and a name of nothing else becomes "class 3".
    colors
        Shape (k, 3), BGR, used in turn; default `palette.distinct_colors`.
    color_by
        ``"class"``, or ``"instance"``: by tracker_id if there is one, else by index.
    masks, contours, boxes, captions, scores
        Which parts to draw: the filled mask, its outline, the box, the plate with the label, the
        score on that plate.
    opacity
        Of the filled mask, 0 to 1.
    mask_threshold
        A pixel belongs to the mask where the enlarged soft mask is greater; None: as the detections' paste says.
    line_px, text_px
        Width of lines and height of capitals in pixels, from 1 and from 6 up; None: by picture and object.
    refine
        Align the edges of masks with those of the frame, see `Detections.refined`.

    Raises
    ------
    TypeError, ValueError
        If the frame is not a picture or has another size than the detections, or an option is out of range.
    """
    if not isinstance(detections, Detections):
        raise TypeError(f"detections must be cvmask.Detections, as detect gives them, got {type(detections).__name__}")
    source: NDArray[np.uint8] = np.ascontiguousarray(check_frame_of(frame, detections.frame_size))
    _check_options(color_by, opacity, mask_threshold, line_px, text_px)
    if isinstance(labels, str):
        raise TypeError(f"labels must be a list of names, as model.labels is, got the text {labels!r}")
    canvas: NDArray[np.uint8] = source.copy()
    order = detections.largest_first()
    found = detections[order].refined(source) if refine else detections[order]
    paints = _choose_colors(detections, colors, color_by)[order].tolist()
    lines = _line_widths_px(found, line_px)
    if masks or contours:
        for box_mask, color, line in zip(found.each_box_mask(mask_threshold), paints, lines):
            raise_if_stopped()
            if masks:
                blend_(canvas, source, box_mask, color, opacity)
            if contours and (line_px is not None or min(box_mask.mask.shape) >= _SMALLEST_OUTLINED_PX):
                outline_(canvas, box_mask, color, line)
    if boxes:
        for box, color, line in zip(found.boxes().tolist(), paints, lines):
            rectangle_(canvas, box, color, line)
    if captions:
        _caption_(canvas, found, paints, write_captions(found, labels, scores), text_px)
    return canvas


def line_width_px(frame_size: tuple[int, int]) -> int:
    """Choose the width of lines for a picture."""
    height, width = frame_size
    return max(1, int((height * width) ** 0.5 / 600 + 0.5))


_LINE_SHARE = 1 / 24
_TEXT_SHARE = 1 / 3
_SMALLEST_OUTLINED_PX = 8  # the outline of a smaller object would hide all of it
_USUAL_SMALLEST_TEXT_PX = 8


def _line_widths_px(found: Detections, line_px: int | None) -> list[int]:
    """Choose the width of lines for each object: that of the picture, or less."""
    if line_px is not None:
        return [line_px] * len(found)
    boxes = found.boxes()
    short = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    return [int(width) for width in np.clip((short * _LINE_SHARE).round(), 1, line_width_px(found.frame_size))]


def _text_heights_px(found: Detections, text_px: int | None) -> list[int]:
    """Choose the height of capitals for each object: that of the picture, or less."""
    if text_px is not None:
        return [text_px] * len(found)
    boxes = found.boxes()
    long = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    usual = text_height_px(found.frame_size)
    return [int(height) for height in np.clip(long * _TEXT_SHARE, min(_USUAL_SMALLEST_TEXT_PX, usual), usual)]


def write_captions(detections: Detections, labels: Sequence[str] | None, scores: bool) -> list[str]:
    """Return the text of each plate: "dog 0.93", with a tracker "dog #7 0.93"."""
    names: Sequence[str | None] = [None] * len(detections)
    if labels is not None:
        names = [labels[i] if 0 <= i < len(labels) else None for i in detections.class_id.tolist()]
    elif detections.labels is not None:
        names = detections.labels.tolist()
    texts = [_name(name, class_id) for name, class_id in zip(names, detections.class_id.tolist())]
    if detections.tracker_id is not None:
        texts = [f"{text} #{number}" for text, number in zip(texts, detections.tracker_id.tolist())]
    if scores:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, detections.confidence.tolist())]
    return texts


def _name(label: str | None, class_id: int) -> str:
    name = "" if label is None else drawable(label)
    return name if name.strip("? ") else label_of(class_id)


def blend_(
    canvas: NDArray[np.uint8], source: NDArray[np.uint8], box_mask: BoxMask, color: Color, opacity: float
) -> None:
    """Lay a colour over the masked pixels of `source`, into `canvas`; opacity 1 hides `source`."""
    tinted = cv2.convertScaleAbs(source[box_mask.window], alpha=1 - opacity)
    pixel = np.array([[[round(channel * opacity) for channel in color]]], np.uint8)
    share = cv2.repeat(pixel, *tinted.shape[:2])  # OpenCV 4.12 and 4.13 add a single colour a hundred times as slowly
    cv2.copyTo(cv2.add(tinted, share, dst=tinted), box_mask.mask.view(np.uint8), canvas[box_mask.window])


def outline_(canvas: NDArray[np.uint8], box_mask: BoxMask, color: Color, width_px: int) -> None:
    """Draw the outlines of a mask, those of its holes too."""
    corner = (box_mask.left, box_mask.top)
    mask = box_mask.mask.view(np.uint8)
    rings, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
    # Less than a pixel of tolerance takes the stairs out of the line, and most of its cost.
    smooth = [cv2.approxPolyDP(ring, 0.8, True) for ring in rings]
    cv2.drawContours(canvas, smooth, -1, color, width_px, cv2.LINE_AA)


def rectangle_(canvas: NDArray[np.uint8], box_ltrb: Sequence[int], color: Color, width_px: int) -> None:
    """Draw a box with its whole line inside the picture; right and bottom are exclusive."""
    height, width = canvas.shape[:2]
    edge = (width_px + 1) // 2 if width_px > 1 else 0  # how far lines of OpenCV reach on either side
    left, top = max(box_ltrb[0], edge), max(box_ltrb[1], edge)
    right, bottom = min(box_ltrb[2], width - edge) - 1, min(box_ltrb[3], height - edge) - 1
    cv2.rectangle(canvas, (left, top), (right, bottom), color, width_px)


def _caption_(
    canvas: NDArray[np.uint8],
    found: Detections,
    colors: Sequence[Color],
    texts: Sequence[str],
    text_px: int | None,
) -> None:
    boxes = found.boxes()
    made = []
    for row, (text, height_px) in enumerate(zip(texts, _text_heights_px(found, text_px))):
        raise_if_stopped()
        made.append((row, make_plate(text, found.frame_size, height_px)))
    # Small objects choose first: a plate can hide them, and a large object has more places for its own.
    fitting = [(row, plate) for row, plate in reversed(made) if plate is not None]
    rows = [row for row, _ in fitting]
    corners = place_plates([plate for _, plate in fitting], boxes[rows], found.frame_size)
    for (row, plate), corner in reversed(list(zip(fitting, corners))):
        raise_if_stopped()
        if corner is not None:
            paint_plate_(canvas, plate, corner, colors[row])


def _choose_colors(
    detections: Detections, colors: NDArray[np.uint8] | Sequence[Sequence[int]] | None, color_by: str
) -> NDArray[np.uint8]:
    by = detections.class_id
    if color_by == "instance":
        ids = detections.tracker_id
        by = np.arange(len(detections), dtype=np.int32) if ids is None else ids
    table = distinct_colors(256) if colors is None else _table(colors)
    return table[by % len(table)].astype(np.uint8)


def _table(colors: NDArray[np.uint8] | Sequence[Sequence[int]]) -> NDArray[np.generic]:
    wanted = "colors must be of shape (k, 3), BGR, whole numbers from 0 to 255"
    try:
        table = np.asarray(colors)
    except ValueError:
        raise ValueError(f"{wanted}, got rows of several lengths") from None
    if table.ndim != 2 or table.shape[1] != 3 or not len(table):
        raise ValueError(f"{wanted}, got shape {table.shape}")
    if table.dtype.kind not in "iuf" or not (np.equal(np.mod(table, 1), 0) & (table >= 0) & (table <= 255)).all():
        raise ValueError(f"{wanted}, got {table.tolist()}")
    return table


def _check_options(
    color_by: str, opacity: float, mask_threshold: float | None, line_px: int | None, text_px: int | None
) -> None:
    if color_by not in ("class", "instance"):
        raise ValueError(f'color_by must be "class" or "instance", got {color_by!r}')
    check_range("opacity", opacity, 0, 1)
    if mask_threshold is not None:
        check_range("mask_threshold", mask_threshold, 0, 1)
    for name, value, least in (("line_px", line_px, 1), ("text_px", text_px, SMALLEST_TEXT_PX)):
        if value is not None and (type(value) is not int or not least <= value <= MOST_PX):
            raise ValueError(f"{name} must be a whole number from {least} to {MOST_PX}, got {value!r}")
