"""YOLO files are read by supervision."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS, iou
from numpy.typing import NDArray

from cvmask.formats.record import Record
from cvmask.formats.yolo import YoloWriter
from cvmask.results.detections import Detections


@pytest.mark.parametrize("scores", [False, True])
def test_yolo_is_read_by_supervision(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8], scores: bool
) -> None:
    sv = pytest.importorskip("supervision", reason="needs supervision")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "street.jpg"), picture)
    with YoloWriter(tmp_path, LABELS, scores=scores) as writer:
        writer.write(Record("street.jpg", scene))
    folders = [str(tmp_path / name) for name in ("images", "labels", "data.yaml")]
    read = sv.DetectionDataset.from_yolo(*folders, force_masks=True)
    _, _, found = read[0]
    assert read.classes == LABELS
    assert found.class_id.tolist() == scene.class_id.tolist()
    for number in (0, 1, 3):
        assert iou(found.mask[number], scene.masks()[number]) >= 0.99
    # one row is one ring: two parts are joined by a line of one pixel
    assert iou(found.mask[2], scene.masks()[2]) >= 0.97


def test_yolo_finds_the_same_pixel_by_cutting_and_by_rounding(tmp_path: Path, scene: Detections) -> None:
    with YoloWriter(tmp_path, LABELS) as writer:
        writer.write(Record("a.jpg", scene))
    for line, mask in zip((tmp_path / "labels" / "a.txt").read_text().splitlines(), scene.masks()):
        points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * (300, 200)
        assert np.array_equal(points.astype(int), points.round().astype(int))
        x, y = points.astype(int).T
        assert mask[y, x].all()
