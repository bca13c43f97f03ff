"""Masks averaged over time: steadier, as accurate, never late."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import iou
from numpy.typing import NDArray

from cvmask.cli.main import main
from cvmask.results.detections import Detections
from cvmask.streams.pipeline import annotate
from cvmask.streams.smooth import Smoother
from cvmask.streams.sources.source import Frame, Source

SIZE = (120, 160)


def ground(shift: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    return np.roll(cv2.resize(noise, (240, 120), interpolation=cv2.INTER_CUBIC), shift, axis=1)[:, :160].copy()


def disc(x: float, radius: float = 25) -> NDArray[np.bool_]:
    columns, rows = np.meshgrid(np.arange(160), np.arange(120))
    return np.asarray(np.hypot(columns - x, rows - 60) < radius)


def found(mask: NDArray[np.bool_], mask_paste: str, ids: tuple[int, ...] = (1,), confidence: float = 0.9) -> Detections:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    soft = cv2.resize(mask[top : top + height, left : left + width].astype(np.float32), (28, 28))
    return Detections(
        xyxy=np.array([[left, top, left + width - 0.01, top + height - 0.01]], np.float32),
        confidence=np.array([confidence], np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=soft[None],
        frame_size=SIZE,
        mask_paste=mask_paste,
        tracker_id=np.array(ids, np.int32),
    )


@pytest.mark.parametrize("mask_paste", ["tensorflow", "tutorial"])
def test_masks_that_jitter_become_half_as_unsteady_and_no_worse(mask_paste: str) -> None:
    rng = np.random.default_rng(1)
    smoother = Smoother()
    flicker, exact = ([], []), ([], [])
    before: list[NDArray[np.bool_]] = []
    for index in range(25):
        x = 50 + 2 * index
        seen = found(disc(x + rng.normal(0, 1.5), 25 + rng.normal(0, 1.5)), mask_paste)
        now = [one.masks(0.5)[0] for one in (seen, smoother.update(ground(2 * index), seen))]
        for which, mask in enumerate(now):
            exact[which].append(iou(mask, disc(x)))
            if before:
                flicker[which].append(1 - iou(mask, np.roll(before[which], 2, axis=1)))
        before = now
    assert np.mean(flicker[1]) < 0.5 * np.mean(flicker[0])
    assert np.mean(exact[1]) > np.mean(exact[0])


@pytest.mark.parametrize("mask_paste", ["tensorflow", "tutorial"])
def test_a_mask_that_is_right_stays_right(mask_paste: str) -> None:
    smoother = Smoother()
    for index in range(20):
        seen = found(disc(50 + 2 * index), mask_paste)
        smooth = smoother.update(ground(2 * index), seen)
        assert iou(smooth.masks(0.5)[0], disc(50 + 2 * index)) > iou(seen.masks(0.5)[0], disc(50 + 2 * index)) - 0.02


def test_an_object_that_changes_is_not_late() -> None:
    smoother = Smoother()
    for _ in range(5):
        smoother.update(ground(), found(disc(80, 20), "tutorial"))
    changed = smoother.update(ground(), found(disc(80, 40), "tutorial"))
    assert iou(changed.masks(0.5)[0], disc(80, 40)) > 0.9


@pytest.mark.parametrize("mask_paste", ["tensorflow", "tutorial"])
def test_what_must_stay_hidden_loses_no_pixel(mask_paste: str) -> None:
    smoother, plain = Smoother(covering=True), Smoother()
    lost = [0, 0]
    for index in range(6):
        seen = found(disc(60 + 2 * index, 20 + 2 * (index % 2)), mask_paste)
        for which, one in enumerate((smoother, plain)):
            smooth = one.update(ground(), seen)
            lost[which] += int((seen.masks(0.5)[0].astype(bool) & ~smooth.masks(0.5)[0].astype(bool)).sum())
    assert lost[0] == 0 < lost[1]


def test_scores_are_averaged_and_other_ids_and_cuts_begin_anew() -> None:
    smoother = Smoother()
    scores = [smoother.update(ground(), found(disc(80), "tutorial", confidence=c)).confidence[0] for c in (0.9, 0.5)]
    assert scores == pytest.approx([0.9, 0.35 * 0.5 + 0.65 * 0.9])
    other = smoother.update(ground(), found(disc(80), "tutorial", (2,), 0.5))
    assert other.confidence[0] == 0.5
    black = np.zeros((*SIZE, 3), np.uint8)
    assert smoother.update(black, found(disc(80), "tutorial", (2,), 0.7)).confidence[0] == pytest.approx(0.7)
    nothing = replace(Detections.empty(SIZE), tracker_id=np.zeros(0, np.int32))
    assert len(smoother.update(black, nothing)) == 0


def test_smoothing_needs_ids(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "a.mp4", "--smooth"]) == 2
    assert "--smooth needs --track" in capsys.readouterr().err

    class Model:
        def detect(self, frame: NDArray[np.uint8]) -> Detections:
            return Detections.empty(frame.shape[:2])

    with pytest.raises(ValueError, match="smooth needs track=True"):
        annotate("a.mp4", Model(), smooth=True)


class Frames(Source):
    name = "frames"

    def _frames(self) -> Iterator[Frame]:
        yield from (Frame(ground(), index, index / 25, self.name) for index in range(2))

    def close(self) -> None:
        pass


class Growing:
    def __init__(self) -> None:
        self.seen = [found(disc(80, radius), "tutorial", confidence=score) for radius, score in ((22, 0.9), (24, 0.5))]
        self.rest = iter(self.seen)

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        return replace(next(self.rest), tracker_id=None)


@pytest.mark.parametrize("bridge", [False, True])
def test_a_run_smooths_what_it_tracks_and_bares_nothing_that_must_stay_hidden(bridge: bool) -> None:
    model = Growing()
    run = annotate(Frames(), model, track=True, smooth=True, bridge=bridge)
    last = [result.detections for result in run][-1]
    assert last.confidence[0] == pytest.approx(0.35 * 0.5 + 0.65 * 0.9, abs=0.01)
    bare = model.seen[1].masks(0.5)[0].astype(bool) & ~last.masks(0.5)[0].astype(bool)
    assert bare.any() != bridge
