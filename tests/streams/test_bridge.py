"""Objects that are missed for a moment stay covered."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.drawing.effects import HIDING_MARGIN, pixelate_objects
from cvmask.results.detections import Detections
from cvmask.scenes import Scene, moving_scene
from cvmask.streams.pipeline import annotate
from cvmask.streams.sources import Frame, Source

SIZE_WH = (160, 120)


class Scenes(Source):
    """Made scenes."""

    def __init__(self, scenes: list[Scene], live: bool = False) -> None:
        self.name, self.live, self.frame_rate, self._scenes = "scenes", live, Fraction(25), scenes

    def _frames(self) -> Iterator[Frame]:
        for i, scene in enumerate(self._scenes):
            yield Frame(scene.image, i, i / 25, self.name)

    def close(self) -> None:
        pass


def exact(scene: Scene) -> Detections:
    softs = []
    for mask, box in zip(scene.masks, scene.xyxy.astype(int)):
        cut = mask[box[1] : box[3], box[0] : box[2]].astype(np.float32)
        softs.append(np.clip(cv2.resize(cut, (28, 28), interpolation=cv2.INTER_AREA), 0, 1))
    return Detections(
        xyxy=scene.xyxy - np.array([0, 0, 0.01, 0.01], np.float32), confidence=np.ones(len(softs), np.float32),
        class_id=scene.class_id, soft_masks=np.array(softs, np.float32).reshape(-1, 28, 28),
        frame_size=scene.masks.shape[1:], mask_paste="tutorial",
    )  # fmt: skip


class Misses:
    """Knows the scenes, and leaves out some objects of some frames."""

    def __init__(self, scenes: list[Scene], left_out: set[tuple[int, int]]) -> None:
        self._scenes, self._left_out, self._next = scenes, left_out, 0

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        number, self._next = self._next, self._next + 1
        scene = self._scenes[number]
        kept = [i not in {row for n, row in self._left_out if n == number} for i in scene.instance_id.tolist()]
        return exact(scene)[np.array(kept, bool)]


def every_tenth(scenes: list[Scene]) -> set[tuple[int, int]]:
    """Every tenth sighting, but no first and no last one of an object."""
    sightings = [(n, i) for n, scene in enumerate(scenes) for i in scene.instance_id.tolist()]
    inner = [(n, i) for n, i in sightings if 0 < n < len(scenes) - 1]
    return set(inner[4::10])


@pytest.mark.parametrize("seed", [2, 5, 8])
def test_every_tenth_sighting_left_out_leaves_no_object_uncovered(seed: int) -> None:
    scenes = list(moving_scene(seed, 40, SIZE_WH, objects=3, overlap=False))
    left_out = every_tenth(scenes)
    run = annotate(
        Scenes(scenes), Misses(scenes, left_out), bridge=True,
        paint=lambda image, found: pixelate_objects(np.zeros_like(image) + 9, found, margin=HIDING_MARGIN),
    )  # fmt: skip
    uncovered = []
    for result in run:
        scene = scenes[result.frame.index]
        covered = result.detections.masks(0.5).any(axis=0) if len(result.detections) else np.zeros(SIZE_WH[::-1], bool)
        covered = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        for mask, number in zip(scene.masks, scene.instance_id.tolist()):
            share = np.count_nonzero(mask & covered) / np.count_nonzero(mask)
            uncovered += [(result.frame.index, number, share)] if share < 0.8 else []
    assert not uncovered
    assert run.summary.bridged == len(left_out) > 3
    assert "missed objects filled in" in run.summary.lines()[0]


@pytest.mark.parametrize(("gap", "bridged"), [(1, 1), (12, 12), (24, 24), (30, 0)])
def test_gaps_of_a_second_are_bridged_and_longer_ones_are_not(gap: int, bridged: int) -> None:
    scenes = list(moving_scene(3, 40, SIZE_WH, objects=1))
    left_out = {(n, 0) for n in range(6, 6 + gap)}
    run = annotate(Scenes(scenes), Misses(scenes, left_out), bridge=True)
    results = list(run)
    assert [one.frame.index for one in results] == list(range(40))
    assert sum(len(one.detections) == 0 for one in results) == gap - bridged
    assert run.summary.bridged == bridged


def test_a_live_source_is_carried_forwards_and_waits_for_nothing() -> None:
    scenes = list(moving_scene(3, 12, SIZE_WH, objects=1))
    run = annotate(Scenes(scenes, live=True), Misses(scenes, {(n, 0) for n in range(4, 8)}), bridge=True)
    results = list(run)
    assert [len(one.detections) for one in results] == [1] * 12
    for one in results[4:8]:
        covered = one.detections.masks(0.5)[0]
        truth = scenes[one.frame.index].masks[0]
        assert np.count_nonzero(covered & truth) > 0.8 * np.count_nonzero(truth)


def test_an_object_that_has_left_is_not_invented() -> None:
    scenes = list(moving_scene(3, 12, SIZE_WH, objects=1))
    run = annotate(Scenes(scenes), Misses(scenes, {(n, 0) for n in range(6, 12)}), bridge=True)
    assert [len(one.detections) for one in run] == [1] * 6 + [0] * 6


def test_without_it_nothing_is_filled_in() -> None:
    scenes = list(moving_scene(3, 6, SIZE_WH, objects=1))
    run = annotate(Scenes(scenes), Misses(scenes, {(3, 0)}))
    assert [len(one.detections) for one in run] == [1, 1, 1, 0, 1, 1]
    assert run.summary.bridged == 0
