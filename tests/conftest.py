"""What several test files need."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.formats.record import Record
from cvmask.models.load import load
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN

ROOT = Path(__file__).resolve().parent.parent
LABELS = ["disc", "rîng, big", "two parts"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # `scripts/test &`: what a shell starts in the background ignores Ctrl-C, and so would the programs under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)

if os.environ.get("CVMASK_TEST_WITHOUT_IMPORTER"):
    # As OpenCV will be once its TensorFlow importer and the engine that runs it are gone.
    for name in ("readNetFromTensorflow", "ENGINE_CLASSIC"):
        if hasattr(cv2.dnn, name):
            delattr(cv2.dnn, name)

needs_importer = pytest.mark.skipif(
    not hasattr(cv2.dnn, "readNetFromTensorflow"), reason="this OpenCV has no TensorFlow importer"
)


@pytest.fixture
def shared() -> Path:
    """Give the folder of real pictures and clips that lies beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data in {folder}")
    return folder


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, with a cache folder of its own."""
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def clip_mp4(work: Path) -> Path:
    """Give a clip of six frames of a moving scene, 160 x 128, 25 a second."""
    path = work / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (160, 128))
    for moving in scenes.moving_scene(5, 6, (160, 128), objects=4):
        writer.write(moving.image)
    writer.release()
    return path


@pytest.fixture(scope="session")
def quick_model() -> MaskRCNN:
    """Give the bundled model for small pictures, able to find at any threshold, as a server loads it."""
    return load("shapes", score_threshold=0.0, size="160x128")


@pytest.fixture
def two() -> Detections:
    """Give two objects in a frame of 6 rows and 8 columns, with masks that are easily worked out.

    The first covers the pixels x 1..3, y 1..2, all of them; the second x 4..7, y 2..5, its left half.
    """
    return Detections(
        xyxy=np.array([[1, 1, 3.9, 2.9], [4, 2, 8, 6]], dtype=np.float32),
        confidence=np.array([0.9, 0.6], dtype=np.float32),
        class_id=np.array([2, 0], dtype=np.int32),
        soft_masks=np.array([np.ones((4, 4)), [[1, 1, 0, 0]] * 4], dtype=np.float32),
        frame_size=(6, 8),
        mask_paste="tutorial",
    )


@pytest.fixture
def scene() -> Detections:
    """Give four objects of more than 1,000 pixels in 200 x 300: a disc, a ring, two parts, and a square."""
    y, x = np.mgrid[:29, :29] - 14.0
    radius = np.hypot(x, y)
    soft = [radius < 13, (radius < 13) & (radius > 6), np.abs(x) > 5, radius < 99]
    return Detections(
        xyxy=np.array(
            [[10, 10, 89, 89], [110, 20, 249, 139], [20, 120, 99, 179], [260, 150, 300, 200]], np.float32
        ),
        confidence=np.array([0.99, 0.75, 0.5, 0.625], np.float32),
        class_id=np.array([0, 1, 2, 1], np.int32),
        soft_masks=np.array(soft, np.float32),
        frame_size=(200, 300),
        mask_paste="tutorial",
    )


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    """Give a frame of noise for `scene`."""
    return np.random.default_rng(11).integers(0, 256, (200, 300, 3), np.uint8)


def random_detections(rng: np.random.Generator, count: int, frame_size: tuple[int, int]) -> Detections:
    """Make objects with smooth random masks; some boxes leave the frame, some are of one pixel."""
    height, width = frame_size
    scale = np.array([width, height, width, height])
    corners = rng.uniform(-0.2, 1.2, (count, 2, 2))
    corners[::5, 1] = corners[::5, 0]
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1) * scale
    return Detections(
        xyxy=np.clip(boxes, 0, scale).astype(np.float32),
        confidence=rng.random(count, dtype=np.float32),
        class_id=rng.integers(0, 90, count, dtype=np.int32),
        soft_masks=rng.random((count, 15, 15), dtype=np.float32),
        frame_size=frame_size,
    )


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


def records(scene: Detections) -> list[Record]:
    """A picture, an empty picture, and two frames of a video."""
    tracked = dataclasses.replace(scene, tracker_id=np.array([4, 5, 6, 7], np.int32))
    return [
        Record("street.jpg", scene),
        Record("empty.jpg", scene[:0]),
        Record("day 2/clip.mp4", scene[1:], frame_index=0, time_s=0.0),
        Record("day 2/clip.mp4", tracked, frame_index=17, time_s=0.567),
    ]


def write_all(writer: Any, scene: Detections, frame: NDArray[np.uint8] | None = None) -> None:
    with writer:
        for record in records(scene):
            writer.write(record, frame)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Give a Chromium; not for longer than a module, as its event loop is in the way of others."""
    from page_helpers import CHROMIUM, SWITCHES, playwright

    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        yield browser
        browser.close()
