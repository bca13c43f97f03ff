"""Anchors, decoding, clipping and suppression by the Object Detection API's rules; and the whole against TensorFlow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graph_builder import DATA, arrays_of, filled, own_model, partners, picture

from cvmask.graph.facts import Anchors, GraphFacts, Resizer, Suppression
from cvmask.graph.graph_def import read_graph
from cvmask.graph.onnx_networks import box_head_network, features_network, mask_head_network, parts_of
from cvmask.runtime import boxes as rules

RULE = Suppression(score_threshold=0.0, iou_threshold=0.5, max_per_class=100, max_total=100)
SIZE = (100, 200)


def found(boxes, scores, rule=RULE, size=SIZE):
    """Numbers of boxes and classes that stay, as (box, class), for boxes (n, 4) that all classes share."""
    boxes, scores = np.array(boxes, np.float32), np.array(scores, np.float32)
    scores = scores[:, None] if scores.ndim == 1 else scores
    result = rules.suppress(scores, lambda rows, _: boxes[rows], rule, size)
    places = {tuple(box): number for number, box in reversed(list(enumerate(rules.clip(boxes, size).tolist())))}
    return [(places[tuple(box)], owner) for box, owner in zip(result.boxes.tolist(), result.classes.tolist())]


def test_anchors_go_by_rows_columns_and_kinds():
    anchors = Anchors(heights=(4.0, 8.0), widths=(2.0, 6.0), stride=(10.0, 20.0), offset=(1.0, 2.0), clip=False)
    grid = rules.anchor_grid(anchors, (2, 3), SIZE)
    assert grid.shape == (12, 4)
    assert grid[0].tolist() == [1 - 2, 2 - 1, 1 + 2, 2 + 1]
    assert grid[1].tolist() == [1 - 4, 2 - 3, 1 + 4, 2 + 3]
    assert grid[2].tolist() == [1 - 2, 22 - 1, 1 + 2, 22 + 1]  # the next column
    assert grid[6].tolist() == [11 - 2, 2 - 1, 11 + 2, 2 + 1]  # the next row
    assert rules.anchor_grid(replace(anchors, clip=True), (2, 3), SIZE)[0].tolist() == [0, 1, 3, 3]


def test_codes_move_and_stretch_anchors():
    anchor = np.array([[10, 20, 30, 60]], np.float32)
    codes = np.array([[1, -2, np.log(2) * 5, 0]], np.float32)
    # centre 20, 40; sizes 20, 40: y moves by 1/10 of 20, x by -2/10 of 40, the height doubles
    assert rules.decode(codes, anchor, (10, 10, 5, 5)) == pytest.approx(np.array([[2, 12, 42, 52]]), abs=1e-4)


def test_a_code_too_large_for_a_float_is_no_warning():
    box = rules.decode(np.array([[0, 0, 1e4, 1e4]], np.float32), np.array([[0, 0, 9, 9]], np.float32), (1, 1, 1, 1))
    assert np.isinf(box).all()


def test_the_better_of_two_that_overlap_stays_and_classes_do_not_matter_to_each_other():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]]
    assert found(boxes, [0.6, 0.9, 0.7]) == [(1, 0), (2, 0)]
    assert found(boxes, [[0.6, 0.0], [0.0, 0.9], [0.0, 0.0]]) == [(1, 1), (0, 0)]


def test_an_overlap_of_just_the_threshold_stays():
    assert found([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.8]) == [(0, 0), (1, 0)]
    assert found([[0, 0, 10, 10], [0, 0, 10, 5.01]], [0.9, 0.8]) == [(0, 0)]


def test_a_score_of_just_the_floor_is_too_low():
    rule = replace(RULE, score_threshold=0.3)
    assert found([[0, 0, 10, 10], [20, 20, 30, 30]], [np.float32(0.3), 0.31], rule) == [(1, 0)]


def test_ties_go_to_the_lower_class_and_the_first_box():
    apart = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]]
    assert found(apart, [[0.5, 0.5]] * 3) == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]
    assert found([[0, 0, 10, 10], [0, 0, 10, 10.5]], [0.5, 0.5]) == [(0, 0)]


def test_limits_of_a_class_and_of_all():
    apart = [[10 * i, 0, 10 * i + 9, 9] for i in range(5)]
    scores = [[0.9 - 0.1 * i, 0.05] for i in range(5)]
    assert found(apart, scores, replace(RULE, max_per_class=2)) == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert found(apart, scores, replace(RULE, max_per_class=2, max_total=3)) == [(0, 0), (1, 0), (0, 1)]


def test_boxes_are_clipped_before_or_after():
    """Before: what is left decides on the overlap, and a box outside is not there. After: it takes away, and goes."""
    boxes = [[-100, 0, 10, 10], [0, 0, 10, 10], [300, 0, 310, 10], [300, 0, 310, 9]]
    scores = [0.9, 0.8, 0.7, 0.6]
    assert found(boxes, scores) == [(0, 0)]
    outside = Suppression(0.0, 0.5, 3, 3, clip_first=False)
    assert found(boxes, scores, outside) == [(0, 0), (0, 0)]  # the second one, clipped: both are the same then
    assert found([boxes[2], boxes[1]], scores[:2], replace(outside, max_total=1)) == [(1, 0)]
    assert found([boxes[2], boxes[1]], scores[:2], replace(outside, max_per_class=1)) == []


def slow(boxes, scores, rule):
    """The same, one box at a time: for each class, then the best of all in a stable order."""
    rows = []
    for owner in range(scores.shape[1]):
        kept = []
        for number in sorted(range(len(boxes)), key=lambda i: -scores[i, owner]):
            if scores[number, owner] <= np.float32(rule.score_threshold) or len(kept) == rule.max_per_class:
                continue
            ious = [rules.overlaps(boxes[[number]], boxes[[other]])[0, 0] for other in kept]
            if all(iou <= np.float32(rule.iou_threshold) for iou in ious):
                kept.append(number)
        rows += [(number, owner) for number in kept]
    return sorted(rows, key=lambda row: -scores[row])[: rule.max_total]


@pytest.mark.parametrize("limits", [(100, 100), (4, 20), (2, 500)])
def test_many_boxes_as_one_at_a_time(limits):
    """More than one chunk, and scores of few digits: many are the same."""
    rng = np.random.default_rng(limits[0])
    middle, half = rng.uniform(10, 90, (80, 2)), rng.uniform(2, 10, (80, 2))
    boxes = np.concatenate([middle - half, middle + half], axis=1).astype(np.float32)
    scores = rng.random((80, 4)).round(2).astype(np.float32)
    rule = Suppression(0.1, 0.4, *limits)
    assert found(boxes, scores, rule) == slow(boxes, scores, rule)


def test_so_many_that_only_the_best_are_sorted_at_first(monkeypatch):
    rng = np.random.default_rng(8)
    corner = rng.uniform(0, 90, (600, 2))
    boxes = np.concatenate([corner, corner + 3], axis=1).astype(np.float32)
    scores = rng.random((600, 1)).round(1).astype(np.float32)
    expected = slow(boxes, scores, RULE)
    monkeypatch.setattr(rules, "_SORTED_FIRST", 50)
    monkeypatch.setattr(rules, "_CHUNK", 7)
    assert found(boxes, scores) == expected
    assert len(expected) == 100


def test_overlaps_are_worked_out_by_hand():
    some = np.array([[0, 0, 10, 10], [0, 0, 0, 10]], np.float32)
    others = np.array([[5, 5, 15, 15], [0, 0, 10, 10], [10, 10, 20, 20], [5, 5, 5, 5]], np.float32)
    assert rules.overlaps(some, others) == pytest.approx(np.array([[25 / 175, 1, 0, 0], [0, 0, 0, 0]]))


def test_proposals_are_in_parts_of_the_picture_and_rows_in_the_order_of_opencv():
    facts = GraphFacts(
        "", "image", 2, (15, 15), False, (14, 14), Resizer("none"), Anchors((50.0,), (100.0,), (50.0, 100.0)),
        RULE, RULE, (10, 10, 5, 5), (10, 10, 5, 5), "features",
    )  # fmt: skip
    scores = np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    boxes = rules.proposals(np.zeros((4, 4), np.float32), scores, (2, 2), SIZE, facts)
    low, high = (0, 0.25), (0.25, 0.75)
    assert boxes.tolist() == [[y[0], x[0], y[1], x[1]] for y, x in ((high, high), (high, low), (low, high), (low, low))]
    codes = np.zeros((4, 8), np.float32)
    scores = np.array([[0.1, 0.9], [0, 0], [0.8, 0], [0, 0]], np.float32)
    rows = rules.detections(codes, scores, boxes, SIZE, facts)
    assert rows.shape == (1, 1, 3, 7)
    expected = [
        [0, 1, 0.9, 0.25, 0.25, 0.75, 0.75], [0, 0, 0.8, 0.25, 0, 0.75, 0.25], [0, 0, 0.1, 0.25, 0.25, 0.75, 0.75]
    ]  # fmt: skip
    assert rows[0, 0] == pytest.approx(np.array(expected))
    assert rules.detections(codes[:0], scores[:0], boxes[:0], SIZE, facts).shape == (1, 1, 0, 7)


def run_parts(path, size, image, masked=None):
    """Rows (n, 7) and, of `masked` of them, the masks of their classes: from the three networks on ONNX Runtime."""
    ort = pytest.importorskip("onnxruntime")
    parts = parts_of(read_graph(path))
    networks = features_network(parts, size), box_head_network(parts), mask_head_network(parts)
    features, boxes, masks = (ort.InferenceSession(data, providers=["CPUExecutionProvider"]) for data in networks)
    blob = np.ascontiguousarray(image[None].transpose(0, 3, 1, 2), np.float32)
    maps, codes, scores = features.run(None, {"image": blob})
    chosen = rules.proposals(codes, scores, maps.shape[2:], size, parts.facts)
    codes, scores = boxes.run(None, {"features": maps, "boxes": chosen})
    rows = rules.detections(codes, scores, chosen, size, parts.facts)[0, 0]
    some = rows[:masked]
    own = masks.run(None, {"features": maps, "boxes": np.ascontiguousarray(some[:, [4, 3, 6, 5]])})[0]
    return rows, own[np.arange(len(some)), some[:, 1].astype(int) if own.shape[1] > 1 else 0]


TINY = ["plain", "resnet101", "inception_resnet", "sigmoid", "combined", "loops", "lowered"]
DEEP = ["resnet50", "resnet101", "inception_resnet"]


@pytest.mark.parametrize("name", [*(f"tiny_{name}" for name in TINY), *(f"deep_{name}" for name in DEEP)])
def test_rows_are_those_of_tensorflow(name):
    golden = arrays_of(DATA / f"{name}.npz")
    size = tuple(golden["size"].tolist())
    rows, own = run_parts(own_model(name), size, picture(*size))
    assert rows[:, 1].tolist() == (golden["detection_classes"] - 1).tolist()
    assert np.abs(rows[:, 2] - golden["detection_scores"]).max() < 1e-5
    assert np.abs(rows[:, [4, 3, 6, 5]] - golden["detection_boxes"]).max() < 1e-6
    assert np.abs(own - golden["detection_masks"]).max() < 1e-4


def test_all_rows_of_an_export_are_those_of_tensorflow():
    """300 rows, more than OpenCV's layer gives of those; the first masks."""
    name = "mask_rcnn_resnet50_atrous"
    golden = arrays_of(DATA / f"{name}.npz")
    size = tuple(golden["size"].tolist())
    rows, own = run_parts(filled(name), size, picture(*size), len(golden["detection_masks"]))
    assert (partners(rows, golden) == np.arange(300)).all()
    assert np.abs(own - golden["detection_masks"]).max() < 1e-3
