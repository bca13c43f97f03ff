"""Objects keep their ids over moving scenes whose truth is known."""

from __future__ import annotations

import functools
import time

import numpy as np
import pytest

from cvmask.results.detections import Detections
from cvmask.scenes import moving_scene
from cvmask.streams.tracking import Tracker, box_iou, match


def found(xyxy: object, class_id: object = None) -> Detections:
    """Make Detections from boxes alone."""
    boxes = np.array(xyxy, dtype=np.float32).reshape(-1, 4)
    count = len(boxes)
    return Detections(
        xyxy=boxes,
        confidence=np.ones(count, dtype=np.float32),
        class_id=np.zeros(count, np.int32) if class_id is None else np.array(class_id, dtype=np.int32),
        soft_masks=np.ones((count, 1, 1), dtype=np.float32),
        frame_size=(1000, 1000),
    )


def ids(tracker: Tracker, xyxy: object, class_id: object = None) -> list[int]:
    tracked = tracker.update(found(xyxy, class_id)).tracker_id
    assert tracked is not None
    return tracked.tolist()


Truth = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def truth_of(seed: int, overlap: bool) -> list[Truth]:
    """Give boxes, classes and instances of two seconds of a scene."""
    scenes = moving_scene(seed, 50, size_wh=(240, 240), objects=6, overlap=overlap)
    return [(scene.xyxy, scene.class_id, scene.instance_id) for scene in scenes]


def count_switches(overlap: bool, miss: float = 0) -> tuple[int, int]:
    """Track scenes; give identity switches and object-frames."""
    switches = objects = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tracker, known = Tracker(), {}
        for xyxy, class_id, instance_id in truth_of(seed, overlap):
            seen = rng.random(len(xyxy)) >= miss
            order = rng.permutation(np.flatnonzero(seen))
            jitter = rng.normal(0, 1, (len(order), 4))
            tracked = ids(tracker, xyxy[order] + jitter, class_id[order])
            for truth, number in zip(instance_id[order].tolist(), tracked):
                switches += known.setdefault(truth, number) != number
                known[truth] = number
                objects += 1
    return switches, objects


def test_objects_that_do_not_hide_each_other_keep_their_ids() -> None:
    switches, objects = count_switches(overlap=False)
    assert objects > 1000
    assert switches <= objects / 1000


def test_objects_that_are_missed_now_and_then_keep_their_ids() -> None:
    switches, objects = count_switches(overlap=False, miss=0.1)
    assert switches <= objects / 1000


def test_objects_that_hide_each_other_rarely_switch() -> None:
    switches, objects = count_switches(overlap=True)
    assert switches <= objects / 50


def test_crossing_objects_go_on_as_they_moved() -> None:
    tracker = Tracker()
    for step in range(21):
        right, left = 10 * step, 200 - 10 * step
        assert ids(tracker, [[right, 0, right + 50, 50], [left, 20, left + 50, 70]]) == [1, 2]


def test_an_object_comes_back_within_the_gap_and_not_after() -> None:
    tracker = Tracker(max_gap=2)
    box = [[10, 10, 60, 60]]
    assert ids(tracker, box) == [1]
    for _ in range(2):
        assert ids(tracker, []) == []
    assert ids(tracker, box) == [1]
    for _ in range(3):
        ids(tracker, [])
    assert ids(tracker, box) == [2]


def test_the_same_class_is_preferred() -> None:
    tracker = Tracker()
    ids(tracker, [[0, 0, 100, 100]], [3])
    assert ids(tracker, [[0, 0, 100, 100], [20, 0, 120, 100]], [4, 3]) == [2, 1]


def test_a_class_that_flickers_keeps_its_id() -> None:
    tracker = Tracker()
    assert [ids(tracker, [[0, 0, 100, 100]], [c]) for c in (3, 4, 3)] == [[1], [1], [1]]


def test_tracker_changes_nothing_else(two: Detections) -> None:
    tracked = Tracker().update(two)
    assert two.tracker_id is None
    assert np.array_equal(tracked.soft_masks, two.soft_masks)
    assert tracked.tracker_id is not None
    assert tracked.tracker_id.dtype == np.int32


def test_box_iou_is_worked_out() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 20, 20]], dtype=np.float32)
    assert box_iou(boxes, boxes) == pytest.approx(np.array([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 0]]))


def test_match_takes_the_best_first() -> None:
    rows, columns = match(np.array([[0.9, 0.8, 0], [0.95, 0, 0]]))
    assert list(zip(rows.tolist(), columns.tolist())) == [(1, 0), (0, 1)]


def test_thirty_objects_take_two_milliseconds() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 900, (30, 2))
    tracker = Tracker()
    spent = []
    for step in range(60):
        boxes = np.concatenate([corners + step, corners + step + 80], axis=1)
        frame = found(boxes)
        began = time.thread_time()
        tracker.update(frame)
        spent.append(time.thread_time() - began)
    assert np.median(spent) < 0.002


@pytest.mark.parametrize("options", [{"min_iou": 0}, {"min_iou": 2}, {"max_gap": -1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="min_iou"):
        Tracker(**options)  # type: ignore[arg-type]
