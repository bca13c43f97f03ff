"""Masks between inferences: the objects of key frames, which the network saw, carried to the frames between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Union, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.arrays import whole_number
from cvmask.results.detections import Detections
from cvmask.results.masks import enlarge, threshold_of, whole_boxes
from cvmask.streams.motion import Chain, Floats, Motion, Step, fit_affine, grid, sample, smooth_inside
from cvmask.streams.tracking import match

Every = Union[int, Literal["auto"]]

# Values along each side of a carried mask: as many as that of the key has, within these limits.
_LEAST_SIDE, _MOST_SIDE = 56, 128
# A key's mask is read from signed distances to its edge, on a raster of so many cells and cells of margin.
_LEAST_CELLS, _MOST_CELLS, _MARGIN = 96, 256, 4
# With more objects each is carried by the dense flow alone.
_MANY = 20
# Small pixels around where the flow says that an object is.
_BORDER = 4
_LEAST_IOU = 0.2
_TRUST = 12.0
_LONGEST = 60


def check_every(every: object) -> Every:
    """Return `detect_every`; TypeError or ValueError unless it is "auto" or a whole number from 1 to 60."""
    if isinstance(every, str):
        if every != "auto":
            raise ValueError(f'detect_every must be a whole number from 1 to {_LONGEST} or "auto", got {every!r:.40}')
        return "auto"
    number = whole_number("detect_every", every)
    if number > _LONGEST:
        raise ValueError(f'detect_every must be a whole number from 1 to {_LONGEST} or "auto", got {number}')
    return number


class Key:
    """The objects of a key frame, ready to be carried.

    Parameters
    ----------
    detections
        What the network found there.
    motion
        The motion of the video.
    mask_threshold
        Where the edge of a soft mask lies; None: where it usually does.
    """

    def __init__(self, detections: Detections, motion: Motion, mask_threshold: float | None = None) -> None:
        self.detections, self.motion = detections, motion
        self.threshold = threshold_of(detections.mask_paste, mask_threshold)
        self.side = int(np.clip(max(detections.soft_masks.shape[1:]), _LEAST_SIDE, _MOST_SIDE))
        cells = int(np.clip(max(detections.soft_masks.shape[1:]), _LEAST_CELLS, _MOST_CELLS))
        pixels = enlarge(detections.soft_masks, detections.xyxy, detections.frame_size, detections.mask_paste)
        self.objects = [
            _Object(_cover(soft, cells, self.threshold), whole, xyxy, motion)
            for soft, whole, xyxy in zip(pixels, detections.boxes().tolist(), detections.xyxy)
        ]

    def cover(self) -> NDArray[np.uint8]:
        """Give where its objects are, and two pixels around: shape (h, w), 255 or 0, in small pixels."""
        union = np.zeros(self.motion.size_wh[::-1], dtype=np.uint8)
        for one in self.objects:
            np.maximum(union, one.small, out=union)
        return np.asarray(cv2.dilate((union > 127).astype(np.uint8) * 255, np.ones((5, 5), np.uint8)), dtype=np.uint8)


class _Object:
    """One object of a key frame: signed distances to the edge of its mask, in pixels of the frame, positive inside."""

    def __init__(self, cover: Floats, whole: Sequence[int], xyxy: Floats, motion: Motion) -> None:
        left, top, right, bottom = whole
        width, height = right - left, bottom - top
        size_wh = cover.shape[::-1]
        self._distances = _distances(cover, whole, motion.frame_size, max(width, height) / max(size_wh))
        cells = np.array([width / size_wh[0], height / size_wh[1]], dtype=np.float32)
        # From a small pixel's place to the raster's: q = p * scale + shift.
        self._scale = 1 / (motion.scale_xy * cells)
        self._shift = (0.5 / motion.scale_xy - (left, top)) / cells - 0.5 + _MARGIN
        size = motion.size_wh
        self.small = np.clip(self.read(grid(*size)) * (motion.scale_xy[0] * 255) + 127.5, 0, 255).astype(np.uint8)
        # The network's box lies around its mask as it did in the key frame.
        edges, tight = _edges(self._distances), xyxy
        if edges is not None:
            tight = np.clip(edges - _MARGIN, 0, np.tile(size_wh, 2)) * np.tile(cells, 2) + np.tile((left, top), 2)
        self.offsets = (xyxy - tight) / np.tile(np.maximum(tight[2:] - tight[:2], 1e-3), 2)

    def read(self, positions: Floats) -> Floats:
        """Read the distances at positions of the key frame, shape (..., 2), in small pixels."""
        places = positions * self._scale + self._shift
        return cast("Floats", sample(self._distances, places.astype(np.float32, copy=False)))


def _cover(soft: Floats, cells: int, threshold: float) -> Floats:
    """How much a mask, given by its pixels, covers of each cell of a raster, 0 to 1; `cells` along the longer side."""
    height, width = soft.shape
    cell = max(width, height) / cells
    size_wh = max(2, round(width / cell)), max(2, round(height / cell))
    if cell > 1:
        covered = (soft > threshold).astype(np.float32)
        return np.asarray(cv2.resize(covered, size_wh, interpolation=cv2.INTER_AREA), dtype=np.float32)
    fine = np.asarray(cv2.resize(soft, size_wh, interpolation=cv2.INTER_LINEAR))
    return (fine > threshold).astype(np.float32)


def _distances(cover: Floats, whole: Sequence[int], frame_size: tuple[int, int], cell: float) -> Floats:
    # An object that touches the edge of the frame goes on behind it.
    beyond = (whole[0] <= 0, whole[1] <= 0, whole[2] >= frame_size[1], whole[3] >= frame_size[0])
    padded = np.asarray(cv2.copyMakeBorder(cover, _MARGIN, _MARGIN, _MARGIN, _MARGIN, cv2.BORDER_REPLICATE))
    sides = ((slice(None), slice(0, _MARGIN)), (slice(0, _MARGIN), slice(None)),
             (slice(None), slice(-_MARGIN, None)), (slice(-_MARGIN, None), slice(None)))  # fmt: skip
    for side, replicated in zip(sides, beyond):
        if not replicated:
            padded[side] = 0
    solid = (padded > 0.5).astype(np.uint8)
    if not solid.any():
        return np.full(padded.shape, -_MARGIN * cell, dtype=np.float32)
    inner = cv2.distanceTransform(solid, cv2.DIST_L2, 3)
    outer = cv2.distanceTransform(1 - solid, cv2.DIST_L2, 3)
    distances = np.where(solid > 0, inner - 0.5, 0.5 - outer)
    # A cell that is covered in part knows better where in it the edge lies.
    partly = (padded > 0.02) & (padded < 0.98)
    distances[partly] = padded[partly] - 0.5
    return (np.clip(distances, -_MARGIN, _MARGIN) * cell).astype(np.float32)


def _edges(distances: Floats) -> Floats | None:
    """Left, top, right and bottom of what is above 0, in pixels and parts of pixels; None if nothing is."""
    ends = []
    for axis in (0, 1):
        most = distances.max(axis=axis)
        on = np.flatnonzero(most > 0)
        if not len(on):
            return None
        first, last = int(on[0]), int(on[-1])
        low = first - most[first] / max(most[first] - most[first - 1], 1e-6) if first else -0.5
        high = last + most[last] / max(most[last] - most[last + 1], 1e-6) if last + 1 < len(most) else last + 0.5
        ends.append((low + 0.5, high + 0.5))
    return np.array([ends[0][0], ends[1][0], ends[0][1], ends[1][1]], dtype=np.float32)


class _Samples(NamedTuple):
    """A window in small pixels: left, top, right, bottom, and the positions in it that are read, (side, side, 2)."""

    window: tuple[int, int, int, int]
    points: Floats


def _sample_grid(window: tuple[int, int, int, int], mask_side: int) -> _Samples:
    left, top, right, bottom = window
    side = mask_side * 9 // 7
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    x, y = left - 0.5 + steps * (right - left), top - 0.5 + steps * (bottom - top)
    points = np.empty((side, side, 2), dtype=np.float32)
    points[..., 0], points[..., 1] = x, y[:, None]
    return _Samples(window, points)


class Arrival:
    """What a chain says about every object of its key, in the frame where the chain ends."""

    def __init__(self, key: Key, chain: Chain) -> None:
        self.key, self.field = key, chain.field
        # In whole numbers, as remap is fast for many objects.
        x, y = cv2.split(chain.reached())
        maps = cv2.convertMaps(x, y, cv2.CV_16SC2)
        self.masks = [
            np.asarray(cv2.remap(one.small, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
            for one in key.objects
        ]
        self._windows = [cv2.boundingRect((mask > 127).astype(np.uint8)) for mask in self.masks]
        # Around a pixel that cannot be trusted others are little better.
        self.field = chain.field.copy()
        self._trusted = chain.field[..., 2] > 0.5
        self.field[..., 2] = cv2.blur(chain.field[..., 2], (3, 3))

    def window(self, index: int) -> tuple[int, int, int, int] | None:
        """Return the window in which to look for an object, in small pixels; None if it is out of sight."""
        left, top, width, height = self._windows[index]
        if not width:
            return None
        right, bottom = self.key.motion.size_wh
        return (
            max(left - _BORDER, 0),
            max(top - _BORDER, 0),
            min(left + width + _BORDER, right),
            min(top + height + _BORDER, bottom),
        )

    def read(self, index: int, samples: _Samples, wanted: Sequence[float]) -> tuple[list[Floats], Floats]:
        """Read the distances of an object in a window, as each way of moving says, and the weight of each pixel.

        The ways are the dense flow, the flow averaged inside the mask, and one affine motion. A way whose number in
        `wanted` is 0 is not computed; the distances of the dense flow take its place.
        """
        left, top, right, bottom = samples.window
        field = self.field[top:bottom, left:right]
        local = samples.points - np.array([left, top], dtype=np.float32)
        dense = sample(field, local)
        one = self.key.objects[index]
        reached = samples.points + dense[..., :2]
        distances = [one.read(reached)] * len(wanted)
        if any(wanted[1:]):
            mask = self.masks[index][top:bottom, left:right] > 127
            inside = _inner(mask & self._trusted[top:bottom, left:right])
            if inside is not None and wanted[1]:
                smooth = sample(smooth_inside(field[..., :2], inside), local)
                distances[1] = one.read(samples.points + smooth)
            affine = self._affine(samples, field, inside) if inside is not None and any(wanted[2:]) else None
            if affine is not None:
                distances[2] = one.read(affine)
        return distances, self._weight(reached, dense[..., 2])

    def _affine(self, samples: _Samples, field: Floats, inside: Floats) -> Floats | None:
        y, x = np.nonzero(inside)
        step = max(1, len(x) // 120)
        x, y = x[::step], y[::step]
        points = np.stack([x + samples.window[0], y + samples.window[1]], axis=1).astype(np.float32)
        affine = fit_affine(points, field[y, x, :2])
        if affine is None:
            return None
        moves: Floats = samples.points @ affine[:, :2].T.astype(np.float32) + affine[:, 2].astype(np.float32)
        return samples.points + moves

    def _weight(self, reached: Floats, valid: Floats) -> Floats:
        """Return weights: near 0 for pixels from outside the frame, low for those that cannot be trusted."""
        width, height = self.key.motion.size_wh
        x, y = reached[..., 0], reached[..., 1]
        inside = ((x > -1) & (x < width) & (y > -1) & (y < height)).astype(np.float32)
        weight: Floats = inside * (valid + 0.15) + 0.02
        return weight


def _inner(mask: NDArray[np.bool_]) -> Floats | None:
    """Return the mask without its edge, if a quarter of it is left; None if almost nothing is left."""
    solid = mask.astype(np.uint8)
    count = int(np.count_nonzero(solid))
    eroded = cv2.erode(solid, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    inner = eroded if np.count_nonzero(eroded) > 0.25 * count else solid
    return inner.astype(np.float32) if count > 8 else None


class _Carried(NamedTuple):
    xyxy: Floats
    soft: Floats


def _combine(distances: Floats, samples: _Samples, offsets: Floats, key: Key) -> _Carried | None:
    """Box and soft mask from the distances in a window; None where there is nothing to see."""
    edges = _edges(distances)
    if edges is None:
        return None
    left, top, right, bottom = samples.window
    scale = np.array([right - left, bottom - top] * 2, dtype=np.float32) / len(distances)
    small_xy = np.tile(key.motion.scale_xy, 2)
    tight = (edges * scale + np.array([left, top] * 2, dtype=np.float32)) / small_xy
    height, width = key.motion.frame_size
    moved = tight + offsets * np.tile(tight[2:] - tight[:2], 2)
    xyxy: Floats = np.clip(moved, 0, [width, height] * 2).astype(np.float32)
    if min(xyxy[2] - xyxy[0], xyxy[3] - xyxy[1]) < 0.5:
        return None
    # Where the first value of the soft mask lies in the window, and the next ones.
    first, last = _values_at(xyxy, key)
    start = (first * small_xy[:2] - np.array([left, top])) / scale[:2] - 0.5
    step = (last - first) * small_xy[:2] / scale[:2] / (key.side - 1)
    matrix = np.array([[step[0], 0, start[0]], [0, step[1], start[1]]], dtype=np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    cut = cv2.warpAffine(distances, matrix, (key.side, key.side), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _Carried(xyxy, _soft(np.asarray(cut), float(max(last - first)) / key.side, key.threshold))


def _values_at(xyxy: Floats, key: Key) -> tuple[Floats, Floats]:
    """Where the first and the last value of a soft mask lie in the frame, x and y, as `results.masks` pastes them."""
    if key.detections.mask_paste == "tutorial":
        whole = whole_boxes(xyxy[None], key.motion.frame_size)[0].astype(np.float32)
        half = (whole[2:] - whole[:2]) / (2 * key.side)
        return whole[:2] + half, whole[2:] - half
    size = np.array(key.motion.frame_size[::-1], dtype=np.float32)
    share = (size - 1) / size
    return xyxy[:2] * share + np.float32(0.5), xyxy[2:] * share + np.float32(0.5)


def _soft(distances: Floats, cell: float, threshold: float) -> Floats:
    """Values of a soft mask whose threshold lies where the distance is 0; they rise over eight cells."""
    share = np.clip(distances / (4 * max(cell, 0.25)), -1, 1)
    soft: Floats = np.where(share > 0, threshold + share * (1 - threshold), threshold * (1 + share)).astype(np.float32)
    return np.clip(soft, 0, 1)


def carry(key: Key, chain: Chain, distance: int) -> Detections:
    """Carry the objects of a key frame to another one, one way.

    Parameters
    ----------
    chain
        From that frame to the key.
    distance
        How many frames lie between.
    """
    arrival = Arrival(key, chain)
    seen = [_one_way(arrival, index) for index in range(len(key.objects))]
    return _detections([(key.detections, i, None, one) for i, one in enumerate(seen) if one], key, distance)


def _one_way(arrival: Arrival, index: int) -> _Carried | None:
    window = arrival.window(index)
    if window is None:
        return None
    samples = _sample_grid(window, arrival.key.side)
    ways = (1.0, 1.0) if len(arrival.key.objects) <= _MANY else (1.0,)
    distances, _ = arrival.read(index, samples, ways)
    mean: Floats = np.mean(distances, axis=0, dtype=np.float32)
    return _combine(mean, samples, arrival.key.objects[index].offsets, arrival.key)


@dataclass(frozen=True)
class _Pair:
    """One object of both keys, and how far each way of moving is to be trusted with it."""

    first: int
    second: int
    trust: tuple[float, ...]


def carry_between(first: Key, second: Key, steps: Sequence[Step]) -> Iterator[Detections]:
    """Carry the objects of two key frames to all frames between them, both ways.

    Parameters
    ----------
    steps
        From each frame to the next: one more than there are frames between. No cut is among them.

    Yields
    ------
    The detections of each frame between, in order.
    """
    count = len(steps)
    if count < 2:
        return
    size_wh = first.motion.size_wh
    chains = [Chain(size_wh) for _ in range(2)]
    ahead: list[Chain] = []
    for step in steps:
        chains[0].follow(step.back, step.back_agrees)
        ahead.append(_copied(chains[0]))
    back: list[Chain] = []
    for step in reversed(steps):
        chains[1].follow(step.ahead, step.ahead_agrees)
        back.append(_copied(chains[1]))
    pairs = _pairs(Arrival(first, ahead[-1]), Arrival(second, back[-1]))
    for number in range(1, count):
        arrivals = Arrival(first, ahead[number - 1]), Arrival(second, back[count - number - 1])
        yield _both_ways(arrivals, pairs, number, count)


def _copied(chain: Chain) -> Chain:
    copy = Chain.__new__(Chain)
    copy.field = chain.field
    return copy


def _pairs(ahead: Arrival, back: Arrival) -> list[_Pair]:
    """Which objects of the first key arrive at which of the second."""
    first, second = ahead.key, back.key
    scores = np.zeros((len(first.objects), len(second.objects)), dtype=np.float32)
    same = first.detections.class_id[:, None] == second.detections.class_id[None]
    for i, j in zip(*np.nonzero(same)):
        scores[i, j] = _iou(ahead.masks[i] > 127, second.objects[j].small > 127)
    scores[scores < _LEAST_IOU] = 0
    many = max(scores.shape, default=0) > _MANY
    return [
        _Pair(i, j, (1.0,) if many else _trust(ahead, back, i, j))
        for i, j in zip(*(rows.tolist() for rows in match(scores)))
    ]


def _trust(ahead: Arrival, back: Arrival, i: int, j: int) -> tuple[float, ...]:
    """Measure how well each way reproduces the network's result: this separates rigid objects from others."""
    ious = np.zeros(3)
    for arrival, mine, key, other in ((ahead, i, back.key, j), (back, j, ahead.key, i)):
        # The window holds both the carried mask and the network's.
        there = cv2.boundingRect((key.objects[other].small > 127).astype(np.uint8))
        window = _union(arrival.window(mine), _grown(there, key.motion.size_wh))
        if window is None:
            continue
        samples = _sample_grid(window, key.side)
        truth = key.objects[other].read(samples.points) > 0
        distances, _ = arrival.read(mine, samples, (1.0, 1.0, 1.0))
        ious += [_iou(one > 0, truth) for one in distances]
    trust = np.exp(_TRUST * (ious - ious.max()))
    return tuple(np.where(trust < 0.05, 0, trust).tolist())


def _grown(rect: Sequence[int], size_wh: tuple[int, int]) -> tuple[int, int, int, int] | None:
    left, top, width, height = rect
    if not width:
        return None
    return left, top, min(left + width + 1, size_wh[0]), min(top + height + 1, size_wh[1])


def _union(
    first: tuple[int, int, int, int] | None, second: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3])


def _iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    both, either = np.count_nonzero(first & second), np.count_nonzero(first | second)
    return both / either if either else 0.0


def _both_ways(arrivals: tuple[Arrival, Arrival], pairs: Sequence[_Pair], number: int, count: int) -> Detections:
    keys = arrivals[0].key, arrivals[1].key
    share = number / count
    near = 0 if share <= 0.5 else 1
    rows: list[tuple[Detections, int, tuple[Detections, int, float] | None, _Carried]] = []
    for pair in pairs:
        carried = _meet(arrivals, pair, share)
        if carried is not None:
            other = keys[1].detections, pair.second, share
            rows.append((keys[0].detections, pair.first, other, carried))
    # An object without a partner is shown in the half nearer to its key.
    taken = {(pair.first, pair.second)[near] for pair in pairs}
    for index in range(len(keys[near].objects)):
        one = None if index in taken else _one_way(arrivals[near], index)
        if one is not None:
            rows.append((keys[near].detections, index, None, one))
    return _detections(rows, keys[near], min(number, count - number))


def _meet(arrivals: tuple[Arrival, Arrival], pair: _Pair, share: float) -> _Carried | None:
    ends = pair.first, pair.second
    window = _union(*(arrival.window(index) for arrival, index in zip(arrivals, ends)))
    if window is None:
        return None
    samples = _sample_grid(window, max(arrival.key.side for arrival in arrivals))
    total, weights = np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.float32)
    offsets = np.zeros(4, dtype=np.float32)
    for arrival, index, part in zip(arrivals, ends, (1 - share, share)):
        if arrival.window(index) is None:
            continue
        distances, weight = arrival.read(index, samples, pair.trust)
        parts = [trust * one for trust, one in zip(pair.trust, distances) if trust]
        mixed = sum(parts[1:], parts[0]) / sum(pair.trust)
        total = total + part * weight * mixed
        weights = weights + part * weight
        offsets = offsets + part * arrival.key.objects[index].offsets
    mean: Floats = (total / weights).astype(np.float32, copy=False)
    return _combine(mean, samples, offsets, arrivals[0].key)


def _between(first: float, second: float, share: float) -> float:
    return (1 - share) * first + share * second


def _detections(
    rows: Sequence[tuple[Detections, int, tuple[Detections, int, float] | None, _Carried]], key: Key, distance: int
) -> Detections:
    """Put the rows together: where an object comes from, its other end with that end's share, where it is now."""
    if not rows:
        empty = Detections.empty(key.motion.frame_size, (key.side, key.side))
        return replace(empty, mask_paste=key.detections.mask_paste, carried=distance)
    confidence = [
        found.confidence[i] if other is None else _between(found.confidence[i], other[0].confidence[other[1]], other[2])
        for found, i, other, _ in rows
    ]
    return Detections(
        xyxy=np.array([carried.xyxy for *_, carried in rows], dtype=np.float32),
        confidence=np.array(confidence, dtype=np.float32),
        class_id=np.array([found.class_id[i] for found, i, *_ in rows], dtype=np.int32),
        soft_masks=np.array([carried.soft for *_, carried in rows], dtype=np.float32),
        frame_size=key.motion.frame_size,
        mask_paste=key.detections.mask_paste,
        labels=None if key.detections.labels is None else np.array([_label(found, i) for found, i, *_ in rows]),
        carried=distance,
    )


def _label(found: Detections, index: int) -> str:
    return "" if found.labels is None else str(found.labels[index])
