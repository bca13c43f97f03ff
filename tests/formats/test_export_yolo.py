"""YOLO files are read by supervision."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS, iou
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.cli.main import main
from cvmask.formats.record import Record
from cvmask.formats.yolo import YoloWriter, to_lines
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


def test_data_yaml_names_its_folder_and_labels_lie_by_their_pictures(work: Path) -> None:
    yaml = pytest.importorskip("yaml")
    picture = scenes.make_scene(3, (96, 64), objects=3).image
    for name in ("12:30:05.png", "a.b.jpg"):
        cv2.imwrite(name, picture)
    names = ["12:30:05.png", "a.b.jpg"]
    assert main(["predict", "-m", "shapes", "--size", "64", *names, "-o", "out", "--save", "yolo,yolo-largest"]) == 0
    for folder in ("yolo", "yolo_largest"):
        data = yaml.safe_load(Path("out", folder, "data.yaml").read_text(encoding="utf-8"))
        assert Path(data["path"]) == work / "out" / folder
        images = sorted(Path(data["path"], data["train"]).iterdir())
        assert [path.name for path in images] == ["12_30_05.png", "a.b.jpg"]
        for path in images:  # as trainers look for them
            assert Path(str(path.with_suffix(".txt")).replace("/images/", "/labels/")).is_file()
        assert images[1].read_bytes() == Path("a.b.jpg").read_bytes()


def parts(*rectangles: tuple[int, int, int, int]) -> Detections:
    """One object of rectangles: left, top, right, bottom."""
    soft = np.zeros((1, 200, 300), np.float32)
    for left, top, right, bottom in rectangles:
        soft[0, top:bottom, left:right] = 1
    box = np.array([[0, 0, 300, 200]], np.float32)
    return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), soft, (200, 300))


def read_back(line: str) -> NDArray[np.bool_]:
    points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * (300, 200)
    filled = np.zeros((200, 300), np.uint8)
    cv2.fillPoly(filled, [points.astype(np.int32)], 1)
    return filled.astype(bool)


def test_a_bridge_never_costs_more_than_its_part_is_worth() -> None:
    far = parts((0, 0, 12, 12), (290, 190, 296, 196), (20, 0, 30, 10))
    (line,), (alone,) = to_lines(far), to_lines(far, largest_part=True)
    mask, largest = far.masks()[0], parts((0, 0, 12, 12)).masks()[0]
    assert np.array_equal(read_back(alone), largest)
    # The small part is 280 pixels away and has 36: it is left out. The near one stays.
    assert iou(read_back(line), mask) >= 0.84 > iou(largest, mask)
    assert not read_back(line)[190:, 290:].any()
    assert read_back(line)[5, 25]


def test_yolo_finds_the_same_pixel_by_cutting_and_by_rounding(tmp_path: Path, scene: Detections) -> None:
    with YoloWriter(tmp_path, LABELS) as writer:
        writer.write(Record("a.jpg", scene))
    for line, mask in zip((tmp_path / "labels" / "a.txt").read_text().splitlines(), scene.masks()):
        points = np.array(line.split()[1:], np.float32).reshape(-1, 2) * (300, 200)
        assert np.array_equal(points.astype(int), points.round().astype(int))
        x, y = points.astype(int).T
        assert mask[y, x].all()
