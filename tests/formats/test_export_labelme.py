"""labelme files are read by labelme and supervision."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS, iou
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.cli.main import main
from cvmask.formats.labelme import LabelmeWriter, to_shapes
from cvmask.formats.record import Record
from cvmask.formats.yolo import YoloWriter
from cvmask.results.detections import Detections

OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


def test_labelme_is_read_by_labelme(tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]) -> None:
    labelme = pytest.importorskip("labelme", reason="needs labelme")
    from labelme.utils import shapes_to_label

    (tmp_path / "pictures").mkdir()
    image = tmp_path / "pictures" / "street.png"
    cv2.imwrite(str(image), picture)
    with LabelmeWriter(tmp_path / "out", LABELS) as writer:
        writer.write(Record("street.png", scene, image_path=image), picture)
        writer.write(Record("clip.mp4", scene, frame_index=3), picture)
        writer.write(Record("there.png", scene, image_path=image))
    numbers = {label: number for number, label in enumerate(LABELS, 1)}
    from labelme import app

    opened = app._scan_image_files(root_dir=str(tmp_path / "out"))
    assert [Path(path).name for path in opened] == ["clip_000003.png", "street.png"]
    for name in ("street.json", "clip_000003.json", "there.json"):
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


@pytest.mark.filterwarnings("ignore:Exception ignored in.*a.jpg:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tiff"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_turned_pictures_lie_in_labelme_as_the_coordinates_do(
    work: Path, suffix: str, orientation: int
) -> None:
    pillow = pytest.importorskip("PIL.Image")
    labelme = pytest.importorskip("labelme")
    if OPENCV < (4, 12) and suffix == ".avif":
        pytest.skip("AVIF is read from OpenCV 4.12 on")
    exif = pillow.Exif()
    exif[274] = orientation
    values = np.zeros((80, 120, 4 if suffix != ".jpg" else 3), np.uint8)
    values[:40, :60] = 255
    values[..., 3:] = 255
    pillow.fromarray(values).save(f"a{suffix}", exif=exif)
    options = ["-m", "shapes", "--size", "64"]
    assert main(["predict", *options, f"a{suffix}", "-o", "out", "--save", "labelme,frames,coco"]) == 0
    read = labelme.LabelFile("out/labelme/a.json")  # it refuses a picture of another size
    seen = np.asarray(pillow.open(io.BytesIO(read.image_data)).convert("L"))
    assert seen.shape == ((120, 80) if orientation == 6 else (80, 120))
    white_at = {1: (0, 0), 3: (-1, -1), 6: (0, -1)}[orientation]
    assert seen[white_at] > 200
    image = json.loads(Path("out/coco.json").read_text(encoding="utf-8"))["images"][0]
    with pillow.open(Path("out/frames", image["file_name"])) as copy:
        assert copy.size == (image["width"], image["height"]) == seen.shape[::-1]
        assert copy.getexif().get(274, 1) == 1
        assert abs(np.asarray(copy.convert("L")).astype(int) - seen).max() < 10


def test_what_labelme_opens_does_not_depend_on_where_the_folder_really_lies(work: Path) -> None:
    (work / "disk" / "deep").mkdir(parents=True)
    os.symlink(work / "disk" / "deep", work / "out")
    cv2.imwrite("a.png", scenes.make_scene(3, (96, 64), objects=3).image)
    assert main(["predict", "-m", "shapes", "--size", "64", "a.png", "-o", "out", "--save", "labelme"]) == 0
    read = json.loads(Path("out/labelme/a.json").read_text())
    assert (work / "disk" / "deep" / "labelme" / read["imagePath"]).is_file()
    with LabelmeWriter(Path("out/other"), LABELS) as writer:
        writer.write(Record("a.png", Detections.empty((64, 96)), image_path=Path("a.png")))
    read = json.loads(Path("out/other/a.json").read_text())
    assert (Path("out/other").resolve() / read["imagePath"]).samefile("a.png")


def test_a_video_is_saved_with_the_frames_that_labelme_yolo_and_coco_name(clip_mp4: Path) -> None:
    options = ["-m", "shapes", "--size", "64", "-o", "out", "--save", "labelme,yolo,coco,frames"]
    assert main(["predict", *options, "clip.mp4"]) == 0
    for image in json.loads(Path("out/coco.json").read_text())["images"]:
        assert Path("out/frames", image["file_name"]).is_file()
        stem = Path(image["file_name"]).stem
        assert Path(f"out/labelme/{stem}.json").is_file()
        assert Path(f"out/labelme/{stem}.png").read_bytes() == Path(f"out/yolo/images/{stem}.png").read_bytes()
        assert Path(f"out/yolo/labels/{stem}.txt").is_file()


def test_polygons_have_few_points_and_stay_where_they_are() -> None:
    soft = np.zeros((1, 200, 200), np.float32)
    cv2.circle(soft[0], (100, 100), 85, 1.0, -1)
    cv2.circle(soft[0], (120, 90), 30, 0.0, -1)
    box = np.array([[10, 20, 210, 220]], np.float32)
    circle = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), soft, (300, 300))
    every = to_shapes(circle, LABELS, tolerance_px=0)[0]["points"]
    few = to_shapes(circle, LABELS)[0]["points"]
    assert len(few) < len(every) / 3
    filled = np.zeros((300, 300), np.uint8)
    cv2.fillPoly(filled, [np.array(few, np.int32)], 1)
    assert iou(filled.astype(bool), circle.masks()[0]) >= 0.985  # the way into the hole and back is painted here


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
