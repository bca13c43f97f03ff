"""cvmask.graph.graph_def: binary GraphDefs, sound and damaged."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_builder import Builder, Shape, Type, filled, message, number, shape, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmask.errors import ModelError
from cvmask.graph.graph_def import parse_graph, read_graph


def small_graph():
    b = Builder()
    b.node("Placeholder", "image_tensor", dtype=Type(4), shape=Shape((-1, -1, -1, 3)))
    b.const("weights", np.arange(6, dtype=np.float32).reshape(2, 3))
    b.node("Conv2D", "conv", "image_tensor:0", "weights", "^weights", strides=[1, 2, 2, 1], padding="SAME",
           epsilon=0.5, keep=True, rank=-7)  # fmt: skip
    return b.bytes()


def test_parse_graph_gives_names_ops_inputs():
    graph = parse_graph(small_graph())
    assert [(n.name, n.op) for n in graph][2] == ("conv", "Conv2D")
    assert graph["conv"].inputs == ["image_tensor:0", "weights", "^weights"]
    assert graph["conv"].sources() == ["image_tensor", "weights"]


def test_parse_graph_reads_each_kind_of_attribute():
    node = parse_graph(small_graph())["conv"]
    assert node.ints("strides") == (1, 2, 2, 1)
    assert node.text("padding") == "SAME"
    assert (node.get("epsilon", "f"), node.get("keep", "b"), node.get("rank", "i")) == (0.5, True, -7)
    image = parse_graph(small_graph())["image_tensor"]
    assert (image.get("dtype", "type"), image.get("shape", "shape")) == (4, (-1, -1, -1, 3))


def test_constant_is_a_view_of_the_buffer():
    data = np.frombuffer(small_graph(), np.uint8)
    array = parse_graph(data)["weights"].array()
    assert np.array_equal(array, [[0, 1, 2], [3, 4, 5]])
    assert np.shares_memory(array, data)


def test_attribute_of_another_kind_is_named():
    with pytest.raises(ModelError, match="attribute padding is of kind 's', needed 'i'"):
        parse_graph(small_graph())["conv"].get("padding", "i")


def const_graph(tensor):
    value = message(5, message(1, "value") + message(2, message(8, tensor)))
    return parse_graph(message(1, message(1, "c") + message(2, "Const") + value))["c"]


def test_constant_with_one_value_fills_its_shape():
    tensor = number(1, 1) + message(2, shape((2, 2))) + varint(5 << 3 | 5) + np.float32(3).tobytes()
    assert const_graph(tensor).array().tolist() == [[3, 3], [3, 3]]


def test_constant_repeats_its_last_value():
    tensor = number(1, 3) + message(2, shape((4,))) + message(7, varint(5) + varint(-1))
    assert const_graph(tensor).array().tolist() == [5, -1, -1, -1]


def test_constant_of_halves_is_read_by_its_bits():
    tensor = number(1, 19) + message(2, shape((2,))) + message(13, varint(0x3C00) + varint(0xC000))
    assert const_graph(tensor).array().tolist() == [1.0, -2.0]


@pytest.mark.parametrize("dims", [(1 << 40, 1 << 20), (-5,), (1 << 62, 8), (7,)])
def test_constant_that_does_not_fit_its_shape_allocates_nothing(dims):
    values = message(7, varint(5) + varint(6) * 9)
    with pytest.raises(ModelError, match="c: a "):
        const_graph(number(1, 3) + message(2, shape(dims)) + values).array()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "without a single node"),
        (b"<!DOCTYPE html>\n", "wire type 4 at byte 0"),
        (b"version https://git-lfs.github.com/spec/v1\n", "wire type 6"),
        (b"\x89HDF\r\n\x1a\n", "no field|wire type|truncated|number"),
        (b"\x0a\x7fabc", "truncated: the field at byte 0 needs 127 bytes, 3 are left"),
        (b"\x0a" + b"\xff" * 11, "more than ten bytes"),
        (b"\x0a\xff", "end within a number"),
        (message(1, message(1, "a")), "no name or no op"),
        (message(1, message(1, b"\xff\xfe") + message(2, "Const")), "not UTF-8"),
        (message(1, message(1, "a") + message(2, "Const")) * 2, "two nodes are named 'a'"),
        (b"\x00\x00\x00\x00", "field number 0"),
    ],
)  # fmt: skip
def test_bytes_that_are_no_graph_are_a_model_error(data, reason):
    with pytest.raises(ModelError, match=reason):
        parse_graph(data)


def test_read_graph_names_the_file_and_the_reason(tmp_path):
    with pytest.raises(ModelError, match=r"none\.pb: cannot be read: No such file"):
        read_graph(tmp_path / "none.pb")
    (tmp_path / "empty.pb").write_bytes(b"")
    with pytest.raises(ModelError, match=r"empty\.pb: the file is empty"):
        read_graph(tmp_path / "empty.pb")


def touch_everything(data):
    try:
        graph = parse_graph(data)
    except ModelError:
        return
    for node in graph:
        try:
            for key in node.attrs:
                _ = node.attrs[key]
            node.array()
        except ModelError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_never_raise_anything_else(data):
    touch_everything(data)


def test_mutated_graphs_never_raise_anything_else():
    rng, seed = random.Random(7), small_graph()
    for _ in range(3000):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        touch_everything(bytes(data[: rng.randint(1, len(data))] if rng.random() < 0.3 else data))


def test_large_graph_is_read_fast_and_in_place():
    """A 144 MB export in a fresh process: under 1.3 times its size in memory, under 2 seconds of processor time."""
    path = filled("mask_rcnn_resnet50_atrous")
    code = (
        "import resource, sys, time; from cvmask.graph.graph_def import read_graph; t = time.process_time();"
        "base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; graph = read_graph(sys.argv[1]);"
        "spent = time.process_time() - t;"
        "print(len(graph), spent, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    nodes, seconds, grown = map(float, run.stdout.split())
    assert nodes == 8164
    assert seconds < 2
    assert grown < 1.3 * path.stat().st_size


def test_fuzz_script_finds_nothing_in_a_short_run():
    script = Path(__file__).parents[2] / "scripts" / "dev" / "fuzz_wire.py"
    run = subprocess.run([sys.executable, script, "1500"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_a_list_that_mixes_kinds_keeps_those_of_the_last_one():
    """Found by scripts/run fuzz_wire: input 189504 of seed 1."""
    from cvmask.graph.protobuf import decode_attr

    mixed = bytes([0x0A, 6, 0x18, 1, 0x18, 2, 0x42, 0])  # i: 1, i: 2, and an empty tensor
    attr = decode_attr(memoryview(mixed))
    assert attr.value.kind == "tensor"
    assert len(attr.value.value) == 1
    only = decode_attr(memoryview(bytes([0x0A, 4, 0x18, 1, 0x18, 2])))
    assert (only.value.kind, only.value.value) == ("i", (1, 2))
