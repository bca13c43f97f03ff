"""cvmask.graph.check: the layers that it says OpenCV reads are tried with the OpenCV at hand."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import Builder

from cvmask.errors import ModelError
from cvmask.graph.check import READ, support_notes, unread
from cvmask.graph.text import parse_text
from cvmask.runtime.net import Net

# Inputs beside the data, and attributes, that a layer does not go without.
_NHWC = "attr { key: 'data_format' value { s: 'NHWC' } }"
_WINDOW = (
    "attr { key: 'ksize' value { list { i: 1 i: 2 i: 2 i: 1 } } } attr { key: 'padding' value { s: 'SAME' } } "
    "attr { key: 'strides' value { list { i: 1 i: 2 i: 2 i: 1 } } } " + _NHWC
)
_STEP = (
    "attr { key: 'padding' value { s: 'SAME' } } "
    "attr { key: 'strides' value { list { i: 1 i: 1 i: 1 i: 1 } } } " + _NHWC
)
NEEDS = {
    **dict.fromkeys(("Add", "AddV2", "Sub", "Mul", "RealDiv"), (["channel"], "")),
    "BiasAdd": (["channel"], _NHWC),
    "AddN": (["x"], ""),
    **dict.fromkeys(("AvgPool", "MaxPool"), ([], _WINDOW)),
    **dict.fromkeys(("Conv2D", "DepthwiseConv2dNative"), (["weights"], _STEP)),
    **dict.fromkeys(("FusedBatchNorm", "FusedBatchNormV3"), (["channel"] * 4, "")),
    "LeakyRelu": ([], "attr { key: 'alpha' value { f: 0.5 } }"),
    **dict.fromkeys(("Mean", "Sum"), (["spatial"], "attr { key: 'keep_dims' value { b: true } }")),
    "Pad": (["pads"], ""),
    "Reshape": (["shape"], ""),
    **dict.fromkeys(("ResizeBilinear", "ResizeNearestNeighbor"), (["size"], "")),
    "Slice": (["begin", "all"], ""),
    "Transpose": (["perm"], ""),
    "ClipByValue": (["low", "high"], ""),
    "Squeeze": ([], "attr { key: 'squeeze_dims' value { list { i: 0 } } }"),
}  # fmt: skip
# Those that are read together with others only: whole models hold them, and the tests of those run them.
IN_MODELS = {
    "BatchToSpaceND", "Concat", "ConcatV2", "Const", "Conv2DBackpropInput", "CropAndResize", "DetectionOutput",
    "ExpandDims", "Identity", "MatMul", "Pack", "Placeholder", "PriorBox", "SpaceToBatchND", "Split",
    "StridedSlice",
}  # fmt: skip


def constants():
    b = Builder()
    b.const("channel", np.array([1, 2, 3], np.float32))
    b.const("weights", np.ones((1, 1, 3, 3), np.float32))
    b.const("spatial", np.array([1, 2], np.int32))
    b.const("pads", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    b.const("shape", np.array([1, -1], np.int32))
    b.const("size", np.array([8, 10], np.int32))
    b.const("begin", np.zeros(4, np.int32))
    b.const("all", np.full(4, -1, np.int32))
    b.const("perm", np.array([0, 3, 1, 2], np.int32))
    b.const("low", np.float32(0))
    b.const("high", np.float32(1))
    return np.frombuffer(b.bytes(), np.uint8)


@pytest.mark.parametrize("op", sorted(READ - IN_MODELS))
def test_layers_that_opencv_is_said_to_read_run(op):
    others, attrs = NEEDS.get(op, ([], ""))
    inputs = "".join(f"input: '{name}' " for name in ["x", *others])
    text = (
        "node { name: 'x' op: 'Placeholder' attr { key: 'dtype' value { type: DT_FLOAT } } }\n"
        f"node {{ name: 'y' op: '{op}' {inputs} {attrs} }}\n"
    )
    net = Net(constants(), text, ["y"], "one layer")
    x = np.linspace(0.1, 1, 60, dtype=np.float32).reshape(1, 3, 4, 5)
    (y,) = net.forward({"x": x})
    assert y.size
    assert np.isfinite(y).all()


def test_a_layer_that_it_does_not_list_does_not_run():
    text = "node { name: 'x' op: 'Placeholder' }\nnode { name: 'y' op: 'Maximum' input: 'x' input: 'channel' }"
    graph = parse_text(text, "graph.pbtxt")
    assert [node.op for node in unread(graph)] == ["Maximum"]
    assert "OpenCV is not known to have a layer for Maximum (node 'y')" in support_notes(graph)[0]
    net = Net(constants(), text, ["y"], "one layer")
    with pytest.raises(ModelError, match="Can't create layer"):
        net.forward({"x": np.ones((1, 3, 4, 5), np.float32)})
