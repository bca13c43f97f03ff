from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.runtime.decode import keep_rows, to_detections


def rows(*found: tuple[float, ...], padding: int = 0) -> NDArray[np.float32]:
    """Rows of (class, score, left, top, right, bottom) as the network gives them, and zeros after."""
    filled = [(0, *row) for row in found] + [(0,) * 7] * padding
    return np.array(filled, np.float32).reshape(1, 1, -1, 7)


def test_decode_drops_zero_padding() -> None:
    kept = keep_rows(rows((0, 0.9, 0, 0, 1, 1), padding=99), score_threshold=0.0)
    assert kept.shape == (1, 1, 1, 7)
    assert kept[0, 0, 0, 2] == np.float32(0.9)


def test_decode_needs_a_score_above_the_threshold() -> None:
    kept = keep_rows(rows((1, 0.5, 0, 0, 1, 1), (1, 0.75, 0, 0, 1, 1)), score_threshold=0.5)
    assert kept[0, 0, :, 2].tolist() == [0.75]


def test_decode_keeps_wanted_classes_only() -> None:
    found = rows((1, 0.9, 0, 0, 1, 1), (5, 0.8, 0, 0, 1, 1), (2, 0.7, 0, 0, 1, 1))
    assert keep_rows(found, classes=(2, 1))[0, 0, :, 1].tolist() == [1, 2]
    assert keep_rows(found, classes=()).shape == (1, 1, 0, 7)


def test_decode_keeps_the_best_in_the_order_of_the_network() -> None:
    found = rows((1, 0.7, 0, 0, 1, 1), (2, 0.9, 0, 0, 1, 1), (3, 0.6, 0, 0, 1, 1), (4, 0.8, 0, 0, 1, 1))
    assert keep_rows(found, max_detections=3)[0, 0, :, 1].tolist() == [1, 2, 4]


def test_decode_scales_boxes_to_the_frame_and_clips_them() -> None:
    masks = np.zeros((2, 6, 15, 15), np.float32)
    found = to_detections(rows((1, 0.9, 0.25, 0.5, 0.75, 1), (5, 0.8, -0.1, -2, 1.5, 3)), masks, (100, 200))
    assert found.xyxy.tolist() == [[50, 50, 150, 100], [0, 0, 200, 100]]
    assert found.frame_size == (100, 200)


def test_decode_takes_the_mask_of_the_own_class() -> None:
    masks = np.zeros((2, 3, 2, 2), np.float32)
    masks[0, 1], masks[1, 2] = 0.25, 0.75
    found = to_detections(rows((1, 0.9, 0, 0, 1, 1), (2, 0.8, 0, 0, 1, 1)), masks, (10, 10))
    assert found.soft_masks.tolist() == [[[0.25, 0.25]] * 2, [[0.75, 0.75]] * 2]
    assert found.class_id.tolist() == [1, 2]


def test_decode_of_nothing_is_empty() -> None:
    found = to_detections(keep_rows(rows(padding=100)), np.zeros((0, 90, 15, 15), np.float32), (10, 20))
    assert len(found) == 0
    assert found.soft_masks.shape == (0, 15, 15)


def tutorial(
    boxes: NDArray[np.float32], masks: NDArray[np.float32], frame_size: tuple[int, int], threshold: float
) -> list[NDArray[np.bool_]]:
    """The tutorials' own steps, written down once more: the reference for which pixels are on."""
    height, width = frame_size
    result = []
    for row, mask in zip(boxes, masks):
        left, top = int(width * row[3]), int(height * row[4])
        right, bottom = int(width * row[5]), int(height * row[6])
        left, top = max(0, min(left, width - 1)), max(0, min(top, height - 1))
        right, bottom = max(0, min(right, width - 1)), max(0, min(bottom, height - 1))
        full = np.zeros(frame_size, bool)
        full[top : bottom + 1, left : right + 1] = (
            cv2.resize(mask[int(row[1])], (right - left + 1, bottom - top + 1)) > threshold
        )
        result.append(full)
    return result


@pytest.mark.parametrize("frame_size", [(480, 640), (333, 500), (1, 1), (2000, 7)])
def test_masks_are_the_tutorials_to_the_pixel(frame_size: tuple[int, int]) -> None:
    rng = np.random.default_rng(7)
    count = 60
    corners = np.sort(rng.uniform(-0.3, 1.3, (count, 2, 2)), axis=1)
    corners[::6, 1] = corners[::6, 0]  # one pixel
    boxes = corners.reshape(count, 4)
    found = [(rng.integers(0, 4), score, *box) for score, box in zip(rng.uniform(0.3, 1, count), boxes)]
    raw = rows(*found)
    masks = rng.random((count, 4, 15, 15), dtype=np.float32)
    expected = tutorial(raw.reshape(-1, 7), masks, frame_size, 0.3)
    actual = to_detections(raw, masks, frame_size, "tutorial").masks()
    assert np.array_equal(actual, np.array(expected))


def test_reference_rows_decode_to_what_opencv_expects(shared: Path) -> None:
    stem = shared / "data/reference/mask_rcnn_inception_v2_coco_2018_01_28"
    raw = np.load(f"{stem}.detection_out.npy")
    own = np.load(f"{stem}.detection_masks.npy")[0, :7]
    street = cv2.imread(str(shared / "data/reference/street.png"))
    kept = keep_rows(raw, score_threshold=0.3)
    masks = np.zeros((7, 90, 15, 15), np.float32)
    masks[np.arange(7), raw.reshape(-1, 7)[:, 1].astype(int)] = own
    found = to_detections(kept, masks, street.shape[:2], "tutorial")
    assert found.class_id.tolist() == [0, 2, 9, 2, 9, 9, 63]
    assert np.array_equal(found.confidence, raw.reshape(-1, 7)[:, 2])
    assert np.array_equal(found.soft_masks, own)
    assert np.array_equal(found.masks(), np.array(tutorial(raw.reshape(-1, 7), masks, street.shape[:2], 0.3)))


def test_decode_takes_the_one_mask_of_a_network_that_has_one_for_all_classes() -> None:
    masks = np.full((2, 1, 3, 3), 0.5, np.float32)
    found = to_detections(rows((1, 0.9, 0, 0, 1, 1), (7, 0.8, 0, 0, 1, 1)), masks, (10, 10))
    assert found.soft_masks.shape == (2, 3, 3)
