"""labelme files are read by labelme and supervision."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS, iou
from numpy.typing import NDArray

from cvmask.formats.labelme import LabelmeWriter
from cvmask.formats.record import Record
from cvmask.formats.yolo import YoloWriter
from cvmask.results.detections import Detections


def test_labelme_is_read_by_labelme(tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]) -> None:
    labelme = pytest.importorskip("labelme", reason="needs labelme")
    from labelme.utils import shapes_to_label

    (tmp_path / "pictures").mkdir()
    image = tmp_path / "pictures" / "street.png"
    cv2.imwrite(str(image), picture)
    with LabelmeWriter(tmp_path / "out", LABELS) as writer:
        writer.write(Record("street.png", scene, image_path=image))
        writer.write(Record("clip.mp4", scene, frame_index=3), picture)
    numbers = {label: number for number, label in enumerate(LABELS, 1)}
    for name in ("street.json", "clip_000003.json"):
        read = labelme.LabelFile(str(tmp_path / "out" / name))
        classes, instances = shapes_to_label((200, 300), read.shapes, numbers)
        for number, mask in enumerate(scene.masks(), 1):
            found = instances == number
            assert iou(found, mask) >= 0.99
            assert set(classes[found]) == {scene.class_id[number - 1] + 1}


def test_labelme_is_read_by_supervision(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    sv = pytest.importorskip("supervision", reason="needs supervision")
    cv2.imwrite(str(tmp_path / "street.png"), picture)
    with LabelmeWriter(tmp_path, LABELS) as writer:
        writer.write(Record("street.png", scene, image_path=tmp_path / "street.png"))
    read = sv.DetectionDataset.from_labelme(str(tmp_path), str(tmp_path), force_masks=True)
    _, _, found = read[0]
    assert [read.classes[number] for number in found.class_id] == [LABELS[n] for n in scene.class_id]
    assert all(iou(mask.astype(bool), mine) >= 0.99 for mask, mine in zip(found.mask, scene.masks()))


def test_labelme_groups_parts_and_keeps_holes(tmp_path: Path, scene: Detections) -> None:
    with LabelmeWriter(tmp_path, LABELS) as writer:
        writer.write(Record("clip.mp4", scene, frame_index=0))
    read = json.loads((tmp_path / "clip_000000.json").read_text(encoding="utf-8"))
    assert [shape["group_id"] for shape in read["shapes"]] == [None, None, 3, 3, None]
    assert [shape["label"] for shape in read["shapes"]] == [LABELS[n] for n in (0, 1, 2, 2, 1)]
    assert (read["imageHeight"], read["imageWidth"], read["imageData"]) == (200, 300, None)


def test_labelme_points_at_the_picture_from_its_own_folder(tmp_path: Path, scene: Detections) -> None:
    with LabelmeWriter(tmp_path / "out", LABELS) as writer:
        writer.write(Record("day/a.jpg", scene, image_path=tmp_path / "in" / "day" / "a.jpg"))
    read = json.loads((tmp_path / "out" / "day" / "a.json").read_text(encoding="utf-8"))
    assert read["imagePath"] == "../../in/day/a.jpg"


def tiny() -> Detections:
    """A mask of one pixel, one of two, one of none."""
    soft = np.zeros((3, 4, 4), np.float32)
    soft[0, 1, 1] = soft[1, 1, 1] = soft[1, 1, 2] = 1
    return Detections(
        xyxy=np.array([[2, 2, 5, 5]] * 3, np.float32),
        confidence=np.ones(3, np.float32),
        class_id=np.zeros(3, np.int32),
        soft_masks=soft,
        frame_size=(10, 10),
        mask_paste="tutorial",
    )


def test_labelme_and_yolo_give_three_points_to_the_smallest_masks_and_none_to_nothing(tmp_path: Path) -> None:
    for writer in (LabelmeWriter(tmp_path, LABELS), YoloWriter(tmp_path, LABELS)):
        with writer:
            writer.write(Record("a.mp4", tiny(), 0))
    shapes = json.loads((tmp_path / "a_000000.json").read_text())["shapes"]
    assert [shape["points"] for shape in shapes] == [[[3, 3]] * 3, [[3, 3], [4, 3], [4, 3]]]
    lines = (tmp_path / "labels" / "a_000000.txt").read_text().splitlines()
    assert lines == ["0" + " 0.325000" * 6, "0 0.325000 0.325000 0.425000 0.325000 0.425000 0.325000"]
