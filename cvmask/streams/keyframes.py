"""Choose the frames of a video that the network sees, and fill in the detections of the others."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Callable

import cv2
import numpy as np

from cvmask.results.detections import Detections
from cvmask.streams.follow import Every, Key, carry_between
from cvmask.streams.motion import Chain, Gray, Motion, Step, sample
from cvmask.streams.sources import Frame

_LONGEST_AUTO = 8
_DOUBT = 0.85


@dataclass
class Seen:
    """A frame on its way through a run that asks the network about some of them only.

    Attributes
    ----------
    gray, motion, step
        Its small picture, what compared it, and the flow from the frame before; None where the network sees every
        frame. The first frame, and one of another size than the one before, have no step.
    key
        Whether the network has to see it.
    """

    frame: Frame
    gray: Gray | None = None
    motion: Motion | None = None
    step: Step | None = None
    key: bool = False


def longest(every: Every) -> int:
    """Give after how many frames at the latest a key frame is followed by the next one."""
    return _LONGEST_AUTO if every == "auto" else every


def plan(
    frames: Iterable[Frame], every: Every, found: Callable[[], Detections], mask_threshold: float | None = None
) -> Iterator[Seen]:
    """Choose the key frames of a video: every N-th, the first and the last, and both sides of a cut.

    "auto" makes a key where the objects of the last one can no longer be followed: where, on their masks and two
    pixels around, (1 - validity) + |warped key - frame| / contrast exceeds 0.85; at the latest every 8 frames.

    Parameters
    ----------
    found
        Waits for the network's detections in the latest key frame; "auto" calls it once for each key frame.
    """
    if every == 1:
        yield from (Seen(frame, key=True) for frame in frames)
        return
    coming = _seen(frames)
    ahead: deque[Seen] = deque()
    age, doubt = 0, _Doubt(mask_threshold)
    while True:
        # The frames up to the next key are read and compared while the network works.
        wanted = _LONGEST_AUTO + 1 if every == "auto" and age == 0 else 2
        while len(ahead) < wanted and (one := next(coming, None)) is not None:
            ahead.append(one)
        if not ahead:
            return
        one = ahead.popleft()
        following = ahead[0] if ahead else None
        one.key = one.step is None or one.step.cut or age >= longest(every)
        one.key |= following is None or following.step is None or following.step.cut
        if every == "auto" and not one.key:
            if doubt.key is None:
                doubt.begin(found())
            one.key = doubt.about(one)
        if one.key:
            age = 0
            doubt = _Doubt(mask_threshold, one)
        age += 1
        yield one


def _seen(frames: Iterable[Frame]) -> Iterator[Seen]:
    motion: Motion | None = None
    before: Gray | None = None
    for frame in frames:
        size = frame.image.shape[:2]
        if motion is None or motion.frame_size != size:
            motion, before = Motion(size), None
        gray = motion.small(frame.image)
        yield Seen(frame, gray, motion, None if before is None else motion.step(before, gray))
        before = gray


class _Doubt:
    """Measure how well the objects of a key frame can still be followed."""

    def __init__(self, mask_threshold: float | None, seen: Seen | None = None) -> None:
        self._threshold, self._seen = mask_threshold, seen
        self.key: Key | None = None

    def begin(self, found: Detections) -> None:
        assert self._seen is not None
        assert self._seen.motion is not None
        assert self._seen.gray is not None
        self.key = Key(found, self._seen.motion, self._threshold)
        self._cover = self.key.cover()
        self._chain = Chain(self._seen.motion.size_wh)
        self._gray = np.asarray(cv2.GaussianBlur(self._seen.gray, (3, 3), 0))

    def about(self, one: Seen) -> bool:
        assert one.step is not None
        assert one.gray is not None
        self._chain.follow(one.step.back, one.step.back_agrees)
        reached = self._chain.reached()
        where = sample(self._cover, reached) > 127
        if not where.any():
            return False
        warped = sample(self._gray, reached)
        apart = np.asarray(cv2.absdiff(cv2.GaussianBlur(one.gray, (3, 3), 0), warped))
        error = apart[where].mean() / (self._gray.std() + 4)
        return bool(1 - self._chain.field[..., 2][where].mean() + error > _DOUBT)


class Carrier:
    """Gives frames their detections, in order: those of key frames as they are, carried ones between."""

    def __init__(self, mask_threshold: float | None = None) -> None:
        self._threshold = mask_threshold
        self._key: Key | None = None
        self._waiting: list[Seen] = []

    def push(self, seen: Seen, found: Detections | None) -> Iterator[tuple[Frame, Detections]]:
        """Take the next frame with the network's detections if it is a key frame, else None."""
        if found is None:
            self._waiting.append(seen)
            return
        if seen.motion is None:
            yield seen.frame, found
            return
        key = Key(found, seen.motion, self._threshold)
        waiting, self._waiting = self._waiting, []
        if waiting and self._key is not None and seen.step is not None:
            steps = [one.step for one in (*waiting, seen) if one.step is not None]
            for one, carried in zip(waiting, carry_between(self._key, key, steps)):
                yield one.frame, carried
        self._key = key
        yield seen.frame, found
