"""cvmask.graph.split and patch: one text graph becomes two, and small changes to it."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
from graph_builder import OFFICIAL, filled, shared

from cvmask.errors import ModelError
from cvmask.graph import split as split_module
from cvmask.graph.split import final_detections, first_detections, split
from cvmask.graph.text import parse_text, print_text, read_text

# A two-stage network, with names that no release of the API gives.
TWO_STAGES = """
node { name: "img" op: "Placeholder" }
node { name: "feat" op: "Conv2D" input: "img" input: "w" input: "^check" }
node { name: "rpn" op: "DetectionOutput" input: "feat" input: "feat" input: "img"
       attr { key: "keep_top_k" value { i: 9 } } }
node { name: "crop" op: "CropAndResize" input: "feat" input: "rpn" input: "size" }
node { name: "size" op: "Const" }
node { name: "last" op: "DetectionOutput" input: "crop" input: "crop" input: "rpn"
       attr { key: "confidence_threshold" value { f: 0.3 } } }
"""
MASKS = """
node { name: "rows" op: "Identity" input: "last:0" }
node { name: "crop2" op: "CropAndResize" input: "feat:0" input: "rows" input: "size" }
node { name: "soft" op: "Sigmoid" input: "crop2" }
"""


def test_split_follows_the_data_and_not_the_names():
    parts = split(parse_text(TWO_STAGES + MASKS))
    assert (parts.image, parts.detections, parts.features, parts.masks) == ("img", "rows", "feat", "soft")
    assert [n.name for n in parts.detector] == ["img", "feat", "rpn", "crop", "size", "last", "rows"]
    assert [n.name for n in parts.mask_head] == ["feat", "rows", "size", "crop2", "soft"]
    assert [n.op for n in parts.mask_head][:2] == ["Placeholder", "Placeholder"]
    assert parts.detector["feat"].inputs == ["img", "w"]


def test_split_prefers_detection_masks_among_several_outputs():
    extra = 'node { name: "%s" op: "Shape" input: "crop2" }'
    with pytest.raises(ModelError, match=r"output after crop2 is detection_masks. \['other', 'soft'\]"):
        split(parse_text(TWO_STAGES + MASKS + extra % "other"))
    assert split(parse_text(TWO_STAGES + MASKS + extra % "detection_masks")).masks == "detection_masks"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (TWO_STAGES, r"a Faster R-CNN \(it gives boxes and no masks\)"),
        ((TWO_STAGES + MASKS).replace("CropAndResize", "Pool"), "no mask head"),
        ('node { name: "a" op: "DetectionOutput" input: "b" }', "a one-stage detector such as SSD"),
        ('node { name: "a" op: "Conv2D" input: "b" }', "0 DetectionOutput and 0 CropAndResize among 1"),
        (TWO_STAGES + MASKS + re.sub("(crop2|rows|soft)", r"\1_again", MASKS), "2 nodes crop"),
        (TWO_STAGES + MASKS + 'node { name: "x" op: "Add" input: "soft" input: "img" }', "reads the image"),
    ],
)  # fmt: skip
def test_graph_without_a_mask_head_says_what_was_found(text, found):
    with pytest.raises(ModelError, match=found):
        split(parse_text(text))


def test_patches_change_one_attribute_of_one_node():
    graph = parse_text(TWO_STAGES + MASKS)
    with_floor = split_module.set_score_floor(graph, 0.05)
    changed = split_module.set_max_detections(split_module.set_proposals(with_floor, 50), 7)
    first, last = first_detections(changed), final_detections(changed)
    assert [node.get("keep_top_k", "i") for node in (first, last)] == [50, 7]
    assert first_detections(graph).get("keep_top_k", "i") == 9
    assert split_module.score_floor(changed) == pytest.approx(0.05)
    assert split_module.score_floor(graph) == pytest.approx(0.3)
    assert first_detections(changed).name == "rpn"
    assert final_detections(changed).name == "last"
    assert len(changed) == len(graph)


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (split_module.set_proposals, 0),
        (split_module.set_proposals, 999_999),
        (split_module.set_score_floor, 1.5),
        (split_module.set_max_detections, -1),
    ],
)
def test_patches_refuse_values_without_meaning(function, value):
    with pytest.raises(ModelError, match="needed"):
        function(parse_text(TWO_STAGES + MASKS), value)


def load(path, text):
    extra = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    weights, config = np.fromfile(path, np.uint8), np.frombuffer(text.encode(), np.uint8)
    return cv2.dnn.readNetFromTensorflow(weights, config, **extra)


def test_split_of_the_official_graph_is_bit_identical_to_the_whole():
    graph = split_module.set_score_floor(read_text(shared(*OFFICIAL)), 0.01)
    graph = split_module.set_max_detections(split_module.set_proposals(graph, 20), 6)
    path, parts = filled("mask_rcnn_inception_v2_2018_07"), split(graph)
    blob = np.random.default_rng(5).uniform(0, 255, (1, 3, 96, 128)).astype(np.float32)
    texts = print_text(graph), parts.detector_text, parts.mask_head_text
    whole, detector, head = (load(path, text) for text in texts)
    whole.setInput(blob)
    rows, masks = whole.forward([parts.detections, parts.masks])
    detector.setInput(blob)
    rows_again, features = detector.forward([parts.detections, parts.features])
    assert np.array_equal(rows, rows_again)
    for picked in ([2], [0, 3, 5], [0, 1, 2, 3, 4, 5]):
        head.setInput(np.ascontiguousarray(rows[:, :, picked]), parts.detections)
        head.setInput(features, parts.features)
        assert np.array_equal(head.forward(parts.masks), masks[picked])
