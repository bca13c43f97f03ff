from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from graph_builder import arrays_of
from numpy.typing import NDArray

from cvmask.graph.facts import Resizer
from cvmask.runtime import resize
from cvmask.runtime.resize import Size, parse_size, to_blob

ZOO = Resizer("keep_aspect_ratio", 800, 1365)


@pytest.mark.parametrize(
    ("size_wh", "expected_wh"),
    [
        ((640, 480), (1067, 800)),
        ((480, 640), (800, 1067)),
        ((1920, 1080), (1365, 768)),
        ((800, 1365), (800, 1365)),
        ((1, 1), (800, 800)),
        ((1000, 1), (1365, 1)),
        ((8000, 8000), (800, 800)),
    ],
)
def test_resizer_keeps_aspect_ratio_within_both_limits(
    size_wh: tuple[int, int], expected_wh: tuple[int, int]
) -> None:
    assert ZOO.target_wh(size_wh) == expected_wh


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("auto", ZOO),
        ("native", Resizer()),
        (640, Resizer("keep_aspect_ratio", 640, 0)),
        ("640", Resizer("keep_aspect_ratio", 640, 0)),
        ("300x200", Resizer("fixed", fixed_wh=(300, 200))),
        ((300, 200), Resizer("fixed", fixed_wh=(300, 200))),
        (np.int64(320), Resizer("keep_aspect_ratio", 320, 0)),
        ((np.int32(300), np.uint16(200)), Resizer("fixed", fixed_wh=(300, 200))),
    ],
)
def test_parse_size_reads_every_form(size: Size, expected: Resizer) -> None:
    assert parse_size(size, ZOO) == expected


@pytest.mark.parametrize("size", ["big", "0", 0, -5, "x", "0x5", "640x", (1, 2, 3), (0, 5)])
def test_parse_size_refuses_what_is_no_size(size: Size) -> None:
    with pytest.raises(ValueError, match="size must be"):
        parse_size(size, ZOO)


def legacy(frame: NDArray[np.uint8], width: int, height: int) -> NDArray[np.float32]:
    """TensorFlow's ResizeBilinear with neither option set: pixel x comes from x * scale."""
    y = np.arange(height, dtype=np.float32) * np.float32(frame.shape[0] / height)
    x = np.arange(width, dtype=np.float32) * np.float32(frame.shape[1] / width)
    top, left = y.astype(int), x.astype(int)
    bottom, right = np.minimum(top + 1, frame.shape[0] - 1), np.minimum(left + 1, frame.shape[1] - 1)
    dy, dx = (y - top)[:, None, None], (x - left)[None, :, None]
    values = frame.astype(np.float32)
    upper = values[top][:, left] + (values[top][:, right] - values[top][:, left]) * dx
    lower = values[bottom][:, left] + (values[bottom][:, right] - values[bottom][:, left]) * dx
    return upper + (lower - upper) * dy


def resample(frame: NDArray[np.uint8], size_wh: tuple[int, int], sampling: str) -> NDArray[np.float32]:
    """What the network sees, as a picture again: (h, w, 3), BGR."""
    planes = to_blob(frame, Resizer("fixed", fixed_wh=size_wh, sampling=sampling))[0]
    return np.ascontiguousarray(planes.transpose(1, 2, 0)[:, :, ::-1])


def test_resample_takes_pixels_from_where_tensorflow_does() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (61, 97, 3), dtype=np.uint8)
    for width, height in ((160, 101), (50, 40), (97, 61)):
        difference = np.abs(resample(frame, (width, height), "legacy") - legacy(frame, width, height))
        # OpenCV 4 rounds weights to 1/32; on noise that is at most some of 255 levels.
        limit = 0.01 if int(cv2.__version__.split(".")[0]) >= 5 else 12
        assert difference.max() < limit
        assert difference.mean() < limit / 8


@pytest.mark.parametrize("sampling", ["legacy", "align_corners"])
@pytest.mark.parametrize("size_wh", [(31, 33), (200, 97), (400, 500), (1, 1), (96, 65)])
def test_resample_in_bands_is_resample_at_once(
    size_wh: tuple[int, int], sampling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (211, 97, 3), dtype=np.uint8)
    bands = resample(frame, size_wh, sampling)
    monkeypatch.setattr(resize, "_BAND", 1 << 20)
    assert np.abs(bands - resample(frame, size_wh, sampling)).max() < 0.01  # levels of 255


GOLDEN = Path(__file__).parents[1] / "data" / "resized.npz"  # made by scripts/make_tf_goldens with TensorFlow


@pytest.mark.parametrize("name", [name for name in arrays_of(GOLDEN) if name != "frame"])
def test_resize_methods_are_those_of_tensorflow(name: str) -> None:
    golden = arrays_of(GOLDEN)
    method, sampling, size = name.split()
    width, height = (int(side) for side in size.split("x"))
    resizer = Resizer("fixed", fixed_wh=(width, height), sampling=sampling, method=method)
    planes = to_blob(np.ascontiguousarray(golden["frame"][:, :, ::-1]), resizer)[0]
    assert np.abs(planes.transpose(1, 2, 0) - golden[name]).max() < 0.01  # levels of 255


@pytest.mark.parametrize(
    ("resizer", "size_wh", "expected_wh"),
    [
        (Resizer("at_most", max_dimension=300), (500, 330), (300, 198)),
        (Resizer("at_most", max_dimension=300), (1023, 767), (300, 224)),
        (Resizer("at_most", max_dimension=300), (200, 100), (200, 100)),
        (Resizer("at_most", max_dimension=300), (9000, 2), (300, 1)),
        (Resizer("at_least", min_dimension=300), (500, 331), (500, 331)),
        (Resizer("at_least", min_dimension=300), (97, 61), (477, 300)),
    ],
)
def test_conditional_resizers_change_what_is_too_large_or_too_small(
    resizer: Resizer, size_wh: tuple[int, int], expected_wh: tuple[int, int]
) -> None:
    assert resizer.target_wh(size_wh) == expected_wh


def test_resample_half_pixel_is_cv2_resize() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    expected = cv2.resize(frame.astype(np.float32), (45, 31))
    assert np.array_equal(resample(frame, (45, 31), "half_pixel"), expected)


def test_resample_align_corners_keeps_the_corners() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    picture = resample(frame, (59, 39), "align_corners")
    assert np.allclose(picture[::2, ::2], frame, atol=0.01)


def test_blob_is_rgb_in_planes_and_unscaled() -> None:
    frame = np.zeros((2, 3, 3), np.uint8)
    frame[..., 0], frame[..., 1], frame[..., 2] = 10, 20, 30
    blob = to_blob(frame, Resizer())
    assert blob.dtype == np.float32
    assert blob.shape == (1, 3, 2, 3)
    assert blob[0, :, 0, 0].tolist() == [30, 20, 10]


def test_blob_takes_frames_that_are_not_contiguous() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(to_blob(frame[::2, ::-1], Resizer()), to_blob(frame[::2, ::-1].copy(), Resizer()))
