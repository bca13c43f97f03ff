"""Masks carried between inferences: exact truth of made scenes and of real sequences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.streams.follow import Key, carry, carry_between, check_every
from cvmask.streams.keyframes import Carrier, plan
from cvmask.streams.motion import Chain, Motion, is_cut
from cvmask.streams.sources import Frame

SIZE = (96, 128)


def texture(seed: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(0, 255, (size[0] // 4, size[1] // 4, 3)).astype(np.float32)
    return np.clip(cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC), 0, 255).astype(np.uint8)


def disc(x: float, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A textured disc on a textured ground, and its pixels."""
    patch = np.roll(texture(9), round(x), axis=1)
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    mask = (columns - x) ** 2 + (rows - 48) ** 2 < 20**2
    return np.where(mask[..., None], patch, texture(seed)).astype(np.uint8), mask


def found(mask: NDArray[np.bool_], paste: str = "tutorial") -> Detections:
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    soft = cv2.resize(mask[top : top + height, left : left + width].astype(np.float32), (28, 28))
    box = [left, top, left + width - 0.01, top + height - 0.01]
    return Detections(
        xyxy=np.array([box], np.float32), confidence=np.array([0.8], np.float32), class_id=np.zeros(1, np.int32),
        soft_masks=np.clip(soft[None], 0, 1), frame_size=mask.shape, mask_paste=paste,
    )  # fmt: skip


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return np.count_nonzero(first & second) / np.count_nonzero(first | second)


def made(count: int = 5, speed: float = 3.0) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    images, masks = zip(*(disc(40 + speed * i) for i in range(count)))
    return list(images), list(masks)


@pytest.mark.parametrize("paste", ["tutorial", "tensorflow"])
def test_a_key_that_goes_nowhere_stays_what_it_is(paste: str) -> None:
    _, mask = disc(60)
    key_found = found(mask, paste)
    carried = carry(Key(key_found, Motion(SIZE), 0.5), Chain(Motion(SIZE).size_wh), 1)
    assert iou(carried.masks(0.5)[0], key_found.masks(0.5)[0]) > 0.97
    np.testing.assert_allclose(carried.xyxy, key_found.xyxy, atol=0.7)
    assert (carried.carried, carried.mask_paste) == (1, paste)


def test_both_ways_finds_what_moved() -> None:
    images, masks = made()
    motion = Motion(SIZE)
    grays = [motion.small(image) for image in images]
    steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
    first, second = (Key(found(masks[i]), motion, 0.5) for i in (0, 4))
    for i, carried in enumerate(carry_between(first, second, steps), 1):
        assert len(carried) == 1
        assert iou(carried.masks(0.5)[0], masks[i]) > 0.9
        assert iou(carried.masks(0.5)[0], masks[i]) > iou(masks[0], masks[i])
        assert carried.carried == min(i, 4 - i)
        assert np.abs(carried.xyxy[0, 0] - found(masks[i]).xyxy[0, 0]) < 1.5


def test_an_object_of_one_key_is_shown_in_the_half_nearer_to_it() -> None:
    images, masks = made()
    motion = Motion(SIZE)
    grays = [motion.small(image) for image in images]
    steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
    first, second = Key(found(masks[0]), motion, 0.5), Key(Detections.empty(SIZE), motion, 0.5)
    assert [len(carried) for carried in carry_between(first, second, steps)] == [1, 1, 0]


def test_a_cut_is_one_and_movement_is_none() -> None:
    motion = Motion(SIZE)
    scenes = texture(1), np.roll(texture(1), 3, axis=1), texture(2) // 3
    first, moved, other = (motion.small(image) for image in scenes)
    assert is_cut(first, other, motion.flow(other, first))
    assert not is_cut(first, moved, motion.flow(moved, first))


def frames(images: list[NDArray[np.uint8]]) -> Iterator[Frame]:
    return (Frame(image, i, i / 25, "made") for i, image in enumerate(images))


def keys(images: list[NDArray[np.uint8]], every: int | str, detections: Detections | None = None) -> list[int]:
    nothing = detections or Detections.empty(SIZE)
    return [one.frame.index for one in plan(frames(images), check_every(every), lambda: nothing) if one.key]


def test_every_nth_frame_and_the_last_are_keys() -> None:
    images, _ = made(9, 1)
    assert keys(images, 4) == [0, 4, 8]
    assert keys(images[:7], 4) == [0, 4, 6]
    assert keys(images[:1], 4) == [0]
    assert keys([], 4) == []
    assert keys(images[:3], 1) == [0, 1, 2]


@pytest.mark.parametrize("every", [4, "auto"])
def test_both_sides_of_a_cut_are_keys(every: int | str) -> None:
    images = [texture(1)] * 6 + [texture(2) // 3] * 3
    assert [i for i in keys(images, every) if i in (5, 6)] == [5, 6]


def test_frames_of_another_size_begin_anew() -> None:
    images = [texture(1)] * 3 + [texture(1, (64, 64))] * 3
    assert keys(images, 8) == [0, 2, 3, 5]


def test_doubt_makes_a_key_where_the_object_is_lost() -> None:
    images = [texture(1)] * 9
    _, mask = disc(60)
    assert keys(images, "auto", found(mask)) == [0, 8]
    images[4:] = [np.where(mask[..., None], 255 - texture(5), image).astype(np.uint8) for image in images[4:]]
    assert 4 in keys(images, "auto", found(mask))


def test_the_carrier_keeps_the_order_and_marks_what_it_carried() -> None:
    images, masks = made(6, 2)
    carrier, out = Carrier(0.5), []
    for one in plan(frames(images), 4, lambda: Detections.empty(SIZE)):
        out += list(carrier.push(one, found(masks[one.frame.index]) if one.key else None))
    assert [frame.index for frame, _ in out] == list(range(6))
    assert [detections.carried for _, detections in out] == [0, 1, 2, 1, 0, 0]
    assert Detections.from_dict(out[1][1].to_dict()) == out[1][1]


@pytest.mark.parametrize("wrong", ["often", 0, -1, 61, 2.5, True, None])
def test_detect_every_is_checked(wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match="detect_every"):
        check_every(wrong)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (33, 1000)])
def test_odd_sizes_are_followed(size: tuple[int, int]) -> None:
    motion = Motion(size)
    gray = motion.small(np.zeros((*size, 3), np.uint8))
    whole = replace(found(np.ones(size, bool)), xyxy=np.array([[0, 0, size[1], size[0]]], np.float32))
    both = [Key(whole, motion, 0.5)] * 2
    (carried,) = carry_between(both[0], both[1], [motion.step(gray, gray)] * 2)
    assert carried.masks(0.5).mean() > 0.9


def test_real_sequences(shared: Path) -> None:
    """The mean over four sequences; docs/streams.md has all."""
    scores = []
    for name in ("blackswan", "dog", "drift-straight", "horsejump-high"):
        folder = shared / "data" / "davis" / name
        pictures = [cv2.imread(str(path)) for path in sorted((folder / "frames").iterdir())[:17]]
        masks = [cv2.imread(str(path), 0) > 127 for path in sorted((folder / "masks").iterdir())[:17]]
        motion = Motion(masks[0].shape)
        grays = [motion.small(picture) for picture in pictures]
        steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
        for start in range(0, 16, 4):
            ends = [Key(found(masks[start + i]), motion, 0.5) for i in (0, 4)]
            carried = carry_between(ends[0], ends[1], steps[start : start + 4])
            scores += [iou(one.masks(0.5)[0], masks[start + i]) for i, one in enumerate(carried, 1)]
    assert np.mean(scores) > 0.86
