"""Masks carried between inferences: exact truth of made scenes and of real sequences."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.formats.lines import COLUMNS, to_rows
from cvmask.formats.record import Record
from cvmask.results.detections import Detections
from cvmask.streams.follow import Key, carry, carry_between, check_every
from cvmask.streams.keyframes import Carrier, plan
from cvmask.streams.motion import Chain, Motion, is_cut
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import read_json_lines
from cvmask.streams.sources import Frame, Source

SIZE = (96, 128)


def texture(seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(0, 255, (size[0] // 4, size[1] // 4, 3)).astype(np.float32)
    return np.clip(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def disc(x: float, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A textured disc on a textured ground, and its pixels."""
    patch = np.roll(texture(9), round(x), axis=1)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = (columns - x) ** 2 + (rows - 48) ** 2 < 20**2
    return np.where(mask[..., None], patch, texture(seed)).astype(np.uint8), mask


def found(mask: NDArray[np.bool_], paste: str = "tutorial") -> Detections:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    soft = cv2.resize(mask[top : top + height, left : left + width].astype(np.float32), (28, 28))
    box = [left, top, left + width - 0.01, top + height - 0.01]
    return Detections(
        xyxy=np.array([box], np.float32), confidence=np.array([0.8], np.float32), class_id=np.zeros(1, np.int32),
        soft_masks=np.clip(soft[None], 0, 1), frame_size=mask.shape, mask_paste=paste,
    )  # fmt: skip


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


def made(count: int = 5, speed: float = 3.0) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    images, masks = zip(*(disc(40 + speed * i) for i in range(count)))
    return list(images), list(masks)


@pytest.mark.parametrize("paste", ["tutorial", "tensorflow"])
def test_a_key_that_goes_nowhere_stays_what_it_is(paste: str) -> None:
    _, mask = disc(60)
    key_found = found(mask, paste)
    carried = carry(Key(key_found, Motion(SIZE), 0.5), Chain(Motion(SIZE).size_wh), 1)
    assert iou(carried.masks(0.5)[0], key_found.masks(0.5)[0]) > 0.97
    np.testing.assert_allclose(carried.xyxy, key_found.xyxy, atol=0.7)
    assert (carried.carried, carried.mask_paste) == (1, paste)


def test_both_ways_finds_what_moved() -> None:
    images, masks = made()
    motion = Motion(SIZE)
    grays = [motion.small(image) for image in images]
    steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
    first, second = (Key(found(masks[i]), motion, 0.5) for i in (0, 4))
    for i, carried in enumerate(carry_between(first, second, steps), 1):
        assert len(carried) == 1
        assert iou(carried.masks(0.5)[0], masks[i]) > 0.9
        assert iou(carried.masks(0.5)[0], masks[i]) > iou(masks[0], masks[i])
        assert carried.carried == min(i, 4 - i)
        assert np.abs(carried.xyxy[0, 0] - found(masks[i]).xyxy[0, 0]) < 1.5


def test_an_object_of_one_key_is_shown_in_the_half_nearer_to_it() -> None:
    images, masks = made()
    motion = Motion(SIZE)
    grays = [motion.small(image) for image in images]
    steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
    first, second = Key(found(masks[0]), motion, 0.5), Key(Detections.empty(SIZE), motion, 0.5)
    assert [len(carried) for carried in carry_between(first, second, steps)] == [1, 1, 0]


def test_a_cut_is_one_and_movement_is_none() -> None:
    motion = Motion(SIZE)
    scenes = texture(1), np.roll(texture(1), 3, axis=1), texture(2) // 3
    first, moved, other = (motion.small(image) for image in scenes)
    assert is_cut(first, other, motion.flow(other, first))
    assert not is_cut(first, moved, motion.flow(moved, first))


def frames(images: list[NDArray[np.uint8]]) -> Iterator[Frame]:
    return (Frame(image, i, i / 25, "made") for i, image in enumerate(images))


def keys(images: list[NDArray[np.uint8]], every: int | str, detections: Detections | None = None) -> list[int]:
    nothing = detections or Detections.empty(SIZE)
    return [one.frame.index for one in plan(frames(images), check_every(every), lambda: nothing) if one.key]


def test_every_nth_frame_and_the_last_are_keys() -> None:
    images, _ = made(9, 1)
    assert keys(images, 4) == [0, 4, 8]
    assert keys(images[:7], 4) == [0, 4, 6]
    assert keys(images[:1], 4) == [0]
    assert keys([], 4) == []
    assert keys(images[:3], 1) == [0, 1, 2]


@pytest.mark.parametrize("every", [4, "auto"])
def test_both_sides_of_a_cut_are_keys(every: int | str) -> None:
    images = [texture(1)] * 6 + [texture(2) // 3] * 3
    assert [i for i in keys(images, every) if i in (5, 6)] == [5, 6]


def test_frames_of_another_size_begin_anew() -> None:
    images = [texture(1)] * 3 + [texture(1, (64, 64))] * 3
    assert keys(images, 8) == [0, 2, 3, 5]


def test_doubt_makes_a_key_where_the_object_is_lost() -> None:
    images = [texture(1)] * 9
    _, mask = disc(60)
    assert keys(images, "auto", found(mask)) == [0, 8]
    images[4:] = [np.where(mask[..., None], 255 - texture(5), image).astype(np.uint8) for image in images[4:]]
    assert 4 in keys(images, "auto", found(mask))


def test_the_carrier_keeps_the_order_and_marks_what_it_carried() -> None:
    images, masks = made(6, 2)
    carrier, out = Carrier(0.5), []
    for one in plan(frames(images), 4, lambda: Detections.empty(SIZE)):
        out += list(carrier.push(one, found(masks[one.frame.index]) if one.key else None))
    assert [frame.index for frame, _ in out] == list(range(6))
    assert [detections.carried for _, detections in out] == [0, 1, 2, 1, 0, 0]
    assert Detections.from_dict(out[1][1].to_dict()) == out[1][1]


@pytest.mark.parametrize("wrong", ["often", 0, -1, 61, 2.5, True, None])
def test_detect_every_is_checked(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="detect_every"):
        check_every(wrong)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 1000)])
def test_odd_sizes_are_followed(size: tuple[int, int]) -> None:
    motion = Motion(size)
    gray = motion.small(np.zeros((*size, 3), np.uint8))
    whole = replace(found(np.ones(size, bool)), xyxy=np.array([[0, 0, size[1], size[0]]], np.float32))
    both = [Key(whole, motion, 0.5)] * 2
    (carried,) = carry_between(both[0], both[1], [motion.step(gray, gray)] * 2)
    assert carried.masks(0.5).mean() > 0.9


def test_real_sequences(shared: Path) -> None:
    """The mean over four sequences; docs/streams.md has all."""
    scores = []
    for name in ("blackswan", "dog", "drift-straight", "horsejump-high"):
        folder = shared / "data" / "davis" / name
        pictures = [cv2.imread(str(path)) for path in sorted((folder / "frames").iterdir())[:17]]
        masks = [cv2.imread(str(path), 0) > 127 for path in sorted((folder / "masks").iterdir())[:17]]
        motion = Motion(masks[0].shape)
        grays = [motion.small(picture) for picture in pictures]
        steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
        for start in range(0, 16, 4):
            ends = [Key(found(masks[start + i]), motion, 0.5) for i in (0, 4)]
            carried = carry_between(ends[0], ends[1], steps[start : start + 4])
            scores += [iou(one.masks(0.5)[0], masks[start + i]) for i, one in enumerate(carried, 1)]
    assert np.mean(scores) > 0.86


class Discs(Source):
    """A disc that drifts, for the loop."""

    def __init__(self, count: int, live: bool = False) -> None:
        self.name, self.length, self.live = "discs", count, live
        self.frame_rate = Fraction(25)
        self.closed = threading.Event()

    def _frames(self) -> Iterator[Frame]:
        for i in range(self.length or 0):
            if self.closed.is_set():
                return
            yield Frame(disc(30 + i)[0], i, i / 25, self.name)

    def close(self) -> None:
        self.closed.set()


class Exact:
    """Finds the disc of `Discs` where it is, and counts."""

    def __init__(self, fail_at: int = 1 << 30) -> None:
        self.calls, self._fail_at = 0, fail_at

    def clone(self) -> Exact:
        return self

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self.calls += 1
        if self.calls >= self._fail_at:
            raise SourceError("the model broke")
        at = min(range(70), key=lambda i: int(cv2.absdiff(frame, disc(30 + i)[0]).sum()))
        return replace(found(disc(30 + at)[1]), mask_paste="tensorflow")


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("every", [1, 3, "auto"])
def test_a_run_gives_every_frame_in_order(every: int | str, workers: int) -> None:
    model = Exact()
    run = annotate(Discs(14), model, detect_every=every, workers=workers, track=True)
    results = list(run)
    assert [one.frame.index for one in results] == list(range(14))
    assert all(one.detections.tracker_id.tolist() == [1] for one in results)
    for one in results:
        assert iou(one.detections.masks()[0], disc(30 + one.frame.index)[1]) > 0.85
    carried = sum(one.detections.carried > 0 for one in results)
    assert run.summary.carried == carried == 14 - model.calls
    assert {1: 14, 3: 6}.get(every, model.calls) == model.calls
    assert ("carried" in run.summary.lines()[0]) == (every != 1)


@pytest.mark.parametrize("every", [3, "auto"])
@pytest.mark.parametrize("fail_at", [1, 3])
def test_an_error_of_the_model_ends_the_run(every: int | str, fail_at: int) -> None:
    with pytest.raises(SourceError, match="the model broke"):
        annotate(Discs(40), Exact(fail_at), detect_every=every).run()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cvmask-")]


@pytest.mark.parametrize("every", [60, "auto"])
def test_leaving_early_stops_the_threads(every: int | str) -> None:
    for result in annotate(Discs(70), Exact(), detect_every=every):
        assert result.frame.index == 0
        break
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("cvmask-")]


def test_frames_in_memory_are_bounded() -> None:
    alive: weakref.WeakSet[Frame] = weakref.WeakSet()
    most = 0

    class Counted(Discs):
        def _frames(self) -> Iterator[Frame]:
            nonlocal most
            for frame in super()._frames():
                alive.add(frame)
                most = max(most, len(alive))
                yield frame

    annotate(Counted(60), Exact(), detect_every=4).run()
    assert most <= 2 * 4 + 2 + 3 + 5


def test_carried_is_in_every_table(tmp_path: Path) -> None:
    _, mask = disc(60)
    carried = replace(found(mask), carried=2)
    rows = list(to_rows(Record("x", carried), ("disc",)))
    assert dict(zip(COLUMNS, rows[0]))["carried"] == 2
    annotate(Discs(4), Exact(), detect_every=3, outputs=tmp_path / "x.jsonl").run()
    assert [found.carried for _, found in read_json_lines(tmp_path / "x.jsonl")] == [0, 1, 1, 0]
