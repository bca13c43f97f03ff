"""cvmask.graph.convert: the box codes are scaled in fewer, longer rows, and the products are the same."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import OFFICIAL, shared

from cvmask.errors import ModelError
from cvmask.graph.convert import scale_by_proposal
from cvmask.graph.nodes import Graph
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.runtime.net import Net

CODES = """
node { name: "first" op: "DetectionOutput" input: "x" }
node { name: "shape" op: "Const" attr { key: "value" value { tensor { dtype: DT_INT32
       tensor_shape { dim { size: 3 } } int_val: 1 int_val: -1 int_val: 4 } } } }
node { name: "scales" op: "Const" attr { key: "value" value { tensor { dtype: DT_FLOAT
       tensor_shape { dim { size: 4 } } float_val: 0.1 float_val: 0.1 float_val: 0.2 float_val: 0.2 } } } }
node { name: "codes" op: "Reshape" input: "x" input: "shape" }
node { name: "scaled" op: "Mul" input: "codes" input: "scales" attr { key: "axis" value { i: 2 } } }
node { name: "flat" op: "Flatten" input: "scaled" }
node { name: "last" op: "DetectionOutput" input: "flat" input: "first"
       attr { key: "num_classes" value { i: 3 } } attr { key: "share_location" value { b: false } } }
"""
INPUT = 'node { name: "x" op: "Placeholder" }'


def test_the_codes_of_all_classes_are_scaled_at_once() -> None:
    graph = scale_by_proposal(parse_text(CODES))
    shape, scales = (graph[graph[name].inputs[1]] for name in ("codes", "scaled"))
    assert shape.array().tolist() == [1, -1, 12]
    assert np.array_equal(scales.array(), np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), 3))
    assert graph["scaled"].get("axis", "i") == 2
    again = scale_by_proposal(graph)
    assert again is graph


def test_the_products_are_the_same_bits() -> None:
    codes = np.random.default_rng(0).normal(size=(100, 12)).astype(np.float32)
    plain = parse_text(INPUT + CODES)
    one, other = (scaled(graph, codes) for graph in (plain, scale_by_proposal(plain)))
    assert np.array_equal(one, other)
    assert np.allclose(one.reshape(-1, 4), codes.reshape(-1, 4) * [0.1, 0.1, 0.2, 0.2])


def scaled(graph: Graph, codes: np.ndarray) -> np.ndarray:
    """What OpenCV makes of codes of shape (proposals, classes * 4): (1, proposals * classes * 4)."""
    wanted = graph.ancestors(["flat"])
    text = print_text(Graph(node for node in graph if node.name in wanted))
    return Net(np.frombuffer(b"\n\0", np.uint8), text, ["flat"], "codes").forward({"x": codes})[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('op: "Flatten"', 'op: "Identity"'),
        ('op: "Mul"', 'op: "Add"'),
        ('op: "Reshape"', 'op: "Identity"'),
        ("int_val: 4", "int_val: 2"),
        ('name: "scales"', 'name: "in_the_pb"'),
        ("b: false", "b: true"),
        ("i: 3", "i: 1"),
        ("dim { size: 4 }", "dim { size: 1 }"),
        ('name: "first"', 'name: "reads_codes" op: "Identity" input: "codes" } node { name: "first"'),
    ],
)
def test_any_other_graph_stays_as_it_is(old: str, new: str) -> None:
    graph = parse_text(CODES.replace(old, new))
    assert scale_by_proposal(graph) is graph


def test_one_stage_is_refused() -> None:
    with pytest.raises(ModelError, match="not a Mask R-CNN"):
        scale_by_proposal(parse_text(INPUT))


def test_the_official_graph_is_changed() -> None:
    graph = scale_by_proposal(read_text(shared(*OFFICIAL)))
    assert graph[graph["variance_encoded"].inputs[1]].array().shape == (360,)
