"""Drawing paints exactly the pixels it should, and no others."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from conftest import random_detections
from numpy.typing import NDArray

from cvmask.drawing.draw import draw, rectangle_, write_captions
from cvmask.drawing.letters import drawable
from cvmask.drawing.palette import distinct_colors
from cvmask.results.detections import Detections

NOTHING: dict[str, Any] = {"masks": False, "contours": False, "boxes": False, "captions": False}
COLORS = [[200, 0, 50], [0, 100, 0], [0, 0, 250]]


def grey(height: int, width: int, value: int = 100) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def changed(frame: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.any(frame != drawn, axis=2)


def test_draw_blends_the_masked_pixels_and_only_those(two: Detections) -> None:
    drawn = draw(grey(6, 8), two, **{**NOTHING, "masks": True}, opacity=0.5, colors=COLORS)
    # class 2 on the first: 50 + (0, 0, 125); class 0 on the second: 50 + (100, 0, 25)
    assert drawn[1, 1].tolist() == drawn[2, 3].tolist() == [50, 50, 175]
    assert drawn[2, 4].tolist() == drawn[5, 5].tolist() == [150, 50, 75]
    assert np.array_equal(changed(grey(6, 8), drawn), two.masks().any(axis=0))


def test_draw_leaves_the_frame_alone(two: Detections) -> None:
    frame = grey(6, 8)
    drawn = draw(frame, two)
    assert (frame == 100).all()
    assert not np.shares_memory(frame, drawn)


def test_draw_of_nothing_is_a_copy() -> None:
    frame = grey(6, 8)
    drawn = draw(frame, Detections.empty((6, 8)))
    assert np.array_equal(drawn, frame)
    assert drawn is not frame


def test_draw_with_every_part_off_is_a_copy(two: Detections) -> None:
    assert np.array_equal(draw(grey(6, 8), two, **NOTHING), grey(6, 8))


def test_draw_blends_overlapping_masks_once_and_the_smaller_shows() -> None:
    over = Detections(
        xyxy=np.array([[2, 2, 3.5, 3.5], [0, 0, 8, 6]], np.float32),
        confidence=np.ones(2, np.float32),
        class_id=np.array([0, 1], np.int32),
        soft_masks=np.ones((2, 3, 3), np.float32),
        frame_size=(6, 8),
    )
    drawn = draw(grey(6, 8), over, **{**NOTHING, "masks": True}, opacity=0.5, colors=COLORS)
    assert drawn[2, 2].tolist() == [150, 50, 75]
    assert drawn[4, 4].tolist() == [50, 100, 50]


def test_draw_paints_the_box_as_a_line_inside_the_picture(two: Detections) -> None:
    drawn = draw(grey(6, 8), two[1], **{**NOTHING, "boxes": True}, colors=COLORS)
    line = np.zeros((6, 8), bool)
    line[2:6, 4:8] = True
    line[3:5, 5:7] = False
    assert np.array_equal(changed(grey(6, 8), drawn), line)
    assert drawn[5, 7].tolist() == COLORS[0]


@pytest.mark.parametrize("width_px", range(1, 9))
def test_a_box_at_the_edge_keeps_the_width_of_its_line(width_px: int) -> None:
    inner, outer = np.zeros((2, 80, 90, 3), np.uint8)
    rectangle_(inner, (20, 20, 70, 60), (255, 255, 255), width_px)
    rectangle_(outer, (0, 0, 90, 80), (255, 255, 255), width_px)
    lengths = [run_lengths(picture[40, :, 0] > 0) for picture in (inner, outer)]
    assert lengths[0] == lengths[1]
    assert outer[[0, -1]].any(axis=(1, 2)).all()
    assert outer[:, [0, -1]].any(axis=(0, 2)).all()


def run_lengths(row: NDArray[np.bool_]) -> list[int]:
    """How many pixels in a row are on, for each of the places where some are."""
    edges = np.flatnonzero(np.diff(np.pad(row, 1).astype(int)))
    return (edges[1::2] - edges[::2]).tolist()


def test_draw_outlines_masks_with_their_holes() -> None:
    soft = np.ones((1, 9, 9), np.float32)
    soft[0, 3:6, 3:6] = 0
    one = Detections(
        xyxy=np.array([[0, 0, 89, 89]], np.float32),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=soft,
        frame_size=(90, 90),
    )
    drawn = changed(grey(90, 90), draw(grey(90, 90), one, **{**NOTHING, "contours": True}))
    assert drawn[0].all()
    assert drawn[:, 0].all()
    assert drawn[40].sum() > 2, "the line around the hole"
    assert not drawn[15, 15]
    assert not drawn[45, 45]


def test_draw_opacity_1_hides_what_is_below_and_0_shows_all_of_it(two: Detections) -> None:
    parts = {**NOTHING, "masks": True, "colors": COLORS}
    assert draw(grey(6, 8), two, opacity=1, **parts)[1, 1].tolist() == COLORS[2]
    assert np.array_equal(draw(grey(6, 8), two, opacity=0, **parts), grey(6, 8))


def test_draw_colors_by_class_by_instance_and_by_tracker(two: Detections) -> None:
    parts = {**NOTHING, "masks": True, "opacity": 1}
    same_class = dataclasses.replace(two, class_id=np.array([1, 1], np.int32))
    tracked = dataclasses.replace(two, tracker_id=np.array([5, 3], np.int32))
    default = distinct_colors(9).tolist()

    def shown(found: Detections, **options: Any) -> list[list[int]]:
        drawn = draw(grey(6, 8), found, **parts, **options)
        return [drawn[1, 1].tolist(), drawn[2, 4].tolist()]

    assert shown(same_class) == [default[1], default[1]]
    assert shown(same_class, color_by="instance") == [default[0], default[1]]
    assert shown(tracked, color_by="instance") == [default[5], default[3]]
    assert shown(tracked, color_by="instance", colors=COLORS) == [COLORS[2], COLORS[0]]


def test_draw_puts_a_plate_of_the_objects_color_above_its_box() -> None:
    one = Detections(
        xyxy=np.array([[100, 100, 200, 200]], np.float32),
        confidence=np.array([0.876], np.float32),
        class_id=np.array([1], np.int32),
        soft_masks=np.ones((1, 3, 3), np.float32),
        frame_size=(240, 320),
    )
    frame = grey(240, 320)
    drawn = draw(frame, one, labels=["a", "dog"], colors=COLORS, **{**NOTHING, "captions": True})
    plate = changed(frame, drawn)
    rows, columns = np.flatnonzero(plate.any(axis=1)), np.flatnonzero(plate.any(axis=0))
    assert (rows[-1], columns[0]) == (99, 100)
    assert drawn[rows[0], columns[0]].tolist() == COLORS[1]
    assert (drawn[plate] > 200).all(axis=1).any(), "white letters"


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (2, 2), (5, 7), (60, 1000), (240, 320)])
def test_draw_works_in_any_size_on_every_edge(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(8)
    for count in (1, 40):
        found = random_detections(rng, count, size)
        drawn = draw(grey(*size), found, labels=["an unusually long label"] * 90, color_by="instance")
        assert drawn.shape == (*size, 3)
        assert changed(grey(*size), drawn).any()


def test_draw_accepts_a_frame_that_is_not_contiguous(two: Detections) -> None:
    frame = np.random.default_rng(9).integers(0, 256, (6, 16, 3), np.uint8)[:, ::-2]
    assert np.array_equal(draw(frame, two), draw(frame.copy(), two))


def test_draw_uses_the_mask_threshold(two: Detections) -> None:
    half = dataclasses.replace(two, soft_masks=two.soft_masks * np.float32(0.5))
    parts = {**NOTHING, "masks": True}
    assert not changed(grey(6, 8), draw(grey(6, 8), half, mask_threshold=0.5, **parts)).any()
    assert changed(grey(6, 8), draw(grey(6, 8), half, mask_threshold=0.49, **parts)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frame": grey(6, 9)}, r"of a frame of \(6, 8\) \(height, width\), got a frame of \(6, 9\)"),
        ({"frame": np.zeros((6, 8), np.uint8)}, "a frame must be uint8"),
        ({"color_by": "score"}, 'color_by must be "class" or "instance", got \'score\''),
        ({"opacity": 45}, "opacity must be a number from 0 to 1, got 45"),
        ({"colors": [1, 2, 3]}, r"colors must be of shape \(k, 3\)"),
        ({"mask_threshold": float("nan")}, "mask_threshold must be a number from 0 to 1, got nan"),
        ({"colors": [[1, 2, 300]]}, r"from 0 to 255, got \[\[1, 2, 300\]\]"),
        ({"colors": [[0.5, 0.5, 1]]}, "whole numbers from 0 to 255, got"),
        ({"colors": [["a", "b", "c"]]}, "whole numbers from 0 to 255, got"),
        ({"colors": []}, "colors must be"),
    ],
)
def test_draw_refuses_what_it_cannot_draw(two: Detections, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(**{"frame": grey(6, 8), "detections": two, **options})


def test_write_captions_names_class_tracker_and_score(two: Detections) -> None:
    name = "кот" if drawable("кот") == "кот" else "class 2"
    assert write_captions(two, ["cup", "fork", "кот"], scores=True) == [f"{name} 0.90", "cup 0.60"]
    assert write_captions(two, ["cup"], scores=False) == ["class 2", "cup"]
    tracked = dataclasses.replace(two, tracker_id=np.array([7, 8], np.int32))
    assert write_captions(tracked, None, scores=True) == ["class 2 #7 0.90", "class 0 #8 0.60"]


def test_draw_of_real_pictures_changes_only_near_the_boxes(shared: Any) -> None:
    import cv2

    frame = cv2.imread(str(shared / "data" / "images" / "cars.jpg"))
    found = random_detections(np.random.default_rng(10), 6, frame.shape[:2])
    drawn = changed(frame, draw(frame, found, captions=False))
    near = np.zeros(frame.shape[:2], bool)
    for left, top, right, bottom in found.boxes().tolist():
        near[max(0, top - 3) : bottom + 3, max(0, left - 3) : right + 3] = True
    assert drawn.any()
    assert not drawn[~near].any()


def test_what_is_no_detections_is_refused() -> None:
    with pytest.raises(TypeError, match=r"detections must be cvmask\.Detections, as detect gives them, got NoneType"):
        draw(np.zeros((4, 4, 3), np.uint8), None)  # type: ignore[arg-type]


def test_labels_that_are_one_text_are_refused(scene: Detections, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(TypeError, match="labels must be a list of names"):
        draw(picture, scene, labels="shapes")
