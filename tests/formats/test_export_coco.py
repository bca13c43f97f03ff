"""COCO files are read by pycocotools and supervision."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import LABELS, random_detections, write_all
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.coco import CocoWriter
from cvmask.formats.record import Record
from cvmask.results.detections import Detections

COCO_WARNING = "ignore:__array__ implementation:DeprecationWarning"


def coco_of(path: Path) -> Any:
    coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools")
    with contextlib.redirect_stdout(io.StringIO()):
        return coco.COCO(str(path))


@pytest.mark.filterwarnings(COCO_WARNING)
def test_coco_is_read_by_pycocotools(tmp_path: Path, scene: Detections) -> None:
    write_all(CocoWriter(tmp_path / "coco.json", tmp_path / "results.json", LABELS), scene)
    coco = coco_of(tmp_path / "coco.json")
    assert [one["name"] for one in coco.loadCats([1, 2, 3])] == LABELS
    assert [one["file_name"] for one in coco.loadImgs([1, 2])] == ["street.jpg", "empty.jpg"]
    frame = coco.loadImgs([4])[0]
    assert (frame["video"], frame["frame_index"], frame["time_s"]) == ("day 2/clip.mp4", 17, 0.567)
    assert (frame["height"], frame["width"]) == (200, 300)
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert np.array_equal([coco.annToMask(one) for one in annotations], scene.masks())
    assert [one["area"] for one in annotations] == scene.area().tolist()
    assert annotations[1]["bbox"] == [110, 20, 139, 119]
    assert [one["category_id"] for one in annotations] == [1, 2, 3, 2]
    assert sorted(coco.anns) == list(range(1, 12))


@pytest.mark.filterwarnings(COCO_WARNING)
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_coco_ground_truth_written_as_results_scores_ap_1(tmp_path: Path, kind: str) -> None:
    evaluation = pytest.importorskip("pycocotools.cocoeval", reason="needs pycocotools")
    rng = np.random.default_rng(12)
    writer = CocoWriter(tmp_path / "coco.json", tmp_path / "results.json", [str(n) for n in range(90)])
    with writer:
        for number in range(5):
            found = random_detections(rng, 12, (240, 320))
            # a box without an area overlaps with nothing, itself included
            wide = (found.xyxy[:, 2:] - found.xyxy[:, :2]).min(axis=1) > 1
            writer.write(Record(f"{number}.jpg", found[wide & (found.area() > 0)]))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco_of(tmp_path / "coco.json")
        score = evaluation.COCOeval(truth, truth.loadRes(str(tmp_path / "results.json")), kind)
        score.evaluate()
        score.accumulate()
        score.summarize()
    assert score.stats[0] == pytest.approx(1.0)


def test_coco_is_read_by_supervision(tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]) -> None:
    sv = pytest.importorskip("supervision", reason="needs supervision")
    cv2.imwrite(str(tmp_path / "street.jpg"), picture)
    with CocoWriter(tmp_path / "coco.json", tmp_path / "results.json", LABELS) as writer:
        writer.write(Record("street.jpg", scene))
    read = sv.DetectionDataset.from_coco(str(tmp_path), str(tmp_path / "coco.json"), force_masks=True)
    _, _, found = read[0]
    assert read.classes == LABELS
    assert found.class_id.tolist() == scene.class_id.tolist()
    assert np.array_equal(found.mask, scene.masks())
    assert np.allclose(found.xyxy, scene.xyxy)


def test_coco_takes_the_image_ids_of_a_data_set(tmp_path: Path, scene: Detections) -> None:
    writer = CocoWriter(tmp_path / "a.json", tmp_path / "b.json", LABELS, image_ids={"street.jpg": 139})
    with writer:
        writer.write(Record("street.jpg", scene))
    assert {one["image_id"] for one in json.loads((tmp_path / "b.json").read_text())} == {139}
    with pytest.raises(SinkError, match=r"other\.jpg has no id"), writer:
        writer.write(Record("other.jpg", scene))


@pytest.mark.filterwarnings(COCO_WARNING)
def test_coco_polygons_are_the_masks_to_the_pixel_in_pycocotools(tmp_path: Path, scene: Detections) -> None:
    rng = np.random.default_rng(4)
    ragged = random_detections(rng, 40, (120, 160))
    with CocoWriter(tmp_path / "coco.json", None, [str(n) for n in range(90)], polygons=True) as writer:
        writer.write(Record("street.jpg", scene))
        writer.write(Record("ragged.jpg", ragged))
    coco = coco_of(tmp_path / "coco.json")
    for image_id, found in ((1, scene), (2, ragged[ragged.area() > 0])):
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        assert np.array_equal([coco.annToMask(one) for one in annotations], found.masks())
        assert [one["area"] for one in annotations] == found.area().tolist()
        assert all(len(part) >= 8 for one in annotations for part in one["segmentation"])


@pytest.mark.filterwarnings(COCO_WARNING)
@pytest.mark.parametrize("polygons", [False, True])
def test_coco_has_what_old_readers_insist_on_and_no_empty_object(
    tmp_path: Path, scene: Detections, polygons: bool
) -> None:
    empty = dataclasses.replace(scene, soft_masks=scene.soft_masks * np.float32([1, 0, 1, 1])[:, None, None])
    results = tmp_path / "results.json"
    with CocoWriter(tmp_path / "coco.json", results, LABELS, polygons=polygons) as writer:
        writer.write(Record("street.jpg", empty))
    coco = coco_of(tmp_path / "coco.json")
    assert coco.dataset["info"]["description"]
    assert coco.dataset["licenses"] == []
    assert [one["category_id"] for one in coco.dataset["annotations"]] == [1, 3, 2]
    assert [one["category_id"] for one in json.loads(results.read_text())] == [1, 3, 2]
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(coco.loadRes(str(results)).anns) == 3
        coco.info()
