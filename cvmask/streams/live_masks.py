"""Live sources: each frame has the newest result, carried to it, while the network works on another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable, Protocol

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.streams.follow import Every, Key, carry
from cvmask.streams.motion import Chain, Gray, Motion, is_cut
from cvmask.streams.summary import Stage
from cvmask.system.interrupts import Stopped

# A network that takes less than this share of the time between two frames sees each of them.
_KEEPS_UP = 0.7
_LONGEST_PERIOD_S, _NEW_SHARE = 1.0, 0.2


class Model(Protocol):
    """What finds objects; `clone` is needed for more than one worker."""

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Find the objects of one frame, shape (height, width, 3), BGR."""


@dataclass(eq=False)
class _Asked:
    """A frame that the network works on or has seen, and the way from the present frame to it."""

    image: NDArray[np.uint8] | None
    motion: Motion
    chain: Chain
    distance: int = 0
    key: Key | None = None


class Follower:
    """A model that answers at once, with the detections of an earlier frame carried forwards to this one.

    The networks work in threads of their own, see `work`; each takes the newest frame whenever it is free. Only the
    flow from frame to frame is kept, and the frames on which the networks work. A network that is faster than the
    source sees every frame, and nothing is carried.

    Parameters
    ----------
    models
        The networks.
    every
        At most every N-th frame goes to a network; "auto": whenever one is free.
    mask_threshold
        Where the edge of a soft mask lies; None: where it usually does.
    careful
        Whether a frame waits for a network if there is nothing to carry to it, as for the first frame and after a cut.
        Otherwise such a frame has no detections.

    Attributes
    ----------
    waited
        Whether the last frame waited for a network.
    """

    def __init__(
        self, models: Sequence[Model], every: Every = "auto", mask_threshold: float | None = None, careful: bool = False
    ) -> None:
        self.models, self.careful, self.waited = models, careful, True
        self._every = 1 if every == "auto" else every
        self._threshold = mask_threshold
        self._changed = threading.Condition()
        self._free = 0
        self._next: _Asked | None = None
        self._ended = False
        # Of the thread that gives frames: oldest first, and none older than the newest result.
        self._asked: list[_Asked] = []
        self._motion: Motion | None = None
        self._before: Gray | None = None
        self._number = 0
        self._since = self._every
        # How long the last inference took, and how far frames are apart.
        self._latency_s = self._period_s = 0.0
        self._came_s: float | None = None

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        """Give what is in the next frame, shape (height, width, 3), BGR; `carried` says how old the result is."""
        return self.follow(frame)

    def follow(self, frame: NDArray[np.uint8], wait: bool = False) -> Detections:
        """Detect as `detect` does; with `wait` a network sees this frame itself, however long that takes."""
        self._go_on(frame)
        assert self._motion is not None
        wait |= self._every == 1 and 0 < self._latency_s < _KEEPS_UP * self._period_s
        with self._changed:
            newest = self._newest()
            self.waited = wait or (newest is None and self.careful)
            if self.waited:
                self._wait_for(lambda: self._free and self._next is None)
                asked = self._ask(frame)
                self._wait_for(lambda: asked.key is not None)
                newest = self._newest()
            elif self._since >= self._every and self._free and self._next is None:
                self._ask(frame)
        self._since += 1
        if newest is None or newest.key is None:
            return replace(Detections.empty(self._motion.frame_size), carried=self._number)
        if newest.distance == 0:
            return newest.key.detections
        return carry(newest.key, newest.chain, newest.distance)

    def work(self, model: Model, stage: Stage) -> None:
        """Let one network work until the end; for a thread of its own."""
        while (asked := self._take()) is not None:
            assert asked.image is not None
            began_s = time.monotonic()
            with stage.timed():
                found = model.detect(asked.image)
            self._latency_s = time.monotonic() - began_s
            key = Key(found, asked.motion, self._threshold)
            with self._changed:
                asked.key, asked.image = key, None
                self._changed.notify_all()

    def end(self) -> None:
        """Let the networks finish their frames, and stop all threads that wait for one."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _go_on(self, frame: NDArray[np.uint8]) -> None:
        """Carry the ways to the frames asked for one frame on."""
        before_s, self._came_s = self._came_s, time.monotonic()
        if before_s is not None:
            apart_s = min(self._came_s - before_s, _LONGEST_PERIOD_S)
            self._period_s += (apart_s - self._period_s) * (_NEW_SHARE if self._period_s else 1)
        if self._motion is None or self._motion.frame_size != frame.shape[:2]:
            self._motion, self._before = Motion(frame.shape), None
            self._forget()
        gray = self._motion.small(frame)
        if self._before is not None:
            flow = self._motion.flow(gray, self._before)
            if is_cut(self._before, gray, flow):
                self._forget()
            for asked in self._asked:
                asked.chain.follow(flow)
                asked.distance += 1
        self._before = gray
        self._number += 1

    def _forget(self) -> None:
        """Forget all results, including those in progress: another scene begins."""
        self._asked, self._number, self._since = [], 0, self._every

    def _ask(self, frame: NDArray[np.uint8]) -> _Asked:
        assert self._motion is not None
        asked = _Asked(frame, self._motion, Chain(self._motion.size_wh))
        self._asked.append(asked)
        self._next, self._since = asked, 0
        self._changed.notify_all()
        return asked

    def _newest(self) -> _Asked | None:
        """Return the newest result and drop all older ones."""
        done = [index for index, asked in enumerate(self._asked) if asked.key is not None]
        if not done:
            return None
        del self._asked[: done[-1]]
        return self._asked[0]

    def _take(self) -> _Asked | None:
        """Wait for the next frame; None at the end."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._next is not None or self._ended)
            asked, self._next = self._next, None
            self._free -= 1
            return None if self._ended else asked

    def _wait_for(self, ready: Callable[[], object]) -> None:
        self._changed.wait_for(lambda: self._ended or ready())
        if self._ended:
            raise Stopped
