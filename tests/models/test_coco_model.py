"""The trained COCO model against what OpenCV's own test expects of it, where somebody has it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import cvmask
from cvmask import models
from cvmask.runtime.decode import to_detections


def test_coco_gives_what_opencv_expects(shared: Path) -> None:
    if models.find("coco") is None:
        pytest.skip("needs the trained model: cvmask models download coco")
    stem = shared / "data/reference/mask_rcnn_inception_v2_coco_2018_01_28"
    raw, own = np.load(f"{stem}.detection_out.npy"), np.load(f"{stem}.detection_masks.npy")[0, :7]
    street = cv2.imread(str(shared / "data/reference/street.png"))
    masks = np.repeat(own[:, None], 90, axis=1)
    expected = to_detections(raw, masks, street.shape[:2])
    found = cvmask.load("coco", size="800x800", score_threshold=0.3).detect(street)
    assert found.class_id.tolist() == expected.class_id.tolist()
    assert np.abs(found.confidence - expected.confidence).max() < 2e-5
    mine, theirs = found.masks(), expected.masks()
    assert ((mine & theirs).sum(axis=(1, 2)) / (mine | theirs).sum(axis=(1, 2))).min() >= 0.99
