"""Only uint8 BGR pictures are frames, and anything else is told what to do."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cvmask.results.arrays import check_frame


def test_check_frame_gives_a_frame_back() -> None:
    frame = np.zeros((1, 1, 3), np.uint8)
    assert check_frame(frame) is frame


def test_check_frame_accepts_a_view_that_is_not_contiguous() -> None:
    view = np.zeros((8, 8, 3), np.uint8)[::2, ::-1]
    assert check_frame(view) is view


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"got uint8 \(4, 5\): for grey use cv2.cvtColor\(frame, cv2.COLOR_GRAY"),
        (np.zeros((4, 5, 1), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 5, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((4, 5, 3), np.uint16), r"got uint16 \(4, 5, 3\): for 16 bit use"),
        (np.zeros((4, 5, 3), np.float32), r"got float32 \(4, 5, 3\): for 0 to 1 use"),
        (np.zeros((4, 5, 3), np.int64), "astype"),
        (np.zeros((1, 4, 5, 3), np.uint8), "one picture at a time"),
        (np.zeros((4, 5, 2), np.uint8), "it is not a picture"),
        (np.zeros((0, 5, 3), np.uint8), "it has no pixel"),
    ],
)
def test_check_frame_names_what_came_and_the_cure(frame: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_frame(frame)


def test_check_frame_explains_none() -> None:
    with pytest.raises(TypeError, match="got NoneType"):
        check_frame(None)


class _Pillow:
    mode = "RGBA"

    def convert(self, mode: str) -> None: ...


@pytest.mark.parametrize(
    ("frame", "cure"),
    [
        ("a.png", "cv2.imread first"),
        (Path("a.png"), "cv2.imread first"),
        (SimpleNamespace(image=1), "give its .image"),
        (_Pillow(), "COLOR_RGB2BGR"),
        ([np.zeros((2, 2, 3), np.uint8)], "one picture at a time"),
        (7, "numpy.asarray"),
    ],
)
def test_check_frame_answers_by_what_came(frame: object, cure: str) -> None:
    with pytest.raises(TypeError, match="a frame must be an array, got .*" + re.escape(cure)):
        check_frame(frame)


def test_check_frame_turns_colours_that_come_first() -> None:
    with pytest.raises(ValueError, match=r"use frame.transpose\(1, 2, 0\)"):
        check_frame(np.zeros((3, 9, 8), np.uint8))
