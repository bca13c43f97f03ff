"""cvmask.graph.convert: frozen graph -> text graph; facts read off the graph."""

from __future__ import annotations

import pytest
from graph_builder import EXPORTS, OFFICIAL, Builder, own_model, shared, skeleton

from cvmask.errors import ModelError
from cvmask.graph.convert import convert, convert_with_facts
from cvmask.graph.describe import read_facts
from cvmask.graph.graph_def import parse_graph, read_graph
from cvmask.graph.nodes import FLOAT, Attr, Graph, Node, Tensor
from cvmask.graph.split import split
from cvmask.graph.text import parse_text, print_text, read_text


@pytest.mark.parametrize("name", EXPORTS)
def test_facts_are_those_of_the_pipeline_config(name):
    facts = read_facts(read_graph(skeleton(name)))
    resnet = "resnet" in name
    assert facts.backbone == ("ResNet-50" if resnet else "Inception v2")
    assert (facts.classes, facts.mask_size) == (90, (33, 33) if resnet else (15, 15))
    assert (facts.resizer.kind, facts.resizer.min_dimension, facts.resizer.max_dimension) == (
        "keep_aspect_ratio", 800, 1365)  # fmt: skip
    assert facts.anchors.stride == ((8.0, 8.0) if resnet else (16.0, 16.0))
    assert facts.first_scales == facts.second_scales == (10.0, 10.0, 5.0, 5.0)
    first, second = facts.first_stage, facts.second_stage
    assert (first.max_total, second.max_total, second.max_per_class) == (
        (300, 300, 100) if resnet else (100, 100, 100)
    )
    assert (first.iou_threshold, second.iou_threshold) == (pytest.approx(0.7), pytest.approx(0.6))
    assert first.score_threshold == second.score_threshold == 0
    assert first.clip_first == second.clip_first == ("2018" in name)


def test_anchors_are_those_of_the_official_graph():
    official = read_text(shared(*OFFICIAL))["proposals"]
    anchors = read_facts(read_graph(skeleton("mask_rcnn_inception_v2_2018_07"))).anchors
    assert anchors.heights == pytest.approx(official.get("height", "tensor").array(), abs=1e-3)
    assert anchors.widths == pytest.approx(official.get("width", "tensor").array(), abs=1e-3)
    assert (anchors.offset, anchors.clip) == ((0.0, 0.0), True)


def test_convert_makes_the_layers_of_the_official_graph():
    """Same ops in the same numbers, same convolutions; only the spelling of names differs."""
    official = read_text(shared(*OFFICIAL))
    made = convert(read_graph(skeleton("mask_rcnn_inception_v2_2018_07")))
    assert sorted(n.op for n in made if n.op != "Const") == sorted(n.op for n in official if n.op != "Const")
    for node in official:
        if node.op in ("Conv2D", "MaxPool", "MatMul", "ConcatV2"):
            assert made[node.name].attrs == node.attrs
            assert [s.replace("NormV3", "Norm") for s in made[node.name].sources()] == node.sources()


@pytest.mark.parametrize("name", EXPORTS)
def test_converted_graph_prints_splits_and_has_only_old_ops(name):
    made, facts = convert_with_facts(read_graph(skeleton(name)))
    again = parse_text(print_text(made))
    parts = split(again)
    assert (parts.image, parts.features, parts.masks) == ("image_tensor", facts.features, "detection_masks")
    assert not {node.op for node in again} & {"AddV2", "FusedBatchNormV3", "Identity", "Enter", "Shape"}


def test_graph_of_something_else_says_what_it_is():
    b = Builder()
    b.node("Placeholder", "x")
    b.node("Relu", "y", "x")
    with pytest.raises(ModelError, match="a graph of 2 nodes that ends in y, needed detection_masks"):
        convert(parse_graph(b.bytes()))
    for name in ("detection_boxes", "detection_scores"):
        b.node("Identity", name, "y")
    with pytest.raises(ModelError, match="a one-stage detector such as SSD"):
        convert(parse_graph(b.bytes()))
    b.node("CropAndResize", "crop", "y", "y", "y", "y")
    with pytest.raises(ModelError, match=r"a Faster R-CNN \(it gives boxes and no masks\)"):
        convert(parse_graph(b.bytes()))


HALF = 19


def halved(graph):
    """The graph with every large constant stored in half precision and cast to single."""
    nodes = []
    for node in graph:
        tensor = node.get("value", "tensor")
        if node.op != "Const" or tensor.dtype != FLOAT or tensor.size < 16:
            nodes.append(node)
            continue
        half = Tensor(HALF, tensor.shape, tensor.array().astype("<f2").tobytes())
        nodes.append(Node(f"{node.name}/half", "Const", [], {"value": Attr("tensor", half)}))
        kinds = {"SrcT": Attr("type", HALF), "DstT": Attr("type", FLOAT)}
        nodes.append(Node(node.name, "Cast", [f"{node.name}/half"], kinds))
    return Graph(nodes, graph.origin)


def test_weights_in_half_precision_are_read_from_the_binary_graph():
    """OpenCV reads them as single precision: nothing is spelled out in the text that was not before."""
    graph = read_graph(own_model("tiny_plain"))
    plain, half = convert(graph), convert(halved(graph))
    assert {node.name for node in plain} == {node.name for node in half}
    changed = [(a, b) for a, b in zip(plain, half) if a.inputs != b.inputs]
    assert len(changed) > 10
    assert all(a.inputs == [text.replace("/half", "") for text in b.inputs] for a, b in changed)
