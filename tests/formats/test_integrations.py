"""The programs of docs/integrations, with the real packages of the tools that they are for."""

from __future__ import annotations

import importlib
import re
import types
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import cvmask
from cvmask import scenes
from cvmask.results.detections import Detections

ROOT = Path(__file__).resolve().parents[2]


def need(*names: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        for name in names:
            pytest.importorskip(name, reason=f"needs {name}")


def program(page: str) -> types.SimpleNamespace:
    """Run the program of a page, as saved in a file."""
    text = (ROOT / "docs" / "integrations" / page).read_text(encoding="utf-8")
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    names = {"__name__": "pasted"}
    exec(compile(block, page, "exec"), names)
    return types.SimpleNamespace(**names)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return scenes.make_scene(5, (320, 240), objects=4).image


@pytest.fixture(scope="module")
def found(picture: NDArray[np.uint8]) -> Detections:
    found = cvmask.load("shapes").detect(picture)
    assert len(found) >= 3
    return found


def filled(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """Pixels whose centre lies in the polygon."""
    mask = np.zeros((height * 8, width * 8), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 8).astype(np.int32)], 1)
    return mask[4::8, 4::8].view(np.bool_)


def iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


LABELS = "".join(f'<Label value="{name.title()}"/>' for name in ("square", "triangle", "star", "cross", "ring"))


@pytest.mark.filterwarnings("ignore")  # those of label_studio_ml
@pytest.mark.parametrize("tag", ["BrushLabels", "PolygonLabels"])
def test_label_studio_shows_what_is_found(
    tag: str, picture: NDArray[np.uint8], found: Detections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("label_studio_ml.api", "label_studio_sdk.converter.brush")
    brush = importlib.import_module("label_studio_sdk.converter.brush")
    monkeypatch.setenv("CVMASK_MODEL", "shapes")
    cv2.imwrite(str(tmp_path / "scene.png"), picture)
    (tmp_path / "text.png").write_text("no picture")
    config = (
        f'<View><Image name="image" value="$image"/><{tag} name="tag" toName="image">{LABELS}'
        f'<Label value="Round" predicted_values="circle, heart, arrow"/></{tag}></View>'
    )
    client = program("label-studio.md").app.test_client()
    asked = {"project": "1.1", "schema": config, "hostname": "", "access_token": ""}
    assert client.post("/setup", json=asked).status_code == 200
    tasks = [
        {"id": number, "data": {"image": f"/data/local-files/?d={tmp_path / name}"}}
        for number, name in enumerate(("scene.png", "text.png", "gone.png"))
    ]
    answer = client.post("/predict", json={"tasks": tasks, "project": "1.1", "label_config": config})
    assert answer.status_code == 200, answer.get_data(as_text=True)
    good, *bad = answer.get_json()["results"]
    assert bad == [{"result": [], "score": 0.0}] * 2
    assert good["score"] == pytest.approx(float(found.confidence.mean()))
    assert len(good["result"]) >= len(found)
    for one in found:
        label = "Round" if one.label in ("circle", "heart", "arrow") else one.label.title()
        mine = [
            region
            for region in good["result"]
            if region["score"] == pytest.approx(one.confidence) and region["value"][tag.lower()] == [label]
        ]
        assert mine
        assert {(r["original_width"], r["original_height"], r["to_name"]) for r in mine} == {(320, 240, "image")}
        if tag == "BrushLabels":
            (region,) = mine
            read = brush.decode_rle(region["value"]["rle"]).reshape(240, 320, 4)[..., 3]
            assert np.array_equal(read > 0, one.mask())
        else:
            parts = [filled(np.array(r["value"]["points"]) * (3.2, 2.4), 240, 320) for r in mine]
            assert iou(np.any(parts, axis=0), one.mask()) >= 0.97


@pytest.mark.filterwarnings("ignore")  # those of cvat_sdk
def test_cvat_takes_what_is_found(picture: NDArray[np.uint8], found: Detections) -> None:
    need("cvat_sdk.auto_annotation", "cvat_sdk.masks", "PIL.Image")
    cvat_masks = importlib.import_module("cvat_sdk.masks")
    image = importlib.import_module("PIL.Image").fromarray(picture[..., ::-1])
    function = program("cvat.md").create(model="shapes")
    assert [label.name for label in function.spec.labels] == list(cvmask.load("shapes").labels)

    def detect(threshold: float | None, polygons: bool) -> list:
        context = types.SimpleNamespace(frame_name="scene.png", conf_threshold=threshold, conv_mask_to_poly=polygons)
        return function.detect(context, image)

    shapes = detect(None, False)
    assert [(shape.type.value, shape.label_id) for shape in shapes] == [("mask", one.class_id) for one in found]
    for shape, mask in zip(shapes, found.masks()):
        read = cvat_masks.decode_mask(shape.points, image_width=320, image_height=240)
        assert np.array_equal(read, mask)
    assert len(detect(0.1, False)) >= len(shapes)
    assert detect(1.0, False) == []
    polygons = detect(None, True)
    assert {shape.type.value for shape in polygons} == {"polygon"}
    union = np.any([filled(np.array(shape.points).reshape(-1, 2), 240, 320) for shape in polygons], axis=0)
    assert iou(union, found.masks().any(axis=0)) >= 0.97


@pytest.mark.filterwarnings("ignore")  # those of fiftyone
def test_fiftyone_takes_what_is_found(found: Detections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("fiftyone")
    (tmp_path / "cvmask_demo").mkdir()
    cv2.imwrite(str(tmp_path / "cvmask_demo" / "scene.png"), scenes.make_scene(5, (320, 240), objects=4).image)
    monkeypatch.chdir(tmp_path)
    objects = program("fiftyone.md").sample["cvmask"].detections
    assert [one.label for one in objects] == [one.label for one in found]
    for one, mask in zip(objects, found.masks()):
        whole = one.to_segmentation(frame_size=(320, 240), target=1).mask
        assert np.array_equal(whole > 0, mask)
