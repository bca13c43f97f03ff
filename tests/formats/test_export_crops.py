"""Crops and cutouts are the pixels of the frame, read by Pillow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS
from numpy.typing import NDArray

from cvmask.formats.images import CropsWriter, CutoutsWriter, cut_crops, cut_out
from cvmask.formats.record import Record
from cvmask.results.detections import Detections


def test_crops_are_the_pixels_of_the_boxes(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    with CropsWriter(tmp_path, LABELS) as writer:
        writer.write(Record("street.jpg", scene), picture)
    with image.open(tmp_path / "street_001_disc.png") as opened:
        assert np.array_equal(np.asarray(opened), picture[10:90, 10:90, ::-1])


def test_cutouts_are_transparent_where_the_object_is_not(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    with CutoutsWriter(tmp_path, LABELS) as writer:
        writer.write(Record("street.jpg", scene), picture)
    with image.open(tmp_path / "street_002_rîng_big.png") as opened:
        assert opened.mode == "RGBA"
        read = np.asarray(opened)
    mask = scene.refined(picture).masks()[1][20:140, 110:250]
    assert np.array_equal(read[..., 3], mask * 255)
    assert np.array_equal(read[mask][:, :3], picture[20:140, 110:250, ::-1][mask])
    assert not read[~mask].any()


def test_crops_and_cutouts_need_the_frame_of_the_detections(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    for writer in (CropsWriter(tmp_path, LABELS), CutoutsWriter(tmp_path, LABELS)):
        with pytest.raises(ValueError, match="need the frame"):
            writer.write(Record("a.jpg", scene))
        with pytest.raises(ValueError, match="got a frame of"):
            writer.write(Record("a.jpg", scene), picture[1:])
    assert len(list(cut_crops(picture, scene))) == len(list(cut_out(picture, scene))) == 4
