"""Large pictures in tiles: what single scenes show is found again, once, whatever the order of the tiles."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from cvmask import load, scenes
from cvmask.graph.facts import Resizer
from cvmask.results.detections import Detections
from cvmask.runtime import tiles
from cvmask.runtime.tiles import check_tile, detect_tiled, starts, tile_wh

SIDE = 320


@pytest.fixture(scope="module")
def model():
    return load("shapes")


def seen(picture, value=255):
    """A detector that knows squares of one grey: the box and the mask of all of them that it sees, as one object."""
    rows, columns = np.nonzero(picture[:, :, 0] == value)
    height, width = picture.shape[:2]
    if not len(rows):
        return Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32),
                          np.empty((0, 33, 33), np.float32), (height, width))  # fmt: skip
    box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return Detections(np.array([box], np.float32), np.array([0.9], np.float32), np.zeros(1, np.int32),
                      np.ones((1, 33, 33), np.float32), (height, width))  # fmt: skip


def picture_with(*box, size=(600, 900)):
    picture = np.zeros((*size, 3), np.uint8)
    left, top, right, bottom = box
    picture[top:bottom, left:right] = 255
    return picture


def blind(picture):
    """Sees tiles, and nothing in the whole frame."""
    return seen(picture) if picture.shape[1] <= 300 else seen(picture, 7)


SPLITS = [(1000, 320, 0.2), (321, 320, 0.2), (320, 320, 0.2), (5000, 64, 0.8)]


@pytest.mark.parametrize(("length", "side", "overlap"), SPLITS)
def test_tiles_cover_everything_and_overlap_as_asked(length, side, overlap):
    begins = starts(length, side, overlap)
    assert begins[0] == 0
    assert begins[-1] + side == max(length, side)
    assert all(b - a <= side * (1 - overlap) + 1 for a, b in zip(begins, begins[1:]))


@pytest.mark.parametrize("box", [(250, 100, 330, 160), (200, 150, 420, 260), (10, 10, 60, 60), (100, 260, 700, 330)])
@pytest.mark.parametrize("detect", [seen, blind])
def test_an_object_cut_by_tiles_comes_back_whole_and_once(box, detect):
    found = detect_tiled([detect], picture_with(*box), (300, 300))
    assert found.xyxy.tolist() == [list(map(float, box))]
    mask = found.masks()[0]
    truth = picture_with(*box)[:, :, 0] > 0
    assert (mask & truth).sum() > 0.95 * (mask | truth).sum()


def test_two_objects_of_a_class_that_touch_a_border_stay_two():
    picture = picture_with(230, 20, 310, 90)
    picture[150:220, 230:310] = 128

    def both(view):
        one, other = seen(view), seen(view, 128)
        if not len(one) or not len(other):
            return one if len(one) else other
        pair = {name: np.concatenate([getattr(one, name), getattr(other, name)])
                for name in ("xyxy", "confidence", "class_id", "soft_masks")}  # fmt: skip
        return Detections(**pair, frame_size=one.frame_size)

    found = detect_tiled([both], picture, (300, 300))
    assert sorted(found.xyxy[:, 1].tolist()) == [20, 150]


def test_mosaics_of_scenes_are_found_again(model):
    parts = [scenes.make_scene(1000 + n, (SIDE, SIDE), objects=8) for n in range(4)]
    picture = np.vstack([np.hstack([parts[0].image, parts[1].image]), np.hstack([parts[2].image, parts[3].image])])
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "dev"))
    try:
        from measure_tiles import hits
    finally:
        sys.path.pop(0)
    found = model.detect(picture, tile="auto")
    places = [(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]
    here = np.concatenate([hits(found, scene, place) for scene, place in zip(parts, places)])
    alone = np.concatenate([hits(model.detect(scene.image), scene) for scene in parts])
    assert np.count_nonzero(here[alone > 0]) >= 0.97 * np.count_nonzero(alone)
    assert here.max() == 1
    assert found.labels is not None


def test_the_order_of_tiles_and_the_workers_change_no_bit(model, monkeypatch):
    picture = np.hstack([scenes.make_scene(n, (200, 240), objects=4).image for n in range(3)])
    one = model.detect(picture, tile=160)
    clone = model.clone()
    done = []
    two = model.detect(picture, tile=160, clones=[clone], on_tile=lambda *now: done.append(now))
    assert one == two
    assert done[-1][0] == done[-1][1] == len(done)
    backwards = tiles.merge

    def shuffled(found, views, threshold):
        order = [0, *np.random.default_rng(0).permutation(np.arange(1, len(found)))]
        return backwards([found[i] for i in order], views[order], threshold)

    monkeypatch.setattr(tiles, "merge", shuffled)
    assert model.detect(picture, tile=160) == one


def test_a_model_that_is_sent_to_another_process_keeps_its_tiles():
    """That is how the workers of a batch get it."""
    row = np.hstack([scenes.make_scene(3 + n, (100, 100), objects=2).image for n in range(4)])
    model = load("shapes", size="128x128", tile=100)
    found = pickle.loads(pickle.dumps(model)).detect(row)
    assert found == model.detect(row)
    assert len(found) > len(load("shapes", size="128x128").detect(row))


def test_a_picture_of_one_tile_is_detected_as_ever(model):
    picture = scenes.make_scene(3, (200, 200), objects=3).image
    assert model.detect(picture, tile="auto") == model.detect(picture)


def test_the_own_size_of_a_model():
    assert tile_wh("auto", Resizer("keep_aspect_ratio", 600, 1024)) == (600, 600)
    assert tile_wh("auto", Resizer("fixed", fixed_wh=(640, 480))) == (640, 480)
    assert tile_wh(256, Resizer()) == (256, 256)
    with pytest.raises(ValueError, match="give the side of a tile in pixels"):
        tile_wh("auto", Resizer())


@pytest.mark.parametrize(("tile", "overlap"), [("large", 0.2), (31, 0.2), (-5, 0.2), (320, 0.9), (320, -0.1)])
def test_wrong_tiles_are_refused(tile, overlap):
    with pytest.raises(ValueError, match=r"tile|overlap"):
        check_tile(tile, overlap)
