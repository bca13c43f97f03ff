"""Effects change what they should: the objects or all but them, and leave the frame alone."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np
import pytest
from conftest import random_detections
from numpy.typing import NDArray

from cvmask.drawing.effects import (
    EFFECTS,
    blur_background,
    blur_objects,
    grey_background,
    make_effect,
    pixelate_objects,
    remove_background,
    replace_background,
    spotlight,
)
from cvmask.results.detections import Detections

BACKGROUND_EFFECTS = ["blur-background", "grey-background", "spotlight"]
OBJECT_EFFECTS = ["blur-objects", "pixelate-objects"]


def inside_and_outside(found: Detections) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Give the pixels that lie well inside a mask and those well outside of all."""
    import cv2

    union = found.masks().any(axis=0).astype(np.uint8)
    kernel = np.ones((25, 25), np.uint8)
    return cv2.erode(union, kernel) > 0, cv2.dilate(union, kernel) == 0


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_leave_their_input_alone(name: str, scene: Detections, picture: NDArray[np.uint8]) -> None:
    before = picture.copy()
    result = EFFECTS[name](picture, scene)
    assert np.array_equal(picture, before)
    assert not np.shares_memory(result, picture)
    assert result.shape[:2] == picture.shape[:2]
    assert result.dtype == np.uint8


@pytest.mark.parametrize("name", BACKGROUND_EFFECTS)
def test_background_effects_keep_the_objects(
    name: str, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    inside, outside = inside_and_outside(scene)
    same = (EFFECTS[name](picture, scene) == picture).all(axis=2)
    assert same[inside].all()
    assert not same[outside].any() or same[outside].mean() < 0.01


@pytest.mark.parametrize("name", OBJECT_EFFECTS)
def test_object_effects_keep_the_background(name: str, scene: Detections, picture: NDArray[np.uint8]) -> None:
    _, outside = inside_and_outside(scene)
    same = (EFFECTS[name](picture, scene) == picture).all(axis=2)
    assert same[outside].all()
    assert same[scene.masks().any(axis=0)].mean() < 0.01, "no pixel of an object shows"


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (61, 97)])
def test_effects_work_in_any_size_with_many_one_and_no_objects(name: str, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(14)
    frame = rng.integers(0, 256, (*size, 3), np.uint8)
    for count in (0, 1, 9):
        assert EFFECTS[name](frame, random_detections(rng, count, size)).shape[:2] == size


def test_effects_without_objects_treat_all_as_background(picture: NDArray[np.uint8]) -> None:
    none = Detections.empty((200, 300))
    for name in OBJECT_EFFECTS:
        assert np.array_equal(EFFECTS[name](picture, none), picture)
    assert not remove_background(picture, none)[..., 3].any()
    assert np.ptp(grey_background(picture, none).astype(int), axis=2).max() == 0


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_refuse_another_frame(name: str, scene: Detections, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="got a frame of"):
        EFFECTS[name](picture[1:], scene)
    with pytest.raises(ValueError, match="a frame must be uint8"):
        EFFECTS[name](picture[..., 0], scene)


@pytest.mark.parametrize("name", EFFECTS)
def test_effects_accept_a_view(name: str, scene: Detections, picture: NDArray[np.uint8]) -> None:
    view = picture[:, ::-1]
    assert np.array_equal(EFFECTS[name](view, scene), EFFECTS[name](view.copy(), scene))


@pytest.mark.parametrize("name", ["blur-background", "grey-background", "remove-background"])
def test_a_hard_edge_is_the_mask_to_the_pixel(
    name: str, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    effect: Any = EFFECTS[name]
    result = effect(picture, scene, feather_px=0)
    shown = scene if name == "grey-background" else scene.refined(picture)
    mask = shown.masks().any(axis=0)
    assert np.array_equal(result[mask][:, :3], picture[mask])
    if name == "remove-background":
        assert np.array_equal(result[..., 3], mask * 255)


def test_remove_background_keeps_the_colors_of_what_shows_and_no_others(
    scene: Detections, picture: NDArray[np.uint8]
) -> None:
    result = remove_background(picture, scene)
    inside, outside = inside_and_outside(scene)
    shows = result[..., 3] > 0
    assert np.array_equal(result[shows][:, :3], picture[shows])
    assert not result[~shows].any(), "no program can bring the background back"
    assert (result[inside][:, 3] == 255).all()
    assert not result[outside][:, 3].any()
    assert 0 < ((result[..., 3] > 0) & (result[..., 3] < 255)).mean() < 0.1, "a soft edge"


def test_replace_background_takes_a_picture_of_any_size_or_a_color(
    scene: Detections, picture: NDArray[np.uint8]
) -> None:
    inside, outside = inside_and_outside(scene)
    plain = np.full((7, 1000, 3), (1, 2, 3), np.uint8)
    for background in (plain, (1, 2, 3)):
        result = replace_background(picture, scene, background)
        assert np.array_equal(result[inside], picture[inside])
        assert (result[outside] == (1, 2, 3)).all()
    with pytest.raises(ValueError, match="a frame must be uint8"):
        replace_background(picture, scene, picture[..., 0])


def test_replace_background_has_a_soft_edge_on_a_picture_of_any_size(
    scene: Detections, picture: NDArray[np.uint8]
) -> None:
    results = [replace_background(picture, scene, np.zeros((*size, 3), np.uint8)) for size in ((200, 300), (1, 9))]
    assert np.array_equal(*results)


def test_spotlight_darkens_by_what_it_is_told(scene: Detections, picture: NDArray[np.uint8]) -> None:
    far = (195, 5)
    assert np.abs(spotlight(picture, scene)[far] - picture[far] * 0.3).max() <= 1.5
    assert not spotlight(picture, scene, darkness=1)[far].any()
    assert np.array_equal(spotlight(picture, scene, darkness=0), picture)


def test_blur_background_is_stronger_with_more_strength(
    scene: Detections, picture: NDArray[np.uint8]
) -> None:
    _, outside = inside_and_outside(scene)
    spread = [blur_background(picture, scene, strength=strength)[outside].std() for strength in (0.2, 1, 3)]
    assert spread[0] > spread[1] > spread[2]


def test_blur_objects_is_opaque_up_to_the_edge_of_the_mask(
    scene: Detections, picture: NDArray[np.uint8]
) -> None:
    wide = blur_objects(picture, scene, feather_px=20).astype(int)
    hard = blur_objects(picture, scene, feather_px=0).astype(int)
    mask = scene.masks()[0]
    assert np.abs(wide - hard)[mask].mean() < 8


THIN = [(20.6, 10, 20.9, 40), (10, 20.6, 40, 20.9), (20.2, 30.2, 20.4, 30.4), (20.9, 10, 21.2, 40), (63.7, 5, 64, 9)]


@pytest.mark.parametrize("box", THIN)
@pytest.mark.parametrize("hide", [blur_objects, pixelate_objects])
@pytest.mark.parametrize("soft", [1.0, 0.0])
def test_what_has_no_pixel_in_its_mask_is_hidden_with_its_whole_box(
    hide: Callable[..., NDArray[np.uint8]], box: tuple[float, ...], soft: float
) -> None:
    rng = np.random.default_rng(1)
    frame = rng.integers(0, 256, (64, 64, 3), np.uint8)
    one = Detections(
        xyxy=np.array([box], np.float32),
        confidence=np.array([0.9], np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=np.full((1, 15, 15), soft, np.float32),
        frame_size=(64, 64),
    )
    left, top, right, bottom = one.boxes()[0].tolist()
    changed = (hide(frame, one) != frame).any(axis=2)
    assert changed[top:bottom, left:right].mean() > 0.95  # by chance, a pixel keeps its colour


def test_pixelate_objects_has_one_color_in_each_touched_block_on_a_fixed_grid() -> None:
    frame = np.random.default_rng(15).integers(0, 256, (20, 30, 3), np.uint8)
    one = Detections(
        xyxy=np.array([[9, 11, 10.5, 11]], np.float32),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=np.ones((1, 2, 2), np.float32),
        frame_size=(20, 30),
        mask_paste="tutorial",
    )
    result = pixelate_objects(frame, one, block_px=8)
    block = result[8:16, 8:16].reshape(-1, 3)
    assert (block == block[0]).all()
    assert np.abs(block[0] - frame[8:16, 8:16].reshape(-1, 3).mean(axis=0)).max() <= 1
    result[8:16, 8:16] = frame[8:16, 8:16]
    assert np.array_equal(result, frame)


@pytest.mark.parametrize(
    ("effect", "options", "error"),
    [
        (pixelate_objects, {"mask_threshold": 30}, "mask_threshold must be a number from 0 to 1, got 30"),
        (pixelate_objects, {"block_px": 0}, "block_px must be a whole number from 1 up, got 0"),
        (blur_objects, {"strength": 0}, "strength must be a number from 0.001 up, got 0"),
        (blur_objects, {"strength": float("nan")}, "strength must be a number from 0.001 up, got nan"),
        (blur_background, {"feather_px": float("nan")}, "feather_px must be a number from 0 up, got nan"),
        (spotlight, {"darkness": 2}, "darkness must be a number from 0 to 1, got 2"),
        (replace_background, {"background": (0, 0, 300)}, "a background is a picture or b, g, r from 0 to 255"),
    ],
)
def test_an_option_out_of_range_is_refused(effect: Callable[..., Any], options: dict[str, Any], error: str) -> None:
    found = random_detections(np.random.default_rng(0), 2, (40, 60))
    with pytest.raises(ValueError, match=error):
        effect(np.zeros((40, 60, 3), np.uint8), found, **options)


def test_a_block_larger_than_the_frame_is_the_frame() -> None:
    found = random_detections(np.random.default_rng(0), 2, (40, 60))
    frame = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    assert np.array_equal(
        pixelate_objects(frame, found, block_px=10**6), pixelate_objects(frame, found, block_px=60)
    )


def test_make_effect_binds_the_options_that_an_effect_has(scene: Detections, picture: NDArray[np.uint8]) -> None:
    for name, effect in EFFECTS.items():
        assert np.array_equal(make_effect(name)(picture, scene), effect(picture, scene))
    assert np.array_equal(
        make_effect("spotlight", feather_px=0, mask_threshold=0.7)(picture, scene),
        spotlight(picture, scene, feather_px=0, mask_threshold=0.7),
    )
    green = replace_background(picture, scene, (0, 255, 0))
    assert np.array_equal(make_effect("replace-background", background=(0, 255, 0))(picture, scene), green)
    assert np.array_equal(make_effect("remove-background", alpha=False)(picture, scene), green)


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("sepia", {}, "there is no effect 'sepia': choose from blur-background"),
        ("replace-background", {}, "a background is for replace-background"),
        ("spotlight", {"background": (0, 0, 0)}, "a background is for replace-background"),
        ("pixelate-objects", {"feather_px": 3}, "pixelate-objects has no soft edge"),
    ],
)
def test_an_option_that_an_effect_lacks_is_refused(name: str, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        make_effect(name, **options)
