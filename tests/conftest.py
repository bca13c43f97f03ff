"""What several test files need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvmask.detections import Detections

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def shared() -> Path:
    """Give the folder of real pictures and clips that lies beside the checkout."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"needs the shared test data in {folder}")
    return folder


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
    )


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
