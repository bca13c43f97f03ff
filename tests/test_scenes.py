from __future__ import annotations

import numpy as np
import pytest

from cvmask import scenes


def same(first: scenes.Scene, second: scenes.Scene) -> bool:
    pairs = (
        (getattr(first, k), getattr(second, k)) for k in ("image", "masks", "xyxy", "class_id", "instance_id")
    )
    return all(np.array_equal(a, b) for a, b in pairs)


def test_scene_is_the_same_for_the_same_seed() -> None:
    assert same(scenes.make_scene(3), scenes.make_scene(3))
    assert not np.array_equal(scenes.make_scene(3).image, scenes.make_scene(4).image)


@pytest.mark.parametrize("seed", range(20))
def test_scene_truth_fits_together(seed: int) -> None:
    scene = scenes.make_scene(seed, (300, 200), objects=6)
    assert scene.image.shape == (200, 300, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.sum(axis=0).max() <= 1, "a pixel belongs to one object at most"
    for mask, (left, top, right, bottom) in zip(scene.masks, scene.xyxy.astype(int)):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert (left, top, right, bottom) == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    assert set(scene.class_id.tolist()) <= set(range(len(scenes.LABELS)))


def test_scene_objects_are_between_20_and_220_pixels() -> None:
    sides = [
        (box[2:] - box[:2]).max() for seed in range(60) for box in scenes.make_scene(seed, objects=1).xyxy
        if box.min() > 0 and box.max() < 320
    ]  # fmt: skip
    assert len(sides) > 30
    assert min(sides) >= 20
    assert max(sides) <= 222


def test_scene_ring_has_a_hole_that_is_not_its_own() -> None:
    rings = [
        (scene, i) for scene in (scenes.make_scene(seed, objects=1) for seed in range(60))
        for i, c in enumerate(scene.class_id) if scenes.LABELS[c] == "ring"
    ]  # fmt: skip
    assert rings
    for scene, i in rings:
        left, top, right, bottom = scene.xyxy[i].astype(int)
        if left > 0 and top > 0 and right < 320 and bottom < 320:
            assert not scene.masks[i][(top + bottom) // 2, (left + right) // 2]


def test_scene_without_overlap_hides_nothing() -> None:
    frames = list(scenes.moving_scene(2, 100, objects=4, overlap=False))
    areas = np.array([frame.masks.sum(axis=(1, 2)) for frame in frames])
    assert (areas > 0.9 * areas.max(axis=0)).all()


def test_moving_scene_keeps_its_instances_and_moves_them_a_little() -> None:
    frames = list(scenes.moving_scene(1, 30, objects=4, overlap=False))
    assert all(np.array_equal(f.instance_id, frames[0].instance_id) for f in frames)
    centers = np.array([(f.xyxy[:, :2] + f.xyxy[:, 2:]) / 2 for f in frames])
    steps = np.abs(np.diff(centers, axis=0)).max()
    assert 0 < steps < 12


def test_scene_refuses_a_size_too_small_for_its_shapes() -> None:
    with pytest.raises(ValueError, match="at least 32 x 32, got 31 x 100"):
        scenes.make_scene(0, (31, 100))
