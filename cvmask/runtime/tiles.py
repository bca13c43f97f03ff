"""Large pictures in overlapping tiles, and once as a whole: what is found becomes one list of objects."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import Callable, Optional, Union

import numpy as np
from numpy.typing import NDArray

from cvmask.graph.facts import Resizer
from cvmask.results.arrays import check_range, whole_number
from cvmask.results.detections import Detections
from cvmask.results.masks import threshold_of

Tile = Union[int, str, None]
OVERLAP = 0.2
SMALLEST_TILE = 32
_ALIKE = 0.4  # masks of two tiles are of one object from this intersection over union up
_SAME = 0.5  # masks that share so much of the smaller one are of one object
_EDGE_PX, _EDGE_SHARE = 2, 0.01  # a box that comes so near to the edge of its tile may go on beyond
_PART = 0.9  # of the score of a large object: parts of it that have less are none of their own
_POINTS = 24  # samples along each side of what is compared
_CHUNK = 512  # pairs that are compared at a time

Detect = Callable[[NDArray[np.uint8]], Detections]
Progress = Optional[Callable[[int, int], None]]


def check_tile(tile: object, overlap: object) -> None:
    """ValueError or TypeError unless `tile` is None, "auto" or a side in pixels, and `overlap` is from 0 to 0.8."""
    check_range("overlap", overlap, 0, 0.8)
    if tile is None or tile == "auto":
        return
    if isinstance(tile, str):
        raise ValueError(f"tile must be auto or a side in pixels, got {tile!r}")
    whole_number("tile", tile, least=SMALLEST_TILE)


def tile_wh(tile: int | str, resizer: Resizer) -> tuple[int, int]:
    """Width and height of a tile in pixels; "auto" is the size that the model sees without shrinking it.

    ValueError for "auto" if the model takes pictures as they are, which have no size of their own.
    """
    if tile != "auto":
        return int(tile), int(tile)
    if resizer.kind == "fixed":
        return resizer.fixed_wh
    side = resizer.min_dimension or resizer.max_dimension
    if resizer.max_dimension and resizer.kind != "at_least":
        side = min(side, resizer.max_dimension)
    if side < SMALLEST_TILE:
        raise ValueError("this model takes pictures of any size as they are: give the side of a tile in pixels")
    return side, side


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where the tiles along one axis begin: evenly spread, the first at 0, the last at the end of the picture."""
    if length <= side:
        return [0]
    count = math.ceil((length - overlap * side) / (side - overlap * side) - 1e-9)
    return [round(number * (length - side) / (count - 1)) for number in range(count)]


def detect_tiled(
    detect: Sequence[Detect],
    frame: NDArray[np.uint8],
    size_wh: tuple[int, int],
    overlap: float = OVERLAP,
    mask_threshold: float | None = None,
    progress: Progress = None,
) -> Detections:
    """Find objects in overlapping tiles of a frame and in the frame as a whole.

    The result is the same to the bit whatever the order is in which tiles are looked at.

    Parameters
    ----------
    detect
        Functions from a frame to Detections; each runs in a thread of its own, on the next tile that is free.
    frame
        uint8, shape (H, W, 3), BGR. Tiles are views of it.
    size_wh
        Of a tile, in pixels.
    overlap
        0 to 0.8: the share of a tile's side that it has in common with the next tile, at least.
    mask_threshold
        The edge of a mask, 0 to 1; None: that of the Detections.
    progress
        Called with the views that are done, and how many there are.

    Returns
    -------
    Detections in pixels of the frame, best first.
    """
    height, width = frame.shape[:2]
    columns, rows = starts(width, size_wh[0], overlap), starts(height, size_wh[1], overlap)
    views = [(0, 0, width, height)]
    if len(columns) * len(rows) > 1:
        views += [(x, y, min(x + size_wh[0], width), min(y + size_wh[1], height)) for y in rows for x in columns]
    pixels = (frame[top:bottom, left:right] for left, top, right, bottom in views)
    found = list(_each(detect, pixels, len(views), progress))
    if len(views) == 1:
        return found[0]
    return merge(found, np.array(views, np.float32), mask_threshold)


def _each(
    detect: Sequence[Detect], views: Iterable[NDArray[np.uint8]], count: int, progress: Progress
) -> Iterator[Detections]:
    """Give what is found in each view, in their order."""
    free: SimpleQueue[Detect] = SimpleQueue()
    for one in detect:
        free.put(one)

    def look(view: NDArray[np.uint8]) -> Detections:
        one = free.get()
        try:
            return one(np.ascontiguousarray(view))
        finally:
            free.put(one)

    if len(detect) == 1:
        results: Iterable[Detections] = map(look, views)
        pool = None
    else:
        pool = ThreadPoolExecutor(len(detect), "cvmask-tile")
        results = pool.map(look, views)
    try:
        for done, found in enumerate(results, 1):
            if progress is not None:
                progress(done, count)
            yield found
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Found:
    """All that was found, in a fixed order.

    `boxes`, `view` (n, 4) in pixels of the frame, `number` (n,) of the view, 0 for the whole frame.
    """

    boxes: NDArray[np.float32]
    soft: NDArray[np.float32]
    score: NDArray[np.float32]
    class_id: NDArray[np.int32]
    view: NDArray[np.float32]
    number: NDArray[np.int64]
    corners: bool  # whether the first sample of a soft mask lies on the edge of its box, or half a cell within
    cut: float

    def __getitem__(self, rows: NDArray[np.intp]) -> _Found:
        names = ("boxes", "soft", "score", "class_id", "view", "number")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def sample(self, rows: NDArray[np.intp], xs: NDArray[np.float32], ys: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read soft masks at points of the frame: (k, number of ys, number of xs), bilinear, 0 outside the box."""
        boxes, soft = self.boxes[rows], self.soft[rows]
        soft = _read(soft, ys, boxes[:, 1], boxes[:, 3], 1, self.corners)
        return _read(soft, xs, boxes[:, 0], boxes[:, 2], 2, self.corners)

    def area(self, rows: NDArray[np.intp], within: NDArray[np.float32]) -> NDArray[np.float32]:
        """Estimate the pixels of masks within rectangles (k, 4)."""
        window = _common(self.boxes[rows], within)
        share: NDArray[np.float32] = (self.sample(rows, *_grid(window)) > self.cut).mean((1, 2), dtype=np.float32)
        return _sides(window) * share


def _read(
    values: NDArray[np.float32],
    at: NDArray[np.float32],
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    axis: int,
    corners: bool,
) -> NDArray[np.float32]:
    cells = values.shape[axis]
    share = (at - low[:, None]) / np.maximum(high - low, np.float32(1e-3))[:, None]
    place = np.clip(share * (cells - 1) if corners else share * cells - 0.5, 0, cells - 1)
    before = np.clip(place.astype(np.intp), 0, max(cells - 2, 0))
    shape = (len(at), -1, 1) if axis == 1 else (len(at), 1, -1)
    first = np.take_along_axis(values, before.reshape(shape), axis)
    second = np.take_along_axis(values, np.minimum(before + 1, cells - 1).reshape(shape), axis)
    result = first + (second - first) * (place - before).astype(np.float32).reshape(shape)
    inside: NDArray[np.float32] = result * ((share >= 0) & (share <= 1)).reshape(shape)
    return inside


def _common(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """What rectangles (k, 4) have in common; of no width or height if that is nothing."""
    low, high = np.maximum(one[:, :2], other[:, :2]), np.minimum(one[:, 2:], other[:, 2:])
    return np.concatenate([low, np.maximum(low, high)], 1)


def _sides(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    sides: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return sides


def _grid(window: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points in the middle of equal cells: x (k, 24) and y (k, 24)."""
    middle = (np.arange(_POINTS, dtype=np.float32) + 0.5) / _POINTS
    return tuple(window[:, [a]] + (window[:, [a + 2]] - window[:, [a]]) * middle for a in (0, 1))  # type: ignore[return-value]


def merge(found: Sequence[Detections], views: NDArray[np.float32], mask_threshold: float | None = None) -> Detections:
    """Make one list of what was found in the frame, ``found[0]``, and in its tiles.

    Masks of one class are compared where both views see them, by their intersection over the smaller of the two. Of an
    object that several tiles see whole, the best one stays. Those that fit into no tile come from the whole frame; if
    it does not show them, their pieces are joined.

    Parameters
    ----------
    found
        In pixels of its view each.
    views
        Shape (n, 4): left, top, right, bottom of the views in pixels of the frame, the frame first.
    mask_threshold
        The edge of a mask, 0 to 1; None: that of the Detections.
    """
    whole = found[0]
    every = _gather(found, views, threshold_of(whole.mask_paste, mask_threshold))
    edge = np.maximum(_EDGE_PX, _EDGE_SHARE * (views[1, 2:] - views[1, :2]))
    is_cut, fits = _is_cut(every, views, edge), _fits(every.boxes, views, edge)
    # A tile that could see an object whole is to be believed: neither the small view of the frame nor a piece of it.
    every_kept = np.flatnonzero(~(fits & (is_cut | (every.number == 0))))
    every, is_cut = every[every_kept], is_cut[every_kept]

    pairs = _pairs(every)
    alive = np.ones(len(every.score), bool)
    from_frame = every.number == 0
    best = _best(np.flatnonzero(~is_cut & ~from_frame), pairs, alive)
    _settle_large(every, np.flatnonzero(from_frame), best, pairs, alive)
    sure = alive & ~is_cut
    for row in np.flatnonzero(is_cut & ~from_frame).tolist():
        alive[row] = not any(sure[other] for other in pairs.get(row, ()))
    pieces = np.flatnonzero(is_cut & alive & ~from_frame)
    boxes, soft, score, class_id = _join(every, pieces, pairs)
    rows = np.flatnonzero(alive & (~is_cut | from_frame))
    boxes, soft = np.concatenate([every.boxes[rows], boxes]), np.concatenate([every.soft[rows], soft])
    score, class_id = np.concatenate([every.score[rows], score]), np.concatenate([every.class_id[rows], class_id])
    order = np.lexsort((*boxes.T[::-1], class_id, -score))
    named = [one for one in found if one.labels is not None]
    names = {int(number): str(name) for one in named for number, name in zip(one.class_id, one.labels)}  # type: ignore[arg-type]
    labels = None if whole.labels is None else np.array([names[number] for number in class_id[order].tolist()], np.str_)
    return Detections(
        xyxy=boxes[order],
        confidence=score[order],
        class_id=class_id[order],
        soft_masks=soft[order],
        frame_size=whole.frame_size,
        mask_paste=whole.mask_paste,
        labels=labels,
    )


def _gather(found: Sequence[Detections], views: NDArray[np.float32], cut: float) -> _Found:
    """Put all into one order: the best first, equal ones by class, place and view."""
    counts = [len(one) for one in found]
    number = np.repeat(np.arange(len(found)), counts)
    boxes = np.concatenate([one.xyxy for one in found]) + views[number][:, [0, 1, 0, 1]]
    score = np.concatenate([one.confidence for one in found])
    class_id = np.concatenate([one.class_id for one in found])
    order = np.lexsort((number, *boxes.T[::-1], class_id, -score))
    soft = np.concatenate([one.soft_masks for one in found])
    corners = found[0].mask_paste != "tutorial"
    every = _Found(boxes, soft, score, class_id, views[number], number, corners, cut)
    return every[order]


def _is_cut(every: _Found, views: NDArray[np.float32], edge: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes reach an edge of their view that is no edge of the frame."""
    frame = views[0]
    low = (every.boxes[:, :2] < every.view[:, :2] + edge) & (every.view[:, :2] > frame[:2])
    high = (every.boxes[:, 2:] > every.view[:, 2:] - edge) & (every.view[:, 2:] < frame[2:])
    cut: NDArray[np.bool_] = (low | high).any(1)
    return cut


def _fits(boxes: NDArray[np.float32], views: NDArray[np.float32], edge: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which boxes lie within a tile, and do not reach an edge of it that is no edge of the frame."""
    result = np.ones(len(boxes), bool)
    for axis in (0, 1):
        spans = np.unique(views[1:, [axis, axis + 2]], axis=0)
        low = np.where(spans[:, 0] > views[0, axis], spans[:, 0] + edge[axis], -np.inf)
        high = np.where(spans[:, 1] < views[0, axis + 2], spans[:, 1] - edge[axis], np.inf)
        result &= ((boxes[:, [axis]] >= low) & (boxes[:, [axis + 2]] <= high)).any(1)
    return result


def _pairs(every: _Found) -> dict[int, list[int]]:
    """Of each row, the rows of other views and of its class that show the same object."""
    pairs: dict[int, list[int]] = {}
    first, second = _neighbours(every)
    for begin in range(0, len(first), _CHUNK):
        one, other = first[begin : begin + _CHUNK], second[begin : begin + _CHUNK]
        both = _common(every.view[one], every.view[other])
        areas = every.area(one, both), every.area(other, both)
        window = _common(_common(every.boxes[one], every.boxes[other]), both)
        xs, ys = _grid(window)
        on = (every.sample(one, xs, ys) > every.cut) & (every.sample(other, xs, ys) > every.cut)
        shared = _sides(window) * on.mean((1, 2), dtype=np.float32)
        smaller, union = np.minimum(*areas), np.maximum(areas[0] + areas[1] - shared, 1)
        # Two tiles see the same of an object: less in common is another one that lies before it.
        tiles = (every.number[one] > 0) & (every.number[other] > 0)
        same = (smaller >= 1) & (shared >= _SAME * smaller) & (~tiles | (shared >= _ALIKE * union))
        for a, b in zip(one[same].tolist(), other[same].tolist()):
            pairs.setdefault(a, []).append(b)
            pairs.setdefault(b, []).append(a)
    return {row: sorted(others) for row, others in pairs.items()}


def _neighbours(every: _Found) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows of one class and two views whose boxes meet."""
    firsts, seconds = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for number in np.unique(every.class_id):
        rows = np.flatnonzero(every.class_id == number)
        rows = rows[np.argsort(every.boxes[rows, 0], kind="stable")]
        left, top, right, bottom = every.boxes[rows].T
        ends = np.searchsorted(left, right, "left")  # those that begin before this one ends
        for place, (row, end) in enumerate(zip(rows.tolist(), ends.tolist())):
            after = slice(place + 1, max(end, place + 1))
            meets = (top[after] < bottom[place]) & (bottom[after] > top[place])
            near = rows[after][meets]
            near = near[every.number[near] != every.number[row]]
            firsts.append(np.full(len(near), row, np.intp))
            seconds.append(near)
    return np.concatenate(firsts), np.concatenate(seconds)


def _best(rows: NDArray[np.intp], pairs: dict[int, list[int]], alive: NDArray[np.bool_]) -> list[int]:
    """Of the same object seen several times, keep the best; `alive` is changed in place."""
    kept = np.zeros(len(alive), bool)
    for row in rows.tolist():
        kept[row] = alive[row] = not any(kept[other] for other in pairs.get(row, ()))
    return [int(row) for row in np.flatnonzero(kept)]


def _settle_large(
    every: _Found, large: NDArray[np.intp], best: list[int], pairs: dict[int, list[int]], alive: NDArray[np.bool_]
) -> None:
    """Decide between an object that fits into no tile and what tiles show of it; `alive` is changed in place.

    Tiles that cover half of it show that it is several objects; what is less, and less sure, is a part of it.
    """
    known = set(best)
    for row in large.tolist():
        parts = np.array([other for other in pairs.get(row, ()) if other in known and alive[other]], np.intp)
        if not len(parts):
            continue
        boxes = every.boxes[parts]
        here = np.repeat(every.boxes[[row]], len(parts), 0)
        covered = every.area(parts, _common(boxes, here)).sum()
        own = every.area(np.array([row], np.intp), every.boxes[[row]])[0]
        if covered >= _SAME * own:
            alive[row] = False
        else:
            alive[parts[every.score[parts] < _PART * every.score[row]]] = False


def _join(
    every: _Found, pieces: NDArray[np.intp], pairs: dict[int, list[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]]:
    """Join the pieces of each object: the box around them, and at each point the largest of their soft masks."""
    groups: list[list[int]] = []
    left = set(pieces.tolist())
    for piece in pieces.tolist():
        if piece not in left:
            continue
        left.remove(piece)
        group = [piece]
        seen = {int(every.number[piece])}
        for one in group:  # it grows meanwhile
            for other in pairs.get(one, ()):
                # One view shows one piece of an object, the best one here.
                if other in left and int(every.number[other]) not in seen:
                    left.remove(other)
                    seen.add(int(every.number[other]))
                    group.append(other)
        groups.append(group)
    cells_h, cells_w = every.soft.shape[1:]
    boxes, soft = np.empty((len(groups), 4), np.float32), np.empty((len(groups), cells_h, cells_w), np.float32)
    for number, group in enumerate(groups):
        rows = np.sort(np.array(group, np.intp))
        boxes[number, :2], boxes[number, 2:] = every.boxes[rows, :2].min(0), every.boxes[rows, 2:].max(0)
        if len(rows) == 1:
            soft[number] = every.soft[rows[0]]
            continue
        left, top, right, bottom = boxes[number].tolist()
        xs, ys = _places(left, right, cells_w, every.corners), _places(top, bottom, cells_h, every.corners)
        shown = every.sample(rows, np.repeat(xs[None], len(rows), 0), np.repeat(ys[None], len(rows), 0))
        soft[number] = shown.max(0)
    firsts = np.array([min(group) for group in groups], np.intp)
    return boxes, soft, every.score[firsts], every.class_id[firsts]


def _places(low: float, high: float, cells: int, corners: bool) -> NDArray[np.float32]:
    """Where the samples of a soft mask lie along one side of its box."""
    number = np.arange(cells, dtype=np.float32)
    share = number / max(cells - 1, 1) if corners else (number + 0.5) / cells
    return (low + share * (high - low)).astype(np.float32)
