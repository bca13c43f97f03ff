"""cvmask.graph.text: the text form, read and printed."""

from __future__ import annotations

import contextlib
import time

import numpy as np
import pytest
from graph_builder import OFFICIAL, Builder, Shape, Type, shared
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmask.errors import ModelError
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.text import parse_text, print_text, read_text

SMALL = """
# a comment
node { name: "a" op: 'Const' attr { key: "value" value { tensor { dtype: DT_INT32
    tensor_shape { dim { size: 3 } } int_val: [1, -2] int_val: 3 } } } }
node < name: "b" op: "Prior" "Box" input: "a:0"; input: "^a",
  attr: { key: "step" value: { f: 16 } } attr { key: "flip" value { b: false } }
  attr { key: "strides" value { list { i: 1 i: 2 } } }
  attr { key: "path" value { s: "tab\\tquote\\"\\303\\251" } } >
library { } versions { producer: 27 }
"""


def test_parse_text_reads_every_spelling():
    graph = parse_text(SMALL)
    assert graph["a"].array().tolist() == [1, -2, 3]
    node = graph["b"]
    assert (node.op, node.inputs) == ("PriorBox", ["a:0", "^a"])
    assert (node.get("step", "f"), node.get("flip", "b"), node.ints("strides")) == (16.0, False, (1, 2))
    assert node.get("path", "s") == 'tab\tquote"é'.encode()


def test_print_text_is_a_fixed_point():
    text = print_text(parse_text(SMALL))
    assert print_text(parse_text(text)) == text
    assert text.startswith('node {\n  name: "a"\n  op: "Const"\n  attr {\n    key: "value"\n    value {\n')


def test_print_text_keeps_every_bit_of_a_float():
    values = np.random.default_rng(3).normal(size=200) * 10.0 ** np.linspace(-30, 30, 200)
    b = Builder()
    b.const("x", values.astype(np.float32))
    again = parse_text(print_text(parse_graph(b.bytes())))
    assert np.array_equal(again["x"].array(), values.astype(np.float32))


def test_print_text_of_a_binary_graph_keeps_its_attributes():
    b = Builder()
    b.node("Placeholder", "image", dtype=Type(4), shape=Shape((-1, 3)), text='a"b\\', flag=True, empty=[])
    before = parse_graph(b.bytes())["image"]
    after = parse_text(print_text([before]))["image"]
    assert {k: after.attrs[k] for k in after.attrs} == {k: before.attrs[k] for k in before.attrs}


def test_official_text_graph_survives_printing():
    graph = read_text(shared(*OFFICIAL))
    again = parse_text(print_text(graph))
    assert len(again) == len(graph) == 346
    for before, after in zip(graph, again):
        assert (before.name, before.op, before.inputs) == (after.name, after.op, after.inputs)
        assert before.attrs.keys() == after.attrs.keys()


INTEGER = 'node { name: "a" op: "B" attr { key: "k" value { i: %s } } }'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "without a single node"),
        ("library { }", "without a single node"),
        ("<!DOCTYPE html>\n<html>", "line 1: .*'<'"),
        ("version https://git-lfs.github.com/spec/v1\n", "line 1: expected ':' or '{', got 'https'"),
        ("\n\nmodel { faster_rcnn { } }", "line 3: a graph has no field 'model'"),
        ("item { id: 1 name: 'person' }", "line 1: a graph has no field 'item'"),
        ('node {\n name: "a"\n op: }', "line 3: expected a value, got '}'"),
        ('node { name: "a" op: "B"', "expected a field name or '}', got 'the end of the file'"),
        ('node { name: "a" }', "without a name or an op"),
        ('node { name: 7 op: "B" }', "expected a string in quotes, got '7'"),
        (INTEGER % "1.5", "expected a whole number, got '1.5'"),
        (INTEGER % ("1" + "0" * 9000), "expected a whole number"),
        ('node { name: "a" op: "B" } node { name: "a" op: "B" }', "two nodes are named 'a'"),
        ("node " + "{ a " * 5000, "nested more than 32 deep"),
        ("node { name: \x01 }", "not protobuf's text form"),
        ('node { name: "unclosed }', "not protobuf's text form"),
    ],
)  # fmt: skip
def test_text_that_is_no_graph_is_a_model_error(text, reason):
    with pytest.raises(ModelError, match=reason):
        parse_text(text)


def test_message_names_the_file(tmp_path):
    path = tmp_path / "graph.pbtxt"
    path.write_bytes(b"node { name: \xff }")
    with pytest.raises(ModelError, match=r"^graph\.pbtxt: line 1: "):
        read_text(path)
    with pytest.raises(ModelError, match="needed a file, got a folder"):
        read_text(tmp_path)


WORDS = (
    "node name op attr key value { } < > [ ] : , 1 -2.5e3 inf tensor dim list f i s shape # ' \\ 0x1F true"
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.lists(st.sampled_from(WORDS.split()), max_size=60).map(" ".join)))
def test_random_text_never_raises_anything_else(text):
    with contextlib.suppress(ModelError):
        print_text(parse_text(text))


def test_long_runs_of_one_mark_take_linear_time():
    start = time.perf_counter()
    for piece in (" ", "\\", '"', "- ", "1", "#", "{", "a"):
        with pytest.raises(ModelError):
            parse_text(piece * 100_000)
    assert time.perf_counter() - start < 5
