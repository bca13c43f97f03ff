"""Files that ask for more time or memory than their size: each attack once took minutes."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace

import numpy as np
import pytest
from graph_builder import message, number, shape, tensor

from cvmask.errors import ModelError
from cvmask.graph.anatomy import _stage
from cvmask.graph.check import inspect
from cvmask.graph.describe import _score_filter, _total
from cvmask.graph.flow import Flow
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.layers import Constants, _four
from cvmask.graph.model_files import ModelFiles
from cvmask.graph.nodes import Attr, Graph, Node
from cvmask.graph.numeric import Numeric, constant
from cvmask.graph.probe import check_colours, check_padding, resizer_of
from cvmask.graph.split import split
from cvmask.graph.text import parse_text, print_text
from cvmask.system import folders

LIMIT_S = 15  # far above what any of these takes, far below what they took


def node(name, op, *inputs, attrs=b""):
    return message(1, message(1, name) + message(2, op) + b"".join(message(3, text) for text in inputs) + attrs)


def value(array):
    return message(5, message(1, "value") + message(2, message(8, tensor(array))))


def ring(count, op="Identity"):
    return b"".join(node(f"n{i}", op, f"n{(i + 1) % count}") for i in range(count))


def twins(count):
    """Each node reads the next one twice: 2 ** count ways."""
    rest = b"".join(node(f"n{i}", "Minimum", f"n{i + 1}", f"n{i + 1}") for i in range(count))
    return rest + node(f"n{count}", "Placeholder")


def many_crops(count):
    crops = [node(f"c{i}", "CropAndResize", "x", f"c{i - 1}" if i else "x") for i in range(count)]
    ends = node("detection_masks", "Identity", f"c{count - 1}") + node("detection_boxes", "Identity", "x")
    return node("x", "Placeholder") + b"".join(crops) + ends


def relays(count):
    """A long relay that very many nodes read."""
    chain = [node(f"r{i}", "Identity", f"r{i + 1}" if i < 900 else "x") for i in range(901)]
    return node("x", "Placeholder") + b"".join(chain) + node("detection_masks", "AddN", *["r0"] * count)


def strides(count):
    numbers = message(1, b"".join(number(3, i % 100) for i in range(count)))
    attr = message(5, message(1, "strides") + message(2, numbers))
    return node("x", "Placeholder") + node("c", "Conv2D", "x", attrs=attr)


ATTACKS = {
    "ring": lambda: ring(5000),
    "long ring": lambda: ring(40_000),
    "same name": lambda: node("n", "Const") * 40_000 + node("m", "Const") * 2,
    "names, one twice": lambda: ring(40_000) + node("n39999", "Const"),
    "twins": lambda: twins(250),
    "crops": lambda: many_crops(8000),
    "relays": lambda: relays(100_000),
    "strides": lambda: strides(200_000),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_small_file_is_refused_at_once(tmp_path, name):
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(ATTACKS[name]())
    started = time.perf_counter()
    report = inspect(ModelFiles(path))
    assert time.perf_counter() - started < LIMIT_S
    assert len(report.problems) == 1
    assert "\n" not in report.problems[0]


def test_text_graph_of_many_stages_is_refused_at_once():
    nodes = [Node("x", "Placeholder")]
    nodes += [Node(f"d{i}", "DetectionOutput", [f"d{i - 1}" if i else "x"]) for i in range(8000)]
    started = time.perf_counter()
    with pytest.raises(ModelError, match="8000 DetectionOutput nodes, needed 16 or fewer"):
        split(Graph(nodes))
    assert time.perf_counter() - started < LIMIT_S


def test_origin_of_a_relay_is_found_once_for_all_its_readers():
    flow = Flow(parse_graph(relays(100_000)))
    started = time.perf_counter()
    assert set(flow.inputs(flow.graph["detection_masks"])) == {("x", 0)}
    assert time.perf_counter() - started < LIMIT_S


def test_long_list_is_read_in_a_time_that_grows_as_its_length():
    started = time.perf_counter()
    node = parse_graph(strides(400_000))["c"]
    assert len(node.ints("strides")) == 400_000
    assert time.perf_counter() - started < LIMIT_S
    with pytest.raises(ModelError, match="c: strides must be 4 numbers of 1 or more, got 400000"):
        _four(node, "strides")


@pytest.mark.parametrize("numbers", [(), (1, 1, 1), (1, 0, 1, 1), (1, -2, 2, 1)])
def test_strides_that_are_no_strides_are_refused(numbers):
    with pytest.raises(ModelError, match="p: strides must be 4 numbers"):
        _four(Node("p", "MaxPool", [], {"strides": Attr("list", Attr("i", numbers))}), "strides")


def test_limits_that_read_each_other_twice_are_looked_at_once():
    from cvmask.graph.describe import _limit

    flow = Flow(parse_graph(twins(200)))
    started = time.perf_counter()
    assert _limit(flow, ("n0", 0)) is None
    assert time.perf_counter() - started < LIMIT_S


def chain(count, op, first, letter, *others):
    """Nodes that each read the one before, and these others."""
    return b"".join(node(f"{letter}{i}", op, f"{letter}{i - 1}" if i else first, *others) for i in range(count))


def score_filters(count):
    """A stage whose scores pass through many layouts, each of which is compared with a number."""
    graph = node("x", "Placeholder") + node("s", "Softmax", "x") + constants(floor=0.25)
    graph += chain(count, "Reshape", "s", "l")
    graph += b"".join(node(f"g{i}", "Greater", f"l{i}", "floor") for i in range(count))
    graph += node("nms", "NonMaxSuppressionV3", *[f"g{i}" for i in range(count)])
    flow = Flow(parse_graph(graph))
    stage = SimpleNamespace(scores=flow.graph["s"], suppressions=(flow.graph["nms"],))
    assert _score_filter(flow, stage) == 0.25


def decoders(count):
    """Exponentials of everything that is scaled again and again."""
    graph = node("x", "Placeholder") + constants(two=2.0) + node("nms", "NonMaxSuppressionV3", "x")
    graph += chain(count, "Mul", "x", "m", "two")
    graph += b"".join(node(f"e{i}", "Exp", f"m{i}") for i in range(count))
    flow = Flow(parse_graph(graph))
    with pytest.raises(ModelError, match="needed one box decoder in the first stage, found 0 Exp"):
        _stage(flow, None, {node.name for node in flow.graph})


def paddings(count):
    """Pictures that are padded by nothing, resized and convolved very many times."""
    graph = node("x", "Placeholder")
    graph += constants(none=[[0, 0]] * 4, kernel=np.zeros((1, 1, 3, 3)), size=[9, 9])
    graph += chain(count, "Pad", "x", "p", "none")
    graph += chain(9, "ResizeBilinear", f"p{count - 1}", "r", "size") + chain(count, "Conv2D", "r8", "c", "kernel")
    flow = Flow(parse_graph(graph))
    parts = SimpleNamespace(flow=flow, graph=flow.graph, features=(f"c{count - 1}", 0), image=flow.graph["x"])
    check_padding(parts)
    check_colours(parts)
    assert resizer_of(parts).fixed_wh == (9, 9)


def totals(count):
    """Limits of limits, each of which is a limit of all boxes."""
    graph = node("nms", "NonMaxSuppressionV3") + node("x", "Placeholder") + constants(most=300)
    graph += node("m", "Minimum", "nms", "most") + chain(count, "Minimum", "m", "m", "x")
    graph += node("crop", "CropAndResize", f"m{count - 1}")
    flow = Flow(parse_graph(graph))
    stage = SimpleNamespace(crop=flow.graph["crop"], suppressions=(flow.graph["nms"],))
    assert _total(SimpleNamespace(flow=flow, first=stage, second=stage), stage) == 300


def names(count):
    """A name whose every number is taken, asked for again and again."""
    maker = Constants(Flow(parse_graph(b"".join(node(f"n{i or ''}", "Const") for i in range(count)))))
    given = {maker.unique("n") for _ in range(count)}
    assert len(given) == count
    assert f"n{count}" in given


@pytest.mark.parametrize("build", [score_filters, decoders, paddings, totals, names])
def test_a_graph_of_a_megabyte_is_read_in_a_time_that_grows_as_its_size(build):
    started = time.perf_counter()
    build(12_000)
    assert time.perf_counter() - started < LIMIT_S


def test_branches_that_are_not_taken_are_tried_once():
    never = node("no", "Const", attrs=value(False)) + node("one", "Const", attrs=value(1.0))
    never += node("n60", "Switch", "one", "no")
    merges = b"".join(node(f"n{i}", "Merge", f"n{i + 1}:1", f"n{i + 1}:1") for i in range(60))
    flow = Flow(parse_graph(never + merges))
    started = time.perf_counter()
    assert constant(flow, ("n0", 0)) is None
    assert time.perf_counter() - started < LIMIT_S


def constants(**arrays):
    return b"".join(node(name, "Const", attrs=value(array)) for name, array in arrays.items())


@pytest.mark.parametrize(
    "graph",
    [
        constants(one=[1.0], reps=[1 << 30]) + node("y", "Tile", "one", "reps"),
        constants(one=[1.0], pads=[[1 << 30, 0]]) + node("y", "Pad", "one", "pads"),
        constants(one=1.0, tall=[1 << 15, 1], wide=[1, 1 << 15]) + node("a", "Fill", "tall", "one")
        + node("b", "Fill", "wide", "one") + node("y", "Add", "a", "b"),
        constants(one=1.0, many=[1 << 24]) + node("e0", "Fill", "many", "one")
        + b"".join(node(f"e{i + 1}", "Exp", f"e{i}") for i in range(99)) + node("y", "Exp", "e99"),
        constants(one=1.0, axis=0, many=[1 << 24]) + node("a", "Fill", "many", "one")
        + node("y", "ConcatV2", *["a"] * 500, "axis"),
        constants(one=1.0, rows=[1, 1 << 24], many=[1 << 20], zero=0) + node("a", "Fill", "rows", "one")
        + node("b", "Fill", "many", "zero") + node("y", "Gather", "a", "b"),
    ],
    ids=["tile", "pad", "broadcast", "chain", "concat", "gather"],
)  # fmt: skip
def test_value_of_very_many_elements_is_refused_before_it_is_made(graph):
    flow = Flow(parse_graph(graph))
    with pytest.raises(ModelError, match="takes more than 134217728 elements"):
        Numeric(flow).value(("y", 0))


def test_time_for_each_byte_stays_the_same_whatever_the_bytes(tmp_path):
    """A megabyte of well-formed pieces put together at random: told from crashes by the clock."""
    rng = random.Random(28)
    path = tmp_path / "frozen_inference_graph.pb"
    names = ["detection_masks", "detection_boxes", *(f"n{i}" for i in range(300))]
    ops = ["Identity", "Minimum", "CropAndResize", "AddN", "Merge", "Switch", "ConcatV2", "Exp", "Const", "IdentityN"]
    for _ in range(6):
        pieces, total = [], 0
        while total < 250_000:
            name = names.pop(0) if rng.random() < 0.002 and len(names) > 250 else f"m{len(pieces)}"
            reads = [rng.choice(names) if rng.random() < 0.2 else f"m{rng.randrange(max(len(pieces), 1))}"
                     for _ in range(rng.choice((0, 1, 2, 2, 3, 40)))]  # fmt: skip
            attrs = message(5, message(1, "shape") + message(2, message(7, shape((1,) * rng.randrange(20)))))
            pieces.append(node(name, rng.choice(ops), *reads, attrs=attrs if rng.random() < 0.3 else b""))
            total += len(pieces[-1])
        path.write_bytes(b"".join(pieces))
        started = time.perf_counter()
        report = inspect(ModelFiles(path))
        assert report.problems
        assert time.perf_counter() - started < LIMIT_S


@pytest.mark.parametrize("seed", range(4))
def test_damaged_model_is_refused_or_read_in_a_bounded_time(tmp_path, seed):
    """The real graph with nodes rewired: it goes further into the reader than noise does."""
    graph = folders.path("models/shapes") / "graph.pbtxt"
    nodes = parse_text(graph.read_text(), "graph").nodes
    rng = random.Random(seed)
    for _ in range(20):
        victim = rng.choice([n for n in nodes if n.inputs])
        victim.inputs[rng.randrange(len(victim.inputs))] = rng.choice(nodes).name
    text = tmp_path / "graph.pbtxt"
    text.write_text(print_text(nodes))
    started = time.perf_counter()
    inspect(ModelFiles(folders.path("models/shapes") / "frozen_inference_graph.pb", text))
    assert time.perf_counter() - started < LIMIT_S
