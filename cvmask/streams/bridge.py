"""Objects that are missed for a moment: filled in between two sightings, so that what is hidden stays hidden."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Callable

import cv2
import numpy as np

from cvmask.results.detections import Detections
from cvmask.streams.follow import Key, carry, carry_between
from cvmask.streams.motion import Chain, Floats, Gray, Motion, Step, sample
from cvmask.streams.sources import Frame
from cvmask.streams.tracking import box_iou

_LEAST_IOU = 0.2
# In a live source.
_LONGEST_S = 1.0


@dataclass
class _Entry:
    frame: Frame
    gray: Gray
    motion: Motion
    detections: Detections
    filled: list[Detections] = field(default_factory=list)
    step: Step | None = None


class Bridge:
    """Fills gaps of tracked objects; takes frames in order and gives them in order.

    Between two sightings an object is carried both ways, as `follow.carry_between` does it; where that loses it, its
    box and mask move in a straight line. A live source has no frames to wait for: there the last sighting is carried
    forwards until the gap is over.

    Parameters
    ----------
    most
        For how many frames an object may be missing; this many frames are held back. For a live source no frame is held
        back, and an object may be missing for one second, but always for at least one frame.
    live
        Whether frames cannot wait.
    mask_threshold
        Where the edge of a soft mask lies; None: where it usually does.
    wanted
        Tells whether gaps must be filled now; called for each frame of a live source.

    Attributes
    ----------
    count
        Object-frames filled in so far.
    """

    def __init__(
        self,
        most: int,
        live: bool = False,
        mask_threshold: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self._wanted = wanted
        self._most, self._live, self._threshold = most, live, mask_threshold
        self._waiting: deque[_Entry] = deque()
        self._number = 0
        # For each object, where it was last seen: the frame's number and the detections.
        self._seen: dict[int, tuple[int, Detections, _Entry]] = {}
        # For a live source: from the present frame to those where objects were last seen.
        self._chains: dict[int, Chain] = {}
        self._before: _Entry | None = None
        # Ids of the tracker that turned out to be older objects.
        self._same: dict[int, int] = {}
        self.count = 0

    def push(self, frame: Frame, detections: Detections) -> Iterator[tuple[Frame, Detections]]:
        """Take the next frame with its tracked detections; return the frames that are complete."""
        if self._live and not self._wanted():
            yield from self.end()
            yield frame, detections
            return
        size = detections.frame_size
        if self._before is None or self._before.motion.frame_size != size:
            yield from self.end()
            motion = Motion(size)
        else:
            motion = self._before.motion
        entry = _Entry(frame, motion.small(frame.image), motion, detections)
        self._waiting.append(entry)
        ids = [] if detections.tracker_id is None else detections.tracker_id.tolist()
        if not self._live:
            ids = self._known(entry, ids)
            entry.detections = detections = replace(detections, tracker_id=np.array(ids, dtype=np.int32))
        if self._live:
            self._carry_on(entry, set(ids))
        for row, number in enumerate(ids):
            if not self._live and number in self._seen:
                self._fill(self._seen[number], detections[row])
            self._seen[number] = self._number, detections[row], entry
        self._before = entry
        self._number += 1
        self._seen = {number: seen for number, seen in self._seen.items() if self._may_come_back(seen, frame)}
        yield from self._ready()

    def _may_come_back(self, seen: tuple[int, Detections, _Entry], now: Frame) -> bool:
        missed, before = self._number - seen[0], seen[2].frame
        if self._live and now.time_s is not None and before.time_s is not None:
            # Their number says nothing: a slow network sees three frames a second of thirty.
            return missed <= 1 or now.time_s - before.time_s < _LONGEST_S
        return missed <= self._most

    def end(self) -> Iterator[tuple[Frame, Detections]]:
        """Return all frames that are left, after the last one was taken."""
        self._seen, self._chains, self._before = {}, {}, None
        yield from self._ready()

    def _ready(self) -> Iterator[tuple[Frame, Detections]]:
        # A frame waits as long as an object that was seen before it may come back.
        first = self._number if self._live else min((seen[0] for seen in self._seen.values()), default=self._number) + 1
        while self._waiting and self._number - len(self._waiting) < first:
            entry = self._waiting.popleft()
            yield entry.frame, _together(entry.detections, entry.filled)

    def _known(self, entry: _Entry, ids: Sequence[int]) -> list[int]:
        """Give the ids back, and to an object that seems new the id of one that is missing and would be there now.

        The tracker looks for objects in a straight line, which holds for a few frames only.
        """
        ids = [self._same.get(number, number) for number in ids]
        missing = {number: seen for number, seen in self._seen.items() if number not in ids}
        for row, number in enumerate(ids):
            if number in self._seen or not missing:
                continue
            new = entry.detections[row]
            scores = {old: self._overlap(seen, new) for old, seen in missing.items()}
            best = max(scores, key=lambda old: scores[old])
            if scores[best] >= _LEAST_IOU:
                self._same[number] = ids[row] = best
                del missing[best]
        return ids

    def _overlap(self, seen: tuple[int, Detections, _Entry], new: Detections) -> float:
        number, found, entry = seen
        if found.class_id[0] != new.class_id[0]:
            return 0.0
        _, steps = self._since(entry, self._number - number - 1)
        chain = Chain(entry.motion.size_wh)
        for step in steps:
            chain.follow(step.back)
        carried = carry(Key(found, entry.motion, self._threshold), chain, 1)
        now = carried if len(carried) else found
        return 0.0 if any(step.cut for step in steps) else float(box_iou(now.xyxy, new.xyxy)[0, 0])

    def _since(self, entry: _Entry, gap: int) -> tuple[list[_Entry], list[Step]]:
        """The frames from one to the newest, `gap` of them between, and the flow from each to the next."""
        entries = [entry, *list(self._waiting)[-gap - 1 :]]
        for one, two in zip(entries, entries[1:]):
            if two.step is None:
                two.step = one.motion.step(one.gray, two.gray)
        return entries, [one.step for one in entries[1:] if one.step is not None]

    def _fill(self, seen: tuple[int, Detections, _Entry], again: Detections) -> None:
        number, found, entry = seen
        gap = self._number - number - 1
        if gap < 1:
            return
        entries, steps = self._since(entry, gap)
        if any(step.cut for step in steps):
            return
        again = replace(again, class_id=found.class_id)
        first, second = (Key(one, entry.motion, self._threshold) for one in (found, again))
        for i, carried in enumerate(carry_between(first, second, steps), 1):
            if len(carried) != 1:
                carried = _straight(found, again, i / (gap + 1))
            entries[i].filled.append(replace(carried, tracker_id=found.tracker_id))
            self.count += 1

    def _carry_on(self, entry: _Entry, ids: set[int]) -> None:
        """Carry what is missing in this frame of a live source from where it was seen last."""
        missing = {number: seen for number, seen in self._seen.items() if number not in ids}
        if self._before is not None:
            self._chains.setdefault(self._number - 1, Chain(entry.motion.size_wh))
            flow = entry.motion.flow(entry.gray, self._before.gray)
            for chain in self._chains.values():
                chain.follow(flow)
        wanted = {seen[0] for seen in self._seen.values()}
        self._chains = {number: chain for number, chain in self._chains.items() if number in wanted}
        for number, found, _ in missing.values():
            carried = carry(Key(found, entry.motion, self._threshold), self._chains[number], self._number - number)
            entry.filled.append(replace(carried if len(carried) else found, tracker_id=found.tracker_id))
            self.count += 1


def _straight(first: Detections, second: Detections, share: float) -> Detections:
    nearer = first if share <= 0.5 else second
    xyxy = ((1 - share) * first.xyxy + share * second.xyxy).astype(np.float32)
    return replace(nearer, xyxy=xyxy)


def _together(detections: Detections, filled: Sequence[Detections]) -> Detections:
    if not filled:
        return detections
    parts = [detections, *filled] if len(detections) else list(filled)
    size = max(part.soft_masks.shape[1] for part in parts), max(part.soft_masks.shape[2] for part in parts)
    softs = [_resized(soft, size, part.mask_paste) for part in parts for soft in part.soft_masks]
    labelled = all(part.labels is not None for part in parts)
    return Detections(
        xyxy=np.concatenate([part.xyxy for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        class_id=np.concatenate([part.class_id for part in parts]),
        soft_masks=np.array(softs, dtype=np.float32),
        frame_size=detections.frame_size,
        tracker_id=np.concatenate([part.tracker_id for part in parts if part.tracker_id is not None]),
        mask_paste=parts[0].mask_paste,
        labels=np.concatenate([part.labels for part in parts if part.labels is not None]) if labelled else None,
        carried=detections.carried,
    )


def _resized(soft: Floats, size: tuple[int, int], mask_paste: str) -> Floats:
    """Give a soft mask of another size the same place in its box, as `results.masks` pastes it."""
    height, width = soft.shape
    if (height, width) == size:
        return soft
    if mask_paste == "tutorial":
        return np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.float32)
    x, y = np.linspace(0, width - 1, size[1]), np.linspace(0, height - 1, size[0])
    resized: Floats = np.clip(sample(soft, np.dstack(np.meshgrid(x, y)).astype(np.float32)), 0, 1)
    return resized
