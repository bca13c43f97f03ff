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


def test_a_run_smooths_what_it_tracks() -> None:
    class Frames(Source):
        name = "frames"

        def _frames(self) -> Iterator[Frame]:
            yield from (Frame(ground(), index, index / 25, self.name) for index in range(2))

        def close(self) -> None:
            pass

    class Model:
        scores = iter((0.9, 0.5))

        def detect(self, frame: NDArray[np.uint8]) -> Detections:
            return replace(found(disc(80), "tutorial", confidence=next(self.scores)), tracker_id=None)

    last = [result.detections for result in annotate(Frames(), Model(), track=True, smooth=True)][-1]
    assert last.confidence[0] == pytest.approx(0.35 * 0.5 + 0.65 * 0.9)
