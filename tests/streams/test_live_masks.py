"""Cameras between inferences: each frame at once, with the newest result carried to it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.results.detections import Detections
from cvmask.streams.live_masks import Follower
from cvmask.streams.loop import Result
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import read_json_lines
from cvmask.streams.sources import Newest
from cvmask.streams.sources.live import Camera
from cvmask.streams.summary import Stage

SIZE = (120, 160)
_NOISE = [
    cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8), (0, 0), 2) for seed in (1, 2)
]


def at(x: float) -> NDArray[np.bool_]:
    y, columns = np.indices(SIZE)
    return np.asarray((columns - x) ** 2 + (y - 60) ** 2 < 24**2)


def picture(number: int, scene: int = 0) -> NDArray[np.uint8]:
    """A bright disc that drifts by half a pixel a frame before one of two backgrounds."""
    image = (_NOISE[scene] // 3 + np.uint8(90 * scene)).astype(np.uint8)
    image[at(30 + number / 2)] = np.roll(_NOISE[1 - scene], number // 2, axis=1)[at(30 + number / 2)] // 2 + 120
    image[:4, :4] = number
    return image


class Cam:
    """Behaves like ``cv2.VideoCapture``, at a rate of its own, and is unplugged after `count` frames."""

    def __init__(self, count: int, rate: float = 30.0, cut_at: int = 1 << 30) -> None:
        self._count, self._pause_s, self._cut_at = count, 1 / rate, cut_at
        self._due_s = 0.0
        self.index = 0

    def __call__(self, device: int) -> Cam:
        return self

    def isOpened(self) -> bool:
        return True

    def get(self, _: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if self.index >= self._count:
            return False, None
        self._due_s = (self._due_s or time.monotonic()) + self._pause_s
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        self.index += 1
        return True, picture(self.index - 1, int(self.index - 1 >= self._cut_at))

    def release(self) -> None:
        pass


class Slow:
    """Finds the disc, after a while."""

    def __init__(self, pause_s: float = 0.3, fail_at: int = 1 << 30) -> None:
        self._pause_s, self._fail_at = pause_s, fail_at
        self.seen: list[int] = []

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        number = int(frame[0, 0, 0])
        self.seen.append(number)
        time.sleep(self._pause_s)
        if len(self.seen) > self._fail_at:
            raise SourceError("the model broke")
        mask = at(30 + number / 2)
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        return Detections(
            xyxy=np.array([[left, top, left + width - 0.01, top + height - 0.01]], np.float32),
            confidence=np.float32([0.9]), class_id=np.int32([0]), frame_size=SIZE, mask_paste="tutorial",
            soft_masks=mask[None, top : top + height, left : left + width].astype(np.float32),
        )  # fmt: skip


def camera(count: int, rate: float = 30.0, cut_at: int = 1 << 30) -> Newest:
    return Newest(Camera(0, Cam(count, rate, cut_at)))


def iou(found: Detections, number: int) -> float:
    truth, mask = at(30 + number / 2), found.masks().any(axis=0)
    return float(np.count_nonzero(truth & mask) / np.count_nonzero(truth | mask))


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cvmask-")]


def test_a_slow_network_does_not_slow_the_picture(tmp_path: Path) -> None:
    model = Slow(0.3)
    run = annotate(camera(60), model, detect_every="auto", outputs=tmp_path / "x.jsonl", track=True)
    results: list[Result] = []
    with pytest.raises(SourceError, match="unplugged"):
        results.extend(run)  # all that came are drained
    numbers = [result.frame.index for result in results]
    # None twice, and masks where the disc is. On a machine with nothing else to do all 60 are shown; one network
    # frame after the other were 7.
    assert numbers == sorted(set(numbers))
    assert len(numbers) >= 35
    assert run.summary.read == run.summary.written == len(numbers)
    assert run.summary.dropped == 60 - len(numbers)
    assert 3 <= len(model.seen) <= 9
    found = [result for result in results if len(result.detections)]
    assert len(found) > 20
    assert min(iou(result.detections, result.frame.index) for result in found) > 0.85
    assert {result.detections.tracker_id[0] for result in found} == {1}
    # Each result is about 0.3 s old when it comes, and 0.6 s when the next one does.
    assert {result.detections.carried > 0 for result in results} == {True}
    assert run.summary.carried == len(results)
    assert run.summary.stages["detect"].count == len(model.seen)
    assert f"{len(results)} of them carried" in run.summary.lines()[0]
    assert [one.carried for _, one in read_json_lines(tmp_path / "x.jsonl")] == [r.detections.carried for r in results]


def test_a_network_is_asked_every_nth_frame_at_most() -> None:
    model = Slow(0.0)
    with pytest.raises(SourceError, match="unplugged"):
        annotate(camera(30, 100), model, detect_every=8).run()
    assert all(second - first >= 8 for first, second in zip(model.seen, model.seen[1:]))
    assert 1 <= len(model.seen) <= 4


def test_one_sees_every_frame_that_is_given() -> None:
    model = Slow(0.1)
    run = annotate(camera(30), model)
    with pytest.raises(SourceError, match="unplugged"):
        run.run()
    assert run.summary.written == len(model.seen) < 15
    assert run.summary.carried == 0


def test_what_must_stay_hidden_waits_for_the_network() -> None:
    results: list[Result] = []
    with pytest.raises(SourceError, match="unplugged"):
        results.extend(annotate(camera(40, 60, cut_at=20), Slow(0.05), detect_every="auto", bridge=True))
    assert len(results) > 3
    assert results[-1].frame.index >= 20, "behind the cut"
    assert min(len(result.detections) for result in results) >= 1


class Held(Slow):
    """Works on a frame until it is let go."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.go = threading.Semaphore(0)

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        found = super().detect(frame)
        assert self.go.acquire(timeout=20)
        return found


@pytest.fixture
def held() -> Iterator[tuple[Follower, Held]]:
    model = Held()
    follower = Follower([model], every=2)  # it waits for no network, however fast that was
    thread = threading.Thread(target=follower.work, args=(model, Stage()))
    thread.start()
    yield follower, model
    model.go.release(9)
    follower.end()
    thread.join()


def test_nothing_is_carried_over_a_cut(held: tuple[Follower, Held]) -> None:
    follower, model = held
    model.go.release()
    assert follower.follow(picture(0), wait=True).carried == 0
    found = [follower.detect(picture(number)) for number in (1, 2)]
    assert [(len(one), one.carried) for one in found] == [(1, 1), (1, 2)]
    found = [follower.detect(picture(number, 1)) for number in (3, 4)]
    assert [(len(one), one.carried) for one in found] == [(0, 1), (0, 2)]
    model.go.release()  # what it says now is of the scene before
    while len(model.seen) < 3:
        found.append(follower.detect(picture(5, 1)))
    assert model.seen[0] == 0
    assert model.seen[2] == 5
    assert [len(one) for one in found] == [0] * len(found)


def test_frames_are_not_kept_while_the_network_works(held: tuple[Follower, Held]) -> None:
    follower, model = held
    alive: list[weakref.ref[NDArray[np.uint8]]] = []
    for number in range(60):
        image = picture(number)
        alive.append(weakref.ref(image))
        follower.detect(image)
    assert sum(one() is not None for one in alive) <= 2
    assert len(model.seen) == 1


@pytest.mark.parametrize("fail_at", [0, 2])
def test_an_error_of_the_network_ends_the_run_at_once(fail_at: int) -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match="the model broke"):
        annotate(camera(3000), Slow(0.02, fail_at), detect_every="auto").run()
    assert time.monotonic() - began < 10


def test_an_error_of_the_network_counts_after_the_last_frame() -> None:
    source = camera(2)
    with pytest.raises(SourceError, match="the model broke"):
        annotate(source, Slow(0.5, 0), detect_every="auto").run()


def test_leaving_stops_the_network() -> None:
    for result in annotate(camera(3000), Slow(0.1), detect_every="auto"):
        if result.frame.index > 5:
            break
