"""Masks cover the pixels that TensorFlow paints, or those that the tutorials' program paints."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, random_detections
from graph_builder import arrays_of
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.results.masks import MASK_PASTES, BoxMask, enlarge, paste, threshold_of, to_frame, whole_boxes


def tutorial_mask(
    box: NDArray[np.float32], soft_mask: NDArray[np.float32], frame_size: tuple[int, int], threshold: float
) -> NDArray[np.bool_]:
    """Paint one row as the tutorials' program does: box in 0..1, its products in single precision."""
    frame_height, frame_width = frame_size
    left = int(np.float32(frame_width) * box[0])
    top = int(np.float32(frame_height) * box[1])
    right = int(np.float32(frame_width) * box[2])
    bottom = int(np.float32(frame_height) * box[3])
    left = max(0, min(left, frame_width - 1))
    top = max(0, min(top, frame_height - 1))
    right = max(0, min(right, frame_width - 1))
    bottom = max(0, min(bottom, frame_height - 1))
    resized = cv2.resize(soft_mask, (right - left + 1, bottom - top + 1))
    frame = np.zeros(frame_size, dtype=bool)
    frame[top : bottom + 1, left : right + 1][resized > threshold] = True
    return frame


@pytest.mark.parametrize("frame_size", [(1, 1), (7, 5), (240, 320), (333, 1000)])
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_masks_are_the_tutorials_to_the_pixel(frame_size: tuple[int, int], threshold: float) -> None:
    rng = np.random.default_rng(7)
    height, width = frame_size
    scale = np.array([width, height, width, height], dtype=np.float32)
    corners = rng.uniform(-0.3, 1.3, (60, 2, 2)).astype(np.float32)
    corners[::6, 1] = corners[::6, 0]
    corners[1::6] = corners[1::6].round()
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    soft_masks = rng.random((60, 15, 15), dtype=np.float32)
    for xyxy in (boxes * scale, np.clip(boxes * scale, np.float32(0), scale)):
        found = to_frame(paste(soft_masks, xyxy, frame_size, "tutorial", threshold), frame_size)
        wanted = [tutorial_mask(box, soft, frame_size, threshold) for box, soft in zip(boxes, soft_masks)]
        assert np.array_equal(found, wanted)


PASTED = Path(__file__).parent.parent / "data" / "pasted.npz"
SIZES = ("48x64", "61x1", "1x47", "7x5", "120x160")


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_tensorflows_before_the_cut_and_to_the_pixel_after_it(size: str) -> None:
    height, width = map(int, size.split("x"))
    kept = arrays_of(PASTED)
    xyxy, soft, wanted = (kept[f"{size} {name}"] for name in ("xyxy", "soft", "pasted"))
    found = np.zeros_like(wanted)
    boxes = whole_boxes(xyxy, (height, width)).tolist()
    enlarged = enlarge(soft, xyxy, (height, width), "tensorflow")
    for frame, pixels, (left, top, right, bottom) in zip(found, enlarged, boxes):
        frame[top:bottom, left:right] = pixels
    assert np.abs(found - wanted).max() < 1e-5
    assert (wanted > 0.5).any()
    assert np.array_equal(to_frame(paste(soft, xyxy, (height, width)), (height, width)), wanted > 0.5)


def test_the_kept_masks_are_what_tensorflow_pastes_now() -> None:
    pytest.importorskip("tensorflow")
    script = runpy.run_path(str(ROOT / "scripts" / "dev" / "make_tf_goldens.py"))
    kept = arrays_of(PASTED)
    for size in SIZES:
        xyxy, soft = kept[f"{size} xyxy"], kept[f"{size} soft"]
        now = script["reframe"](soft, xyxy, tuple(map(int, size.split("x"))))
        assert np.abs(now - kept[f"{size} pasted"]).max() < 1e-6


def test_a_full_mask_reaches_from_edge_to_edge_of_its_box_and_a_half_one_is_cut_in_the_middle() -> None:
    soft = np.zeros((2, 15, 15), np.float32)
    soft[0], soft[1, :, :7], soft[1, :, 7] = 1, 1, 0.5
    full, half = paste(soft, np.array([[20, 10, 80, 50]] * 2, np.float32), (101, 101))
    assert (full.left, full.top, full.mask.shape) == (20, 10, (41, 61))
    # TensorFlow takes pixel i of 101 from i / 100: the box goes from pixel 19.8 to 79.2, and from 9.9 to 49.5.
    assert full.mask[:40, :60].all()
    assert full.mask.sum() == 40 * 60
    assert np.flatnonzero(half.mask[5]).tolist() == list(range(30)), "the middle, pixel 49.5, lies between two"


def test_the_tutorials_way_shrinks_a_mask_and_tensorflows_does_not() -> None:
    soft = np.zeros((1, 15, 15), np.float32)
    soft[:, :, :2] = 1  # the cut lies one and a half cells from the first sample, or half a cell further in
    box = np.array([[0, 0, 140, 140]], np.float32)
    widths = [int(next(paste(soft, box, (300, 300), name, 0.5)).mask[70].sum()) for name in MASK_PASTES]
    assert widths == [15, 19]


def test_the_threshold_is_that_of_the_paste_unless_there_is_one() -> None:
    assert [threshold_of(name, None) for name in ("tensorflow", "tutorial")] == [0.5, 0.3]
    assert threshold_of("tensorflow", 0.25) == 0.25
    soft = np.full((1, 3, 3), 0.4, np.float32)
    box = np.array([[1, 1, 5, 5]], np.float32)
    assert [bool(next(paste(soft, box, (9, 9), name)).mask.any()) for name in MASK_PASTES] == [False, True]


def test_another_paste_is_refused() -> None:
    with pytest.raises(ValueError, match="mask_paste must be one of tensorflow, tutorial, got 'opencv'"):
        next(paste(np.ones((1, 3, 3), np.float32), np.ones((1, 4), np.float32), (9, 9), "opencv"))


@pytest.mark.parametrize(
    ("xyxy", "whole"),
    [
        ([2, 1, 5, 3], [2, 1, 6, 4]),
        ([2.9, 1.9, 5.9, 3.9], [2, 1, 6, 4]),
        ([0, 0, 8, 6], [0, 0, 8, 6]),
        ([-3.5, -0.5, 99, 99], [0, 0, 8, 6]),
        ([4, 4, 4, 4], [4, 4, 5, 5]),
        ([-9, -9, -2, -2], [0, 0, 1, 1]),
        ([20, 20, 30, 30], [7, 5, 8, 6]),
        ([5, 3, 2, 1], [5, 3, 6, 4]),
    ],
)
def test_whole_boxes_by_hand(xyxy: list[float], whole: list[int]) -> None:
    assert whole_boxes(np.array([xyxy], np.float32), (6, 8)).tolist() == [whole]


def test_whole_boxes_of_nothing() -> None:
    assert whole_boxes(np.zeros((0, 4), np.float32), (6, 8)).shape == (0, 4)


def test_paste_is_greater_than_the_threshold_and_not_equal() -> None:
    soft = np.array([[[0.5, 0.75], [0.25, 0.5]]], np.float32)
    (pasted,) = paste(soft, np.array([[3, 4, 4, 5]], np.float32), (9, 9), "tutorial", 0.5)
    assert pasted.mask.tolist() == [[False, True], [False, False]]
    assert (pasted.left, pasted.top) == (3, 4)


def test_window_cuts_the_box_out_of_the_frame() -> None:
    frame = np.arange(48).reshape(6, 8)
    assert frame[BoxMask(np.ones((2, 3), bool), 4, 1).window].tolist() == [[12, 13, 14], [20, 21, 22]]


def test_to_frame_puts_each_mask_in_a_frame_of_its_own(two: Detections) -> None:
    full = to_frame(two.box_masks(), (6, 8)).astype(int)
    assert full[0].tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    assert full[1].sum() == full[1, 2:, 4:6].sum() == 8


def test_to_frame_of_nothing() -> None:
    assert to_frame([], (6, 8)).shape == (0, 6, 8)


def test_pasting_works_for_soft_masks_of_any_size() -> None:
    rng = np.random.default_rng(1)
    found = random_detections(rng, 4, (50, 60))
    for shape in [(1, 1), (33, 33), (7, 40)]:
        soft = np.ones((4, *shape), np.float32)
        pasted = paste(soft, found.xyxy, found.frame_size, "tutorial")
        sizes = [mask.mask.size for mask in pasted if mask.mask.all()]
        boxes = found.boxes()
        assert sizes == ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).tolist()
