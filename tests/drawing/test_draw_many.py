"""Thousands of objects in one frame: drawn in a time and memory that grow as their number, and left when asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

import cvmask
from cvmask.drawing.captions import MOST_HIDDEN, Plate, place_plates
from cvmask.drawing.draw import draw
from cvmask.results.detections import Detections
from cvmask.streams.sinks.json_sink import JsonLines
from cvmask.system.interrupts import Stopped, stopped_by

ROOT = Path(cvmask.__file__).parents[1]
SIZE = (120, 160)


def crowd(count: int, side_px: float = 12, size: tuple[int, int] = SIZE) -> Detections:
    rng = np.random.default_rng(28)
    corner = rng.uniform(0, 1, (count, 2)) * [max(size[1] - side_px, 0), max(size[0] - side_px, 0)]
    return Detections(
        xyxy=np.concatenate([corner, corner + side_px], axis=1).astype(np.float32),
        confidence=np.full(count, 0.5, np.float32),
        class_id=np.zeros(count, np.int32),
        soft_masks=np.ones((count, 1, 1), np.float32),
        frame_size=size,
    )


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> int:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def test_plates_keep_off_each_other_as_far_as_they_can() -> None:
    plates = [Plate(np.zeros((10, 30), np.uint8)) for _ in range(3)]
    box = np.array([[60, 60, 90, 100]] * 3, np.int32)
    found = [(x, y, x + 30, y + 10) for x, y in filter(None, place_plates(plates, box, SIZE))]
    assert [overlap(a, b) for i, a in enumerate(found) for b in found[:i]] == [0, 0, 0]


def test_where_there_are_many_plates_some_are_left_out() -> None:
    rng = np.random.default_rng(3)
    plates = [Plate(np.zeros((16, 90), np.uint8)) for _ in range(300)]
    corners = rng.integers(0, [500, 340], (300, 2))
    placed = place_plates(plates, np.hstack([corners, corners + 140]).astype(np.int32), (480, 640))
    covered = np.zeros((480, 640), bool)
    for left, top in filter(None, placed):
        here = covered[top : top + 16, left : left + 90]
        assert here.mean() <= MOST_HIDDEN  # an earlier plate lies on top: what it covers cannot be read
        here[:] = True
    shown = len(list(filter(None, placed)))
    assert 40 < shown < 240


def test_the_places_of_plates_need_no_memory_of_the_size_of_the_picture() -> None:
    plates = [Plate(np.zeros((160, 900), np.uint8)) for _ in range(50)]
    boxes = crowd(50, 300, (8000, 8000)).boxes()
    tracemalloc.start()
    placed = place_plates(plates, boxes, (8000, 8000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert any(placed)
    assert peak < 16e6  # a byte for each pixel is 64 MB, and filling such arrays took most of the time of drawing


def small_people() -> Detections:
    """People of 11 x 17 pixels, close to each other, in a picture of 1352 x 900."""
    corners = np.array([[500 + 16 * (k % 5), 400 + 24 * (k // 5)] for k in range(15)])
    return Detections(
        xyxy=np.hstack([corners, corners + np.array([11, 17])]).astype(np.float32),
        confidence=np.full(15, 0.5, np.float32),
        class_id=np.zeros(15, np.int32),
        soft_masks=np.ones((15, 4, 4), np.float32),
        frame_size=(900, 1352),
    )


def test_a_small_object_can_still_be_seen() -> None:
    people = small_people()
    frame = np.full((900, 1352, 3), 90, np.uint8)
    drawn = draw(frame, people, masks=False, labels=["person"])
    for left, top, right, bottom in people.boxes().tolist():
        # Nothing lies on it but the line of its box, of one pixel, and that of its mask beside it.
        inside = slice(top + 3, bottom - 3), slice(left + 3, right - 3)
        assert np.array_equal(drawn[inside], frame[inside])
    assert (drawn != frame).any(axis=2).sum() > 15 * 52 + 500  # those at the edge of the crowd have plates


def test_line_width_and_text_size_can_be_chosen() -> None:
    frame = np.zeros((900, 1352, 3), np.uint8)
    one = small_people()[:1]
    thick = draw(frame, one, masks=False, contours=False, captions=False, line_px=3)
    assert thick[400:404, 505].any(axis=1).sum() >= 3
    plates = [draw(frame, one, boxes=False, masks=False, contours=False, text_px=px) for px in (8, 40)]
    heights = [plate.any(axis=(1, 2)).sum() for plate in plates]
    assert heights[1] > 4 * heights[0]
    for wrong in ({"line_px": 0}, {"text_px": 5}, {"line_px": 1.5}, {"text_px": True}):
        with pytest.raises(ValueError, match=r"(line|text)_px must be a whole number from [16] to 500, got"):
            draw(frame, one, **wrong)  # type: ignore[arg-type]


def test_drawing_20_000_objects_takes_seconds() -> None:
    began = time.perf_counter()
    draw(np.zeros((*SIZE, 3), np.uint8), crowd(20_000))
    assert time.perf_counter() - began < 60  # it was minutes: each plate was held against all others


def test_masks_of_many_large_boxes_are_not_in_memory_at_once() -> None:
    found, frame = crowd(300, 2000, (1000, 1000)), np.zeros((1000, 1000, 3), np.uint8)
    tracemalloc.start()
    draw(frame, found, contours=False, captions=False)
    found.area()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # all 300 are 300 MB


@pytest.mark.parametrize("parts", [{"captions": False}, {"masks": False, "contours": False}])
def test_drawing_ends_soon_after_its_run_is_over(parts: dict[str, bool]) -> None:
    over = threading.Event()
    frame, found = np.zeros((*SIZE, 3), np.uint8), crowd(200_000)
    threading.Timer(0.3, over.set).start()
    began = time.perf_counter()
    with stopped_by(over.is_set), pytest.raises(Stopped):
        draw(frame, found, **parts)
    assert time.perf_counter() - began < 10


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_render_of_very_many_objects_hears_sigterm(tmp_path: Path) -> None:
    video, lines = tmp_path / "in", tmp_path / "in.jsonl"
    video.mkdir()
    cv2.imwrite(str(video / "a.png"), np.zeros((*SIZE, 3), np.uint8))
    sink = JsonLines(lines)
    sink.write(np.zeros((*SIZE, 3), np.uint8), None, crowd(200_000))
    sink.close()
    command = [sys.executable, "-m", "cvmask", "render", str(video), str(lines), "-o", str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(8)  # the lines are read, the drawing takes a minute
        process.send_signal(signal.SIGTERM)
        began = time.perf_counter()
        _, said = process.communicate(timeout=60)
    assert time.perf_counter() - began < 10
    assert process.returncode == 130
    assert "interrupted" in said
    assert not list(tmp_path.glob("out/*.png"))
