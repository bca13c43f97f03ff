"""cvmask.graph.graph_def: OpenCV makes the same networks of the part that they need."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import Builder, message

from cvmask.errors import ModelError
from cvmask.graph.graph_def import needed_part, node_places, parse_graph
from cvmask.graph.split import split
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.runtime.net import Net
from cvmask.system import folders

FOLDER = folders.path("models/shapes")


def part(frozen, text):
    return needed_part(frozen, node_places(frozen, "graph"), text)


def names(data):
    return [node.name for node in parse_graph(data)]


def buffer(builder):
    return np.frombuffer(builder.bytes(), np.uint8)


def test_networks_give_the_same_bits():
    frozen = np.fromfile(FOLDER / "frozen_inference_graph.pb", np.uint8)
    parts = split(read_text(FOLDER / "graph.pbtxt"))
    detector, head = (part(frozen, text) for text in (parts.detector, parts.mask_head))
    assert max(detector.size, head.size) < frozen.size
    blob = np.random.default_rng(0).integers(0, 256, (1, 3, 128, 160)).astype(np.float32)
    found = []
    for first, second in ((frozen, frozen), (detector, head)):
        net = Net(first, print_text(parts.detector), [parts.detections, parts.features], "detector")
        rows, features = net.forward({parts.image: blob})
        inputs = {parts.features: features, parts.detections: np.ascontiguousarray(rows[:, :, :5])}
        found.append((rows, features, *Net(second, print_text(parts.mask_head), [parts.masks], "head").forward(inputs)))
    for whole, ours in zip(*found):
        assert whole.size
        assert np.array_equal(whole, ours)


def test_only_constants_that_are_read_stay_in_the_order_of_the_file():
    b = Builder()
    b.const("other", np.zeros(1000, np.float32))
    b.const("weights", np.full((1, 1, 3, 3), 2, np.float32))
    b.node("Placeholder", "x")
    b.node("Conv2D", "y", "x", "weights")
    b.const("bias", np.ones(3, np.float32))
    text = parse_text(
        "node { name: 'x' op: 'Placeholder' attr { key: 'dtype' value { type: DT_FLOAT } } }"
        "node { name: 'y' op: 'Conv2D' input: 'x' input: 'weights' attr { key: 'padding' value { s: 'SAME' } }"
        " attr { key: 'strides' value { list { i: 1 i: 1 i: 1 i: 1 } } }"
        " attr { key: 'data_format' value { s: 'NHWC' } } }"
        "node { name: 'z' op: 'BiasAdd' input: 'y' input: 'bias' attr { key: 'data_format' value { s: 'NHWC' } } }"
    )
    ours = part(buffer(b), text)
    assert names(ours) == ["weights", "bias"]
    x = np.ones((1, 3, 2, 2), np.float32)
    (y,) = Net(ours, print_text(text), ["y"], "two layers").forward({"x": x})
    assert (y == 7).all()


def test_nothing_is_needed_by_a_text_that_reads_no_constants():
    b = Builder()
    b.const("other", np.zeros(10, np.float32))
    text = parse_text("node { name: 'x' op: 'Placeholder' } node { name: 'y' op: 'Relu' input: 'x' }")
    assert part(buffer(b), text).size, "OpenCV takes no empty graph"


def test_the_order_of_the_fields_of_a_node_does_not_matter():
    value = message(5, message(1, "dtype") + message(2, b"\x30\x01"))
    node = message(2, "Const") + value + message(1, "late")
    data = np.frombuffer(message(4, b"\x08\x01") + message(1, node) + message(4, b"\x08\x01"), np.uint8)
    places = node_places(data, "graph")
    start, end, _ = places["late"]
    assert data[start:end].tobytes() == message(1, node)


@pytest.mark.parametrize("data", [b"\x0a\xff", b"\x0a\x02\x0a\x05", b"<html>" * 10, b"\x0a\x03\x12\x01x"])
def test_other_bytes_are_one_line(data):
    with pytest.raises(ModelError, match=r"^mine\.pb: not a readable GraphDef: .*; download or copy it again$"):
        node_places(np.frombuffer(data, np.uint8), "mine.pb")


def test_what_a_quantized_constant_is_made_of_comes_along():
    b = Builder()
    for name in ("codes", "low", "high", "other"):
        b.const(name, np.zeros(2, np.float32))
    b.node("Dequantize", "weights", "codes", "low", "high")
    text = parse_text("node { name: 'x' op: 'Placeholder' } node { name: 'y' op: 'Mul' input: 'x' input: 'weights' }")
    assert names(part(buffer(b), text)) == ["codes", "low", "high", "weights"]
