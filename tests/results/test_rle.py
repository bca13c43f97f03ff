"""The RLE is COCO's: its bytes are those of pycocotools."""

from __future__ import annotations

import time
from typing import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.results.masks import BoxMask
from cvmask.results.rle import compress, count_runs, decode, decompress, encode, expand_runs


def runs(rows: list[list[int]], left: int = 0, top: int = 0, size: tuple[int, ...] = ()) -> list[int]:
    mask = np.array(rows, dtype=bool)
    return count_runs(BoxMask(mask, left, top), size or mask.shape).tolist()


def test_count_runs_goes_down_the_columns() -> None:
    assert runs([[0, 1, 0], [0, 1, 1]]) == [2, 2, 1, 1]


def test_count_runs_starts_with_no_off_pixel_where_the_first_is_on() -> None:
    assert runs([[1, 0], [0, 0]]) == [0, 1, 3]


def test_count_runs_ends_without_an_empty_run() -> None:
    assert runs([[0, 0], [0, 1]]) == [3, 1]


def test_count_runs_of_nothing_and_of_everything() -> None:
    assert runs([[0, 0], [0, 0]]) == [4]
    assert runs([[1, 1], [1, 1]]) == [0, 4]


def test_count_runs_places_a_box_in_its_frame() -> None:
    assert runs([[1, 1], [1, 0]], left=1, top=1, size=(4, 4)) == [5, 2, 2, 1, 6]


def test_count_runs_joins_columns_over_the_frames_edge() -> None:
    assert runs([[0, 1], [1, 0]], left=1, size=(2, 4)) == [3, 2, 3]


def test_compress_by_hand() -> None:
    # 1 -> "1"; 100 -> 4 + 32 more, 3; then the difference to the run two before: 2 - 100 = -98.
    assert compress(np.array([1, 100, 5, 2])) == "1" + chr(4 + 32 + 48) + chr(3 + 48) + "5" + chr(
        (-98 & 31) + 32 + 48
    ) + chr((-98 >> 5 & 31) + 48)


def masks_of_every_kind(rng: np.random.Generator, count: int) -> list[NDArray[np.bool_]]:
    made = []
    for index in range(count):
        shape = tuple(int(n) for n in rng.integers(1, 40, 2))
        noise = rng.random(shape)
        smooth = cv2.resize(rng.random((4, 4)), shape[::-1])
        made.append([noise > rng.random(), smooth > 0.5, noise > 2, noise > -1][index % 4])
    return made


# pycocotools 2.0.11 itself uses what NumPy 2 deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_encode_gives_the_bytes_of_pycocotools_and_decode_reads_them() -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    for number, mask in enumerate(masks_of_every_kind(np.random.default_rng(3), 10_000)):
        mine = encode(BoxMask(mask, 0, 0), mask.shape)
        theirs = coco.encode(np.asfortranarray(mask.view(np.uint8)))
        assert (mine["size"], mine["counts"]) == (theirs["size"], theirs["counts"].decode())
        assert number % 7 or np.array_equal(decode(mine), mask)


def test_encode_of_a_box_is_that_of_its_frame() -> None:
    rng = np.random.default_rng(4)
    for _ in range(300):
        height, width = (int(n) for n in rng.integers(1, 20, 2))
        top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
        h, w = int(rng.integers(1, height - top + 1)), int(rng.integers(1, width - left + 1))
        box = BoxMask(rng.random((h, w)) > 0.3, left, top)
        frame = np.zeros((height, width), bool)
        frame[box.window] = box.mask
        assert encode(box, frame.shape) == encode(BoxMask(frame, 0, 0), frame.shape)


def test_decode_reads_what_detections_write(two: Detections) -> None:
    assert np.array_equal([decode(one) for one in two.rle()], two.masks())


def test_expand_runs_refuses_another_size() -> None:
    with pytest.raises(ValueError, match="must add up to 2 x 3 = 6, got 5"):
        expand_runs(np.array([2, 3]), (2, 3))


def test_decompress_refuses_a_string_that_is_cut_short() -> None:
    with pytest.raises(ValueError, match="cut short"):
        decompress(compress(np.array([5, 5000]))[:-1])


def test_decompress_of_an_empty_string() -> None:
    assert decompress("").tolist() == []


def fastest(work: Callable[[], object]) -> float:
    times = []
    for _ in range(15):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_rle_is_at_least_half_as_fast_as_pycocotools_on_1080p() -> None:
    coco = pytest.importorskip("pycocotools.mask", reason="needs pycocotools")
    mask = cv2.resize(np.random.default_rng(5).random((9, 16)), (1920, 1080)) > 0.5
    rle, theirs = encode(BoxMask(mask, 0, 0), mask.shape), coco.encode(np.asfortranarray(mask.view(np.uint8)))
    ours = fastest(lambda: encode(BoxMask(mask, 0, 0), mask.shape))
    assert ours < 2 * fastest(lambda: coco.encode(np.asfortranarray(mask.view(np.uint8))))
    assert fastest(lambda: decode(rle)) < 2 * fastest(lambda: coco.decode(theirs))
