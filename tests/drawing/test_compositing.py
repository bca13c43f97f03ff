"""Soft masks and the one way to lay a frame over another."""

from __future__ import annotations

import numpy as np
import pytest

from cvmask.drawing.effects import blur, blur_outside, feather, fit_over, lay_over_, union_mask, window_of
from cvmask.results.detections import Detections


def test_union_mask_joins_all_masks(two: Detections) -> None:
    assert np.array_equal(union_mask(two), two.masks().any(axis=0) * 255)
    assert not union_mask(two[:0]).any()


def test_feather_is_half_at_the_edge_and_whole_away_from_it() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 255
    for width in (4, 12, 30):
        soft = feather(mask, width).astype(int)
        assert abs(soft[32, 31:33].mean() - 127.5) < 8
        assert (np.diff(soft[32]) >= 0).all()
        assert soft[32, 31 - width : 33 - width].max() <= 1
        assert soft[32, 31 + width - 1] >= 250
    assert feather(mask, 0) is mask


def test_feather_survives_a_width_beyond_the_picture() -> None:
    assert feather(np.full((3, 5), 255, np.uint8), 500).tolist() == [[255] * 5] * 3


def test_lay_over_weighs_by_alpha() -> None:
    under = np.full((1, 4, 3), 100, np.uint8)
    lay_over_(under, np.full((1, 4, 3), 200, np.uint8), np.array([[0, 51, 128, 255]], np.uint8))
    assert under[0, :, 0].tolist() == [100, 120, 150, 200]


def test_window_of_holds_the_mask_its_margin_and_whole_steps() -> None:
    mask = np.zeros((50, 70), np.uint8)
    mask[20:23, 31:60] = 1
    assert window_of(mask) == (slice(20, 23), slice(31, 60))
    assert window_of(mask, margin_px=5) == (slice(15, 28), slice(26, 65))
    assert window_of(mask, margin_px=5, step_px=8) == (slice(8, 32), slice(24, 70))
    assert window_of(mask * 0) == (slice(0, 0), slice(0, 0))


def test_blur_keeps_a_plain_picture_and_its_size() -> None:
    plain = np.full((37, 53, 3), (10, 200, 90), np.uint8)
    for radius in (0.5, 3, 9, 500):
        assert np.array_equal(blur(plain, radius), plain)


def test_blur_outside_takes_no_color_from_the_object() -> None:
    frame = np.full((60, 90, 3), 50, np.uint8)
    alpha = np.zeros((60, 90), np.uint8)
    frame[20:40, 30:60] = 250
    alpha[20:40, 30:60] = 255
    assert np.abs(blur_outside(frame, alpha, 5).astype(int)[alpha == 0] - 50).max() <= 3
    assert blur(frame, 5)[18, 45].max() > 80, "an ordinary blur does"


@pytest.mark.parametrize("size", [(10, 10), (200, 100), (33, 77), (1, 1)])
def test_fit_over_covers_the_frame(size: tuple[int, int]) -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 30:] = 255
    fitted = fit_over(wide, size)
    assert fitted.shape == (*size, 3)
    lay_over_(fitted, fitted.copy(), np.zeros(size, np.uint8))
    if size[1] > 9:
        assert fitted[0, 0, 0] == 0
        assert fitted[-1, -1, 0] == 255
