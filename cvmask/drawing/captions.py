"""Short texts on coloured plates: how large, where, in black or white."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.letters import write_words
from cvmask.system.interrupts import raise_if_stopped

SMALLEST_TEXT_PX = 6
MOST_HIDDEN = 0.2
_SMALL_PLATES = 2  # an object is small if it is not larger than this many plates
_CELLS = 16  # height of a plate in cells of the grid on which places are compared
_SHORTEST = 12  # a text of this many letters is not shortened
_SCORE = re.compile(r" [01]\.\d+$")

Color = tuple[int, int, int]


class Plate(NamedTuple):
    """A text ready to be painted.

    Attributes
    ----------
    ink
        Shape (height, width): how much of each pixel the letters cover, 0 to 255.
    """

    ink: NDArray[np.uint8]

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.ink.shape[1], self.ink.shape[0]


def text_height_px(frame_size: tuple[int, int]) -> int:
    """Choose the height of capitals for a picture, so that it can be read when the picture is fitted."""
    height, width = frame_size
    return int(max(8, 0.0135 * (height * width) ** 0.5))


def make_plate(text: str, frame_size: tuple[int, int], height_px: int | None = None) -> Plate | None:
    """Make a plate; shrink it to the picture's width and height.

    `height_px` is that of capitals; None: as `text_height_px` says.

    A text that would then be too small to read is shortened, except for a score at its end; None if even that
    is too small.
    """
    height_px = height_px or text_height_px(frame_size)
    plate = _shrunk(text, frame_size, height_px)
    while plate is None and len(text) > _SHORTEST and (shorter := _cut_short(text)) != text:
        text, plate = shorter, _shrunk(shorter, frame_size, height_px)
    return plate


def _shrunk(text: str, frame_size: tuple[int, int], height_px: int) -> Plate | None:
    plate = _write(text, height_px)
    fit = min(frame_size[1] / plate.size_wh[0], frame_size[0] / plate.size_wh[1])
    while fit < 1 and height_px >= SMALLEST_TEXT_PX:
        height_px = min(height_px - 1, int(height_px * fit))
        plate = _write(text, max(1, height_px))
        fit = min(frame_size[1] / plate.size_wh[0], frame_size[0] / plate.size_wh[1])
    return plate if height_px >= SMALLEST_TEXT_PX else None


def _cut_short(text: str) -> str:
    """Leave out a quarter of it, at least a letter, before the score."""
    name, gap, score = text.rpartition(" ") if _SCORE.search(text) else (text, "", "")
    kept = name.removesuffix("...")
    return kept[: len(kept) * 3 // 4] + "..." + gap + score


def _write(text: str, height_px: int) -> Plate:
    words = write_words(text, height_px)
    pad, gap = max(2, round(height_px * 0.4)), round(height_px * 0.6)
    width = sum(word.shape[1] for word in words) + gap * (len(words) - 1)
    # The descender's room counts half: then capitals look as if they were in the middle.
    ink = np.zeros((pad + round(height_px * 1.2) + pad, width + 2 * pad), dtype=np.uint8)
    left = pad
    for word in words:
        top = pad + round(height_px * 1.5) - len(word)
        ink[top : top + len(word), left : left + word.shape[1]] = word[: len(ink) - top]
        left += word.shape[1] + gap
    return Plate(ink)


def place_plates(
    plates: Sequence[Plate], boxes_ltrb: NDArray[np.int32], frame_size: tuple[int, int]
) -> list[tuple[int, int] | None]:
    """Find a place for each plate at its box and inside the picture, if possible not on an earlier plate.

    The first choice is above the box at its left, then in its top left corner if that hides little of the object, then
    below it; then the same at its right. If all are taken, the least covered place is used.

    No plate hides a small object, one that is not much larger than a plate, nor more than a fifth of itself below
    earlier plates: where there are many, some are left out.

    Returns
    -------
    Left and top of each plate; None where no place is left for it.
    """
    if not plates:
        return []
    sizes_wh = np.array([plate.size_wh for plate in plates], dtype=np.int64)
    boxes = boxes_ltrb.astype(np.int64)
    choices, possible = _choices(sizes_wh, boxes, frame_size)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    hidden = _overlap(choices, boxes[:, None]) / area[:, None]
    costs = np.where(possible, np.maximum(hidden - MOST_HIDDEN, 0), np.inf)
    # For each cell of a grid, whether a plate lies on it, and its share of small objects. So a plate costs the
    # same however many there are, and large plates in large pictures cost no more than small ones.
    cell = max(1, int(np.median(sizes_wh[:, 1])) // _CELLS)
    grid_size = frame_size[0] // cell + 2, frame_size[1] // cell + 2
    is_small = area <= _SMALL_PLATES * np.median(sizes_wh.prod(axis=1))
    taken, small = np.zeros(grid_size, dtype=np.uint8), _shares(_to_cells(boxes[is_small], cell), grid_size)
    corners: list[tuple[int, int] | None] = []
    for places, cells, cost in zip(choices.tolist(), _to_cells(choices, cell).tolist(), costs.tolist()):
        raise_if_stopped()
        chosen = _cheapest(taken, small, cells, cost)
        if chosen is not None:
            left, top, right, bottom = cells[chosen]
            taken[top:bottom, left:right] = 1
        corners.append(None if chosen is None else (places[chosen][0], places[chosen][1]))
    return corners


def _to_cells(boxes: NDArray[np.int64], cell: int) -> NDArray[np.int64]:
    """Convert pixels to cells of that side, at least one; shape (..., 4) as left, top, right, bottom."""
    cells = (boxes + cell // 2) // cell
    cells[..., 2:] = np.maximum(cells[..., 2:], cells[..., :2] + 1)
    return cells


def _shares(boxes: NDArray[np.int64], grid_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return each cell's share of the boxes."""
    shares = np.zeros(grid_size, dtype=np.float32)
    for left, top, right, bottom in boxes.tolist():
        shares[top:bottom, left:right] += 1 / ((right - left) * (bottom - top))
    return shares


def _cheapest(
    taken: NDArray[np.uint8], small: NDArray[np.float32], places: list[list[int]], costs: list[float]
) -> int | None:
    """Return the first place with the lowest cost, including the share under other plates; None if none is free.

    A place is not free where a plate would hide a small object, or where other plates would hide it.
    """
    best, lowest = None, np.inf
    for number, ((left, top, right, bottom), cost) in enumerate(zip(places, costs)):
        if cost >= lowest:
            continue
        here = slice(top, bottom), slice(left, right)
        covered = cv2.countNonZero(taken[here]) / ((right - left) * (bottom - top))
        if covered > MOST_HIDDEN or cost + covered >= lowest or cv2.sumElems(small[here])[0] > MOST_HIDDEN:
            continue
        best, lowest = number, cost + covered
        if not lowest:
            break
    return best


def _choices(
    sizes_wh: NDArray[np.int64], boxes: NDArray[np.int64], frame_size: tuple[int, int]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the places of each plate: (n, 8, 4) as left, top, right, bottom, and (n, 8) whether inside the picture.

    The last place is for plates that have no other.
    """
    left, top, right, bottom = boxes.T
    width, height = sizes_wh.T
    above, low, flush_right, room = top - height, bottom - height, right - width, frame_size[0] - height
    x = np.stack([left, left, left, flush_right, flush_right, flush_right, left, left], axis=1)
    forced = np.minimum(np.maximum(above, 0), room)
    y = np.stack([above, top, bottom, above, top, bottom, low, forced], axis=1)
    possible = (y >= 0) & (y <= room[:, None])
    possible[:, -1] = ~possible[:, :-1].any(axis=1)
    x = np.maximum(np.minimum(x, frame_size[1] - width[:, None]), 0)
    return np.stack([x, y, x + width[:, None], y + height[:, None]], axis=2), possible


def _overlap(some: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """The area that boxes share; shapes (..., 4) that broadcast."""
    corner = np.maximum(some[..., :2], others[..., :2])
    sides = np.maximum(np.minimum(some[..., 2:], others[..., 2:]) - corner, 0)
    shared: NDArray[np.int64] = sides[..., 0] * sides[..., 1]
    return shared


def paint_plate_(canvas: NDArray[np.uint8], plate: Plate, corner: tuple[int, int], color: Color) -> None:
    """Paint a plate of this colour, with letters in black or white; `corner` is left and top."""
    left, top = corner
    width, height = plate.size_wh
    # From the plate's colour to that of its letters, channel by channel.
    channels = [
        cv2.convertScaleAbs(plate.ink, alpha=(letter - ground) / 255, beta=ground)
        for ground, letter in zip(color, text_color(tuple(color)))
    ]
    canvas[top : top + height, left : left + width] = cv2.merge(channels)


@functools.lru_cache(maxsize=512)
def text_color(background: Color) -> Color:
    """Choose black or white, whichever has more contrast on a BGR colour (WCAG 2 relative luminance)."""
    channels = np.array(background) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.0722, 0.7152, 0.2126))
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
