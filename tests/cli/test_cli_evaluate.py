"""`evaluate` gives what pycocotools gives for the same detections."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask import scenes
from cvmask.cli.main import main
from cvmask.formats.evaluation import SUMMARY, Truth
from cvmask.formats.saver import Saver, SaveSettings

pytest.importorskip("pycocotools", reason="needs pycocotools")
SIZE = (160, 128)


@pytest.fixture
def truth(work: Path) -> Path:
    """Write five scenes and what is really in them, with other ids and another order of classes."""
    (work / "images").mkdir()
    images, annotations = [], []
    for number in range(5):
        scene = scenes.make_scene(40 + number, SIZE, objects=3)
        cv2.imwrite(f"images/s{number}.png", scene.image)
        images.append({"id": 100 + number, "file_name": f"s{number}.png", "width": SIZE[0], "height": SIZE[1]})
        for mask, class_id in zip(scene.masks, scene.class_id.tolist()):
            from pycocotools import mask as coco_mask

            rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": 50 - class_id,
                    "segmentation": segmentation,
                    "bbox": coco_mask.toBbox(rle).tolist(),
                    "area": float(mask.sum()),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 50 - number, "name": name} for number, name in enumerate(scenes.LABELS)]
    data = {"images": images, "annotations": annotations, "categories": [*categories, {"id": 99, "name": "unicorn"}]}
    Path("truth.json").write_text(json.dumps(data))
    return Path("truth.json")


def by_pycocotools(truth: Path, results: list[dict[str, object]], kind: str) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    coco = COCO(str(truth))
    coco.dataset["info"] = {}
    run = COCOeval(coco, coco.loadRes(results), kind)
    run.params.catIds = [one["id"] for one in coco.dataset["categories"] if one["name"] != "unicorn"]
    run.evaluate()
    run.accumulate()
    run.summarize()
    return [float(value) for value in run.stats]


def test_evaluate_gives_what_pycocotools_gives(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--truth", "truth.json", "--images", "images", "--size", "128", "-o", "out"]
    assert main(["evaluate", "shapes", "shapes", "--conf", "0.2", *options]) == 0
    said = capsys.readouterr()
    assert "does not know unicorn" in said.err
    report = json.loads(Path("out/evaluation.json").read_text())
    assert list(report) == ["shapes", "shapes (2)"]
    assert report["shapes"] == report["shapes (2)"]
    # The same detections, through the format that pycocotools reads.
    from cvmask import load
    from cvmask.formats.record import Record

    model = load("shapes", size=128, score_threshold=0.2)
    with Saver(["coco"], SaveSettings(Path("saved"), model.labels)) as saver:
        for number in range(5):
            frame = cv2.imread(f"images/s{number}.png")
            saver.write(Record(f"s{number}.png", model.detect(frame)), frame)
    results = json.loads(Path("saved/coco_results.json").read_text())
    for one in results:
        one["image_id"], one["category_id"] = one["image_id"] + 99, 51 - one["category_id"]
    for kind, theirs in (("box", "bbox"), ("mask", "segm")):
        ours = [report["shapes"][kind][name] for name in SUMMARY]
        expected = [None if value < 0 else pytest.approx(value) for value in by_pycocotools(truth, results, theirs)]
        assert ours == expected
        assert 0.1 < ours[0] < 1
        by_class = report["shapes"][kind]["by_class"]
        assert np.mean(list(by_class.values())) == pytest.approx(ours[0])
        assert "unicorn" not in by_class
    assert f"{100 * report['shapes']['mask']['AP']:.1f}" in said.out
    for name in ("curves_1_shapes.png", "curves_2_shapes.png", "worst_1_shapes.jpg"):
        assert cv2.imread(f"out/{name}") is not None


def test_a_picture_that_is_missing_or_of_another_size_is_named(truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("images/s1.png").unlink()
    cv2.imwrite("images/s2.png", np.zeros((20, 30, 3), np.uint8))
    options = ["--truth", "truth.json", "--images", "images", "--size", "128", "-o", "out"]
    assert main(["evaluate", "shapes", *options]) == 3
    said = capsys.readouterr().err
    assert "s1.png: cannot be read" in said
    assert "s2.png: is 30x20, but 160x128 in the data set" in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a COCO data set"),
        ("{}", "is not a COCO data set of instances: no 'images'"),
        ('{"images": [], "annotations": [], "categories": []}', "has no images or no annotations"),
        ('{"images": [{"id": 1, "file_name": "a"}], "annotations": [{}], "categories": []}', "is not a COCO data set"),
    ],
)
def test_what_is_no_truth_is_one_line(
    work: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    Path("truth.json").write_text(content)
    assert main(["evaluate", "shapes", "--truth", "truth.json", "--images", "."]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_mistakes_are_counted_and_nothing_found_is_nothing(truth: Path) -> None:
    known = Truth(truth)
    ids, classes = sorted(known.images), known.common(scenes.LABELS)
    nothing = known.score([], "mask", ids, classes)
    assert nothing.summary["AP"] == 0
    assert nothing.wrong == dict.fromkeys(ids, (3, 0))
    first = json.loads(truth.read_text())["annotations"][0]
    right = {**{key: first[key] for key in ("image_id", "category_id", "segmentation", "bbox")}, "score": 0.9}
    shifted = {**right, "bbox": [150, 120, 5, 5]}
    scores = known.score([right, shifted, {**shifted, "score": 0.4}], "box", ids, classes)
    assert scores.wrong == {**dict.fromkeys(ids, (3, 0)), 100: (2, 1)}
