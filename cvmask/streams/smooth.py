"""Masks that do not flicker: soft masks, boxes and scores of an object averaged over time along its motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.streams.motion import Floats, Gray, Motion, is_cut, sample
from cvmask.streams.tracking import MAX_GAP

# The share of the present frame where it agrees with those before; the rest is theirs.
_SHARE = 0.35
# How much of the two masks is not common, 0 to 1: up to the first the share is that, from the second on it is all.
_AGREES, _DISAGREES = 0.15, 0.5
_LEAST_SIDE = 56


@dataclass
class _Known:
    xyxy: Floats
    soft: Floats
    confidence: float
    missing: int = 0


class Smoother:
    """Averages tracked objects over time; call `update` for each frame in order.

    What was found of an object before is carried to the present frame by dense flow. The present mask counts the more
    the less it has in common with it, so that an object that changes is not late. Soft masks come out with at
    least 56 values a side. A cut forgets all.

    Parameters
    ----------
    covering
        Whether masks never lose what was found in the present frame, nor boxes move: for what must stay hidden.
    """

    def __init__(self, covering: bool = False) -> None:
        self._covering = covering
        self._motion: Motion | None = None
        self._gray: Gray | None = None
        self._known: dict[int, _Known] = {}

    def update(self, image: NDArray[np.uint8], detections: Detections) -> Detections:
        """Give the tracked detections of the next frame, shape (height, width, 3), BGR, smoothed."""
        if self._motion is None or self._motion.frame_size != detections.frame_size:
            self._motion, self._gray, self._known = Motion(detections.frame_size), None, {}
        gray = self._motion.small(image)
        flow = None
        if self._gray is not None and self._known:
            flow = self._motion.flow(gray, self._gray)
            if is_cut(self._gray, gray, flow):
                self._known = {}
        self._gray = gray
        for known in self._known.values():
            known.missing += 1
        ids = [] if detections.tracker_id is None else detections.tracker_id.tolist()
        if not ids:
            self._forget()
            return detections
        side = max(_LEAST_SIDE, *detections.soft_masks.shape[1:])
        now = []
        for row, number in enumerate(ids):
            one = _Known(detections.xyxy[row], detections.soft_masks[row], float(detections.confidence[row]))
            before = self._known.get(number)
            if before is not None and before.missing == 1 and flow is not None:
                one = self._averaged(before, one, flow, side, detections.mask_paste)
            else:
                frame = self._frame(detections.mask_paste)
                one.soft = _read(one, _places(one.xyxy, side, frame), frame)
            self._known[number] = one
            now.append(one)
        self._forget()
        return replace(
            detections,
            xyxy=np.array([one.xyxy for one in now], np.float32),
            soft_masks=np.array([one.soft for one in now], np.float32),
            confidence=np.array([one.confidence for one in now], np.float32),
        )

    def _forget(self) -> None:
        self._known = {number: known for number, known in self._known.items() if known.missing <= MAX_GAP}

    def _frame(self, mask_paste: str) -> tuple[int, int] | None:
        return None if mask_paste == "tutorial" or self._motion is None else self._motion.frame_size

    def _averaged(self, before: _Known, now: _Known, flow: Floats, side: int, mask_paste: str) -> _Known:
        assert self._motion is not None
        scale, frame = self._motion.scale_xy, self._frame(mask_paste)

        def both(places: Floats) -> tuple[Floats, Floats, Floats]:
            moves = sample(flow, ((places + 0.5) * scale - 0.5).astype(np.float32)) / scale
            return _read(before, places + moves, frame), _read(now, places, frame), moves

        soft, present, moves = both(_places(now.xyxy, side, frame))
        common = np.minimum(soft, present).sum() / max(float(np.maximum(soft, present).sum()), 1e-6)
        doubt = np.clip((1 - common - _AGREES) / (_DISAGREES - _AGREES), 0, 1)
        share = float(_SHARE + (1 - _SHARE) * doubt)
        # The box moves with its contents.
        weights = np.minimum(soft, present)
        if weights.sum() > 0 and not self._covering:
            move = np.average(moves.reshape(-1, 2), axis=0, weights=weights.ravel())
            xyxy = share * now.xyxy + (1 - share) * (before.xyxy - np.tile(move, 2))
            xyxy = np.clip(xyxy, 0, np.tile(self._motion.frame_size[::-1], 2)).astype(np.float32)
        else:
            xyxy = now.xyxy
        soft, present, _ = both(_places(xyxy, side, frame))
        confidence = share * now.confidence + (1 - share) * before.confidence
        mean = (share * present + (1 - share) * soft).astype(np.float32)
        return _Known(xyxy, np.maximum(mean, present) if self._covering else mean, confidence)


def _places(xyxy: Floats, side: int, frame_size: tuple[int, int] | None) -> Floats:
    """Where the values of a soft mask are in the frame: shape (side, side, 2), x and y in pixels.

    As `results.masks.paste` has it: "tensorflow" where `frame_size` is given, otherwise "tutorial".
    """
    start, end = _ends(xyxy, frame_size)
    steps = np.arange(side, dtype=np.float32)
    shares = steps / (side - 1) if frame_size else (steps + 0.5) / side
    x, y = np.meshgrid(*(start[axis] + shares * (end[axis] - start[axis]) for axis in (0, 1)))
    return np.dstack([x, y]).astype(np.float32)


def _read(known: _Known, places: Floats, frame_size: tuple[int, int] | None) -> Floats:
    """Read a soft mask at places of the frame; beyond its box it is 0."""
    start, end = _ends(known.xyxy, frame_size)
    shares = (places - start) / np.maximum(end - start, 1e-3)
    side = np.array(known.soft.shape[::-1], np.float32)
    at = shares * (side - 1) if frame_size else shares * side - 0.5
    read = sample(known.soft, at.astype(np.float32))
    inside = ((shares > -0.02) & (shares < 1.02)).all(axis=2)
    return cast("Floats", np.where(inside, read, 0).astype(np.float32))


def _ends(xyxy: Floats, frame_size: tuple[int, int] | None) -> tuple[Floats, Floats]:
    if frame_size is None:
        return cast("Floats", np.floor(xyxy[:2]) - 0.5), cast("Floats", np.floor(xyxy[2:]) + 0.5)
    scale = 1 - 1 / np.array(frame_size[::-1], np.float32)
    return cast("Floats", xyxy[:2] * scale), cast("Floats", xyxy[2:] * scale)
