"""Plates fit the picture, keep off each other, and can be read."""

from __future__ import annotations

import numpy as np
import pytest

from cvmask.drawing.captions import (
    make_plate,
    paint_plate_,
    place_plates,
    text_color,
    text_height_px,
)


@pytest.mark.parametrize(
    ("background", "ink"),
    [((255, 255, 255), 0), ((0, 0, 0), 255), ((0, 255, 255), 0), ((128, 0, 0), 255), ((0, 0, 160), 255)],
)
def test_text_color_is_black_on_light_and_white_on_dark(background: tuple[int, int, int], ink: int) -> None:
    assert text_color(background) == (ink, ink, ink)


def test_text_height_grows_with_the_picture() -> None:
    assert [text_height_px(size) for size in ((1, 1), (240, 320), (1080, 1920), (3000, 4000))] == [
        8,
        8,
        19,
        46,
    ]


def test_make_plate_holds_the_letters_whole() -> None:
    plate = make_plate("jumping quickly 0.99", (1080, 1920))
    assert plate is not None
    edge = np.concatenate([plate.ink[0], plate.ink[-1], plate.ink[:, 0], plate.ink[:, -1]])
    assert not edge.any()
    assert plate.ink.max() == 255


@pytest.mark.parametrize("size", [(1080, 60), (20, 2000), (240, 320), (16, 60)])
def test_make_plate_fits_the_picture_or_is_left_out(size: tuple[int, int]) -> None:
    made = [make_plate(text, size) for text in ("dog 0.9", "a label of some length 0.99", "x" * 3000)]
    assert all(plate is None or plate.ink.shape[0] <= size[0] for plate in made)
    assert all(plate is None or plate.ink.shape[1] <= size[1] for plate in made)


def test_make_plate_shrinks_before_it_gives_up() -> None:
    large, small = make_plate("motorcycle 0.95", (2000, 2000)), make_plate("motorcycle 0.95", (2000, 200))
    assert large is not None
    assert small is not None
    assert 80 < small.size_wh[0] <= 200 < large.size_wh[0]


def places(boxes: list[list[int]], size: tuple[int, int] = (200, 300)) -> list[list[int]]:
    plate = make_plate("dog 0.9", size)
    assert plate is not None
    corners = place_plates([plate] * len(boxes), np.array(boxes, np.int32), size)
    return [[x, y, x + plate.size_wh[0], y + plate.size_wh[1]] for x, y in corners]


def test_place_plates_prefers_the_top_left_above_the_box() -> None:
    ((left, _, _, bottom),) = places([[100, 100, 250, 180]])
    assert (left, bottom) == (100, 100)


def test_place_plates_goes_into_a_large_box_at_the_top_and_below_a_small_one() -> None:
    assert places([[0, 0, 300, 200]])[0][:2] == [0, 0]
    assert places([[10, 0, 40, 30]])[0][:2] == [10, 30]


def test_place_plates_stays_in_the_picture() -> None:
    for box in ([290, 0, 300, 10], [290, 190, 300, 200], [0, 190, 5, 200], [0, 0, 1, 1]):
        ((left, top, right, bottom),) = places([box])
        assert left >= 0
        assert top >= 0
        assert right <= 300
        assert bottom <= 200


def test_place_plates_keeps_off_earlier_plates() -> None:
    placed = places([[100, 100, 250, 180]] * 4)
    for index, (left, top, right, bottom) in enumerate(placed):
        for l2, t2, r2, b2 in placed[index + 1 :]:
            assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top


def test_place_plates_of_nothing() -> None:
    assert place_plates([], np.zeros((0, 4), np.int32), (10, 10)) == []


def test_paint_plate_covers_its_rectangle_only() -> None:
    canvas = np.zeros((100, 200, 3), np.uint8)
    plate = make_plate("dog", (100, 200))
    assert plate is not None
    paint_plate_(canvas, plate, (20, 30), (10, 200, 20))
    width, height = plate.size_wh
    assert canvas[30, 20].tolist() == canvas[29 + height, 19 + width].tolist() == [10, 200, 20]
    canvas[30 : 30 + height, 20 : 20 + width] = 0
    assert not canvas.any()


def test_a_long_text_is_cut_short_before_its_score() -> None:
    long = "a very long name of a class " * 6
    scores = [make_plate(f"{long}{score}", (240, 320)) for score in ("0.11", "0.93")]
    low, high = (plate.ink for plate in scores if plate is not None)
    assert np.array_equal(low[:, :200], high[:, :200])
    assert not np.array_equal(low, high), "the score is there"
    assert make_plate(long, (240, 320)) is not None
    assert make_plate(long, (12, 12)) is None


@pytest.mark.parametrize("text", ["x 0.1234567890123", "x... 0.1234567890123", " 0.1234567890123", "x" * 13, "." * 40])
def test_a_text_that_cannot_be_cut_shorter_is_left_out(text: str) -> None:
    assert make_plate(text, (12, 12)) is None
