"""PNG masks and maps are read by Pillow."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS, random_detections

from cvmask.errors import SinkError
from cvmask.formats.images import PngWriter, to_class_map, to_instance_map
from cvmask.formats.record import Record
from cvmask.results.detections import Detections


def test_png_masks_are_read_by_pillow(tmp_path: Path, scene: Detections) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    with PngWriter(tmp_path, LABELS) as writer:
        writer.write(Record("street.jpg", scene))
    names = [
        "street_001_disc.png",
        "street_002_rîng_big.png",
        "street_003_two_parts.png",
        "street_004_rîng_big.png",
    ]
    assert sorted(os.listdir(tmp_path)) == names
    for name, mask in zip(names, scene.masks()):
        with image.open(tmp_path / name) as opened:
            assert opened.mode == "L"
            assert np.array_equal(np.asarray(opened), mask * 255)


def test_png_instances_are_read_by_pillow_and_have_16_bit(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    found = random_detections(np.random.default_rng(13), 300, (120, 160))
    with PngWriter(tmp_path, LABELS, "instances") as writer:
        writer.write(Record("street.jpg", found))
    with image.open(tmp_path / "street.png") as opened:
        read = np.asarray(opened).astype(int)
    assert np.array_equal(read, to_instance_map(found))
    assert read.max() > 255


def test_png_classes_are_read_by_pillow_with_their_palette(tmp_path: Path, scene: Detections) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    colors = np.array([[255, 0, 0], [0, 255, 0], [1, 2, 3]], np.uint8)
    with PngWriter(tmp_path, LABELS, "classes", colors=colors) as writer:
        writer.write(Record("street.jpg", scene))
    with image.open(tmp_path / "street.png") as opened:
        assert opened.mode == "P"
        read, shown = np.asarray(opened), np.asarray(opened.convert("RGB"))
    assert np.array_equal(read, to_class_map(scene))
    assert shown[49, 49].tolist() == [0, 0, 255]
    assert shown[175, 280].tolist() == [0, 255, 0]
    assert shown[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["classes", "classes-grey"])
def test_which_class_map_opencv_reads_is_what_the_page_says(tmp_path: Path, scene: Detections, kind: str) -> None:
    with PngWriter(tmp_path, LABELS, kind) as writer:
        writer.write(Record("street.jpg", scene))
    for flag in (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_UNCHANGED):
        read = cv2.imread(str(tmp_path / "street.png"), flag)
        assert np.array_equal(read, to_class_map(scene)) == (kind == "classes-grey")


def test_instance_map_has_small_objects_on_top() -> None:
    over = dataclasses.replace(
        random_detections(np.random.default_rng(1), 2, (6, 8)),
        xyxy=np.array([[2, 2, 3.5, 3.5], [0, 0, 8, 6]], np.float32),
        soft_masks=np.ones((2, 2, 2), np.float32),
        mask_paste="tutorial",
    )
    expected = np.full((6, 8), 2)
    expected[2:4, 2:4] = 1
    assert np.array_equal(to_instance_map(over), expected)


def test_class_map_refuses_more_classes_than_it_holds(scene: Detections) -> None:
    many = dataclasses.replace(scene, class_id=np.array([0, 1, 2, 255], np.int32))
    with pytest.raises(SinkError, match="class ids 0 to 254, got 255: save instances"):
        to_class_map(many)


def test_png_refuses_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kind must be"):
        PngWriter(tmp_path, LABELS, "palette")
