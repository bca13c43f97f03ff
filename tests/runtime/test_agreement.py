"""Converted graphs on cv2.dnn, held against what TensorFlow finds on the same pixels.

`scripts/run make_tf_goldens` wrote the small models and TensorFlow's results.
"""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from graph_builder import DATA, EXPORTS, arrays_of, filled, own_model, partners, picture

from cvmask.graph import split as split_module
from cvmask.graph.convert import convert_with_facts
from cvmask.graph.graph_def import read_graph
from cvmask.graph.split import split
from cvmask.graph.text import print_text
from cvmask.runtime.pair import Pair

NAMES = ["tiny_plain", "tiny_resnet101", "tiny_inception_resnet"]
VARIANTS = ["tiny_sigmoid", "tiny_combined", "tiny_loops", "tiny_lowered"]
DEEP = ["deep_resnet50", "deep_resnet101", "deep_inception_resnet"]


def picture_of(name):
    """The picture that the golden was made with."""
    return picture(*arrays_of(DATA / f"{name}.npz")["size"])


def load(path, text):
    extra = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    weights, config = np.fromfile(path, np.uint8), np.frombuffer(text.encode(), np.uint8)
    return cv2.dnn.readNetFromTensorflow(weights, config, **extra)


def run(path, text, image, outputs):
    net = load(path, text)
    net.setInput(np.ascontiguousarray(image[None].transpose(0, 3, 1, 2), np.float32))
    return net.forward(list(outputs))


@pytest.mark.parametrize("name", [*NAMES, *VARIANTS, *DEEP])
def test_converted_graph_agrees_with_tensorflow(name):
    golden, image = arrays_of(DATA / f"{name}.npz"), picture_of(name)
    graph, facts = convert_with_facts(read_graph(own_model(name)))
    parts = split(graph)
    rows, masks = run(own_model(name), print_text(graph), image, (parts.detections, parts.masks))
    rows = rows[0, 0]
    there = (rows[:, 2] > 0) & (rows[:, 5] > rows[:, 3]) & (rows[:, 6] > rows[:, 4])
    index = rows[:, 1].astype(int) if masks.shape[1] > 1 else 0
    rows, own = rows[there], masks[np.arange(len(rows)), index][there]
    count = len(golden["detection_scores"])
    assert len(rows) == count == facts.max_detections
    assert rows[:, 1].tolist() == (golden["detection_classes"] - 1).tolist()
    assert np.abs(rows[:, 2] - golden["detection_scores"]).max() < 1e-4
    assert np.abs(rows[:, [4, 3, 6, 5]] - golden["detection_boxes"]).max() < 1e-4
    assert np.abs(own - golden["detection_masks"]).max() < 1e-3


@pytest.mark.parametrize("name", [*NAMES, *VARIANTS, *DEEP])
def test_split_of_a_converted_graph_is_bit_identical_to_the_whole(name):
    image = picture_of(name)
    path = own_model(name)
    graph, _ = convert_with_facts(read_graph(path))
    parts = split(graph)
    rows, masks = run(path, print_text(graph), image, (parts.detections, parts.masks))
    rows_again, features = run(path, parts.detector_text, image, (parts.detections, parts.features))
    assert np.array_equal(rows, rows_again)
    head = load(path, parts.mask_head_text)
    for count in (1, 3, rows.shape[2]):
        head.setInput(np.ascontiguousarray(rows[:, :, :count]), parts.detections)
        head.setInput(features, parts.features)
        assert np.array_equal(head.forward(parts.masks), masks[:count])


@pytest.mark.parametrize("name", EXPORTS)
def test_converted_export_agrees_with_tensorflow(name):
    """Real exports with seeded weights.

    TensorFlow's CropAndResize reads zeros where rounding puts a sample beyond the last cell by one part
    in ten million, so that a row whose proposal reaches the picture's border may differ: three of 100.
    It keeps 100 rows of a class at most, of which OpenCV knows nothing: hence the first 100. And where
    there are fewer proposals than rows for them, OpenCV classifies empty boxes too: hence the floor.
    """
    image, path = picture_of(name), filled(name)
    arrays = arrays_of(DATA / f"{name}.npz")
    count = int((arrays["detection_scores"][:100] > 0.05).sum())
    golden = {key: array[:count] for key, array in arrays.items()}
    assert count > 40
    parts = split(convert_with_facts(read_graph(path))[0])
    rows, features = run(path, parts.detector_text, image, (parts.detections, parts.features))
    found = partners(rows[0, 0], golden)
    assert (found < 0).sum() <= 3
    assert np.all(np.diff(found[found >= 0]) > 0)
    boxes = golden["detection_boxes"][found < 0]
    assert np.all((boxes.min(1) < 1e-6) | (boxes.max(1) > 1 - 1e-6))
    kept = [(there, here) for there, here in enumerate(found[: len(golden["detection_masks"])]) if here >= 0]
    head = load(path, parts.mask_head_text)
    head.setInput(np.ascontiguousarray(rows[:, :, [here for _, here in kept]]), parts.detections)
    head.setInput(features, parts.features)
    masks = head.forward(parts.masks)
    for number, (there, here) in enumerate(kept):
        own = masks[number, int(rows[0, 0, here, 1])]
        assert np.abs(own - golden["detection_masks"][there]).max() < 1e-3


def test_loaded_networks_give_the_bits_of_the_whole_export():
    """Whatever ran first: OpenCV up to 4.12 keeps the algorithms that it chose for the size of the first run."""
    path = filled("mask_rcnn_inception_v2")
    graph = split_module.set_score_floor(convert_with_facts(read_graph(path))[0], 0.0)
    image = np.random.default_rng(2).integers(0, 256, (224, 320, 3), np.uint8)
    parts = split(graph)
    rows, masks = run(path, print_text(graph), image, (parts.detections, parts.masks))
    pair = Pair(np.fromfile(path, np.uint8), graph, "cpu", "export")
    pair.warm_up()
    ours, features = pair.detect(np.ascontiguousarray(image[None].transpose(0, 3, 1, 2), np.float32))
    assert np.array_equal(ours, rows)
    assert np.array_equal(pair.masks(features, ours[:, :, :3]), masks[:3])


def test_facts_of_what_a_config_may_choose():
    sigmoid, combined = (convert_with_facts(read_graph(own_model(name)))[1] for name in VARIANTS[:2])
    assert (sigmoid.classes, sigmoid.class_agnostic_masks) == (3, True)
    assert (combined.classes, combined.class_agnostic_masks) == (3, False)
    for facts in (sigmoid, combined):
        assert (facts.max_detections, facts.second_stage.iou_threshold) == (10, pytest.approx(0.6))


def test_loops_of_tensorflow_2_and_what_freezing_makes_of_them():
    loops, low = (read_graph(own_model(name)) for name in ("tiny_loops", "tiny_lowered"))
    assert sum(not node.in_file for node in loops) > 200
    assert all(node.in_file for node in low)
    for graph in (loops, low):
        assert {"TensorListStack", "TensorListSetItem"} <= {node.op for node in graph}
        resizer = convert_with_facts(graph)[1].resizer
        assert (resizer.kind, resizer.min_dimension, resizer.max_dimension) == ("keep_aspect_ratio", 96, 128)


def test_facts_of_the_small_models():
    plain, resnet, inception = (convert_with_facts(read_graph(DATA / f"{name}.pb"))[1] for name in NAMES)
    assert (plain.resizer.kind, plain.resizer.fixed_wh) == ("fixed", (112, 96))
    for facts in (resnet, inception):
        assert (facts.resizer.kind, facts.resizer.min_dimension, facts.resizer.max_dimension) == (
            "keep_aspect_ratio", 96, 128)  # fmt: skip
    assert (resnet.backbone, inception.backbone) == ("ResNet-101", "Inception-ResNet v2")
    for facts, stride in ((plain, 4), (resnet, 8), (inception, 8)):
        assert facts.anchors.stride == (stride, stride)
        assert sorted(facts.anchors.heights) == pytest.approx(
            sorted(32 * s / r**0.5 for s in (0.5, 1) for r in (0.5, 1, 2)), rel=1e-5
        )
        assert (facts.classes, facts.mask_size, facts.proposals, facts.max_detections) == (
            3,
            (14, 14),
            12,
            10,
        )
    assert (plain.first_stage.clip_first, resnet.first_stage.clip_first) == (True, False)


@pytest.mark.parametrize(
    ("name", "backbone", "first", "second", "release"),
    [
        ("deep_resnet50", "ResNet-50", 1 + 3 * (3 + 4 + 6) + 3, 10, 2018),
        ("deep_resnet101", "ResNet-101", 1 + 3 * (3 + 4 + 23) + 3, 10, 2020),
        ("deep_inception_resnet", "Inception-ResNet v2", 5 + 7 + 10 * 7 + 4 + 20 * 5, 7 + 10 * 5 + 1, 2018),
    ],
)
def test_deep_models_have_the_layers_of_the_published_ones(name, backbone, first, second, release):
    """Convolutions up to the feature map, and behind a crop; 244 of Inception-ResNet v2 in all."""
    graph = read_graph(own_model(name))
    layers = [node.name.split("/")[0] for node in graph if node.op == "Conv2D"]
    assert layers.count("FirstStageFeatureExtractor") == first
    assert layers.count("SecondStageFeatureExtractor") == second
    assert layers.count("SecondStageFeatureExtractor_1") == second
    _, facts = convert_with_facts(graph)
    crop = 17 if "inception" in name else 14
    assert (facts.backbone, facts.crop_size, facts.anchors.stride) == (backbone, (crop, crop), (8.0, 8.0))
    spelled = {node.op for node in graph}
    assert spelled & {"AddV2", "FusedBatchNormV3"} == (set() if release == 2018 else {"AddV2", "FusedBatchNormV3"})
