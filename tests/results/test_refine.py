"""Refined masks end where the picture's objects do."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, iou

from cvmask.drawing.draw import draw
from cvmask.drawing.effects import blur_background, remove_background, replace_background
from cvmask.formats.images import cut_out
from cvmask.results.detections import Detections

SIZE = (160, 200)


def disc_and_picture() -> tuple[Detections, np.ndarray, np.ndarray]:
    """Give a disc in a box that is off by some pixels, its true pixels, and a noisy picture of it."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    truth = np.hypot(x - 100, y - 80) < 60
    noise = np.random.default_rng(3).normal(0, 6, (*SIZE, 3))
    picture = np.clip(np.where(truth[..., None], (40, 90, 200), (150, 160, 60)) + noise, 0, 255).astype(np.uint8)
    box = np.array([[36, 24, 158, 139]], np.float32)
    columns, rows = np.linspace(36, 158, 15), np.linspace(24, 139, 15)
    soft = np.float32(np.hypot(columns[None] - 97, rows[:, None] - 82) < 60)
    found = Detections(box, np.ones(1, np.float32), np.zeros(1, np.int32), soft[None], SIZE)
    return found, truth, picture


def test_a_refined_mask_lies_on_the_edge_of_the_object() -> None:
    found, truth, picture = disc_and_picture()
    assert iou(found.masks()[0], truth) < 0.91
    assert iou(found.refined(picture).masks()[0], truth) > 0.93


def test_all_that_is_made_of_masks_is_refined() -> None:
    found, _, picture = disc_and_picture()
    refined = found.refined(picture)
    mask = refined.masks()[0]
    assert (mask != found.masks()[0]).any()
    assert refined.area().tolist() == [mask.sum()]
    assert sum(cv2.contourArea(part.outline) for part in refined.polygons()[0]) == pytest.approx(mask.sum(), rel=0.05)
    assert np.array_equal(refined[:1].masks()[0], mask)
    assert np.array_equal(draw(picture, found, refine=True), draw(picture, refined))
    assert (draw(picture, found, refine=True) != draw(picture, found)).any()


def test_where_edges_count_they_are_refined_unless_that_is_refused() -> None:
    found, _, picture = disc_and_picture()
    refined = found.refined(picture)
    for result in (remove_background, blur_background):
        assert np.array_equal(result(picture, found), result(picture, refined, refine=False))
        assert (result(picture, found) != result(picture, found, refine=False)).any()
    assert np.array_equal(
        replace_background(picture, found, (0, 255, 0)), replace_background(picture, refined, (0, 255, 0))
    )
    (cut,), (plain,) = cut_out(picture, found), cut_out(picture, found, refine=False)
    assert (cut[..., 3] > 0).sum() == refined.area()[0]
    assert (plain[..., 3] > 0).sum() == found.area()[0]


def test_nothing_is_on_outside_the_box_and_no_edge_changes_nothing() -> None:
    found, _, picture = disc_and_picture()
    left, top, right, bottom = found.boxes()[0]
    mask = found.refined(picture).masks()[0]
    mask[top:bottom, left:right] = False
    assert not mask.any()
    grey = np.full_like(picture, 128)
    assert iou(found.refined(grey).masks()[0], found.masks()[0]) > 0.97


@pytest.mark.parametrize("box", [(3, 3, 3.4, 3.4), (0, 0, 40, 1), (5, 5, 6, 30), (0, 0, 40, 30), (39, 29, 40, 30)])
@pytest.mark.parametrize("cells", [(1, 1), (15, 15), (2, 40)])
def test_boxes_and_masks_of_any_size_are_refined(box: tuple[float, ...], cells: tuple[int, int]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    full = np.ones((1, *cells), np.float32)
    one, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
    found = Detections(np.array([box], np.float32), one, zero, full, (30, 40), mask_paste="tutorial")
    assert found.refined(frame).area().tolist() == found.area().tolist()


def test_another_frame_is_refused_and_no_file_keeps_it() -> None:
    found, _, picture = disc_and_picture()
    with pytest.raises(ValueError, match="got a frame of"):
        found.refined(picture[1:])
    refined = found.refined(picture)
    assert refined != found
    assert refined == found.refined(picture.copy())
    assert Detections.from_dict(json.loads(json.dumps(refined.to_dict()))) == found


def test_refined_masks_are_nearer_to_real_objects(shared: Path) -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "dev" / "measure_refine.py"))
    rng = np.random.default_rng(0)
    rows = []
    for picture, truth in list(script["objects"](shared / "data" / "davis"))[::40]:
        found = script["ideal"](truth, rng)
        rows.append([script["score"](one.masks()[0], truth) for one in (found, found.refined(picture))])
    plain, refined = np.mean(rows, axis=0)
    assert refined[0] > plain[0] + 0.02
    assert refined[1] > plain[1] + 0.1
