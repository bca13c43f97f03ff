"""cvmask.graph.graph_def: loops, branches and calls of TensorFlow 2 become plain nodes."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import Builder, Func

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.layers import Constants
from cvmask.graph.numeric import Numeric


def looping(body, arguments=("i", "data"), op="StatelessWhile", **results):
    """A graph whose node `loop` runs `body` on 0 and the constant `data`."""
    b = Builder()
    b.const("start", 0, np.int32)
    b.const("data", [3.0, 1.0, 2.0], np.float32)
    b.node(op, "loop", "start", "data", "^start", body=b.function("body", arguments, body, **results))
    return b


def value(graph, ref):
    return Numeric(Flow(graph)).value(ref).tolist()


@pytest.mark.parametrize("op", ["While", "StatelessWhile"])
def test_a_loop_gives_what_its_body_gives_once(op):
    body = Builder()
    body.const("one", 1, np.int32)
    body.node("AddV2", "next", "i", "one:output:0")
    body.node("Mul", "square", "data", "data")
    graph = parse_graph(looping(body, op=op, out_i="next:z:0", out="square:z:0").bytes())
    assert value(graph, ("loop", 0)) == 1
    assert value(graph, ("loop", 1)) == [9, 1, 4]
    assert graph["loop/next"].inputs == ["start", "loop/one:0"]


def test_outputs_that_have_names_are_numbered():
    body = Builder()
    body.const("k", 2, np.int32)
    body.node("TopKV2", "best", "data", "k:output:0")
    body.node("Split", "parts", "i", "data", num_split=3)
    graph = parse_graph(looping(body, a="best:indices:0", b="parts:output:2").bytes())
    assert graph["loop"].inputs == ["loop/best:1", "loop/parts:2"]
    assert value(graph, ("loop", 1)) == [2]


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_gives_what_is_taken_constants_too(condition):
    then, other, b = Builder(), Builder(), Builder()
    then.node("Mul", "square", "x", "x")
    then.const("five", 5.0, np.float32)
    other.node("Neg", "minus", "x")
    other.const("six", 6.0, np.float32)
    b.const("condition", condition)
    b.const("x", 3.0, np.float32)
    b.node("If", "branch", "condition", "x",
           then_branch=b.function("then", ["x"], then, a="square:z:0", b="five:output:0"),
           else_branch=b.function("else", ["x"], other, a="minus:y:0", b="six:output:0"))  # fmt: skip
    graph = parse_graph(b.bytes())
    assert [value(graph, ("branch", i)) for i in (0, 1)] == ([9, 5] if condition else [-3, 6])


def test_bodies_nest_and_names_stay_apart():
    """A branch in a loop, twice the same body, and a node of the graph that has the name of an inlined one."""
    then, other, body, b = Builder(), Builder(), Builder(), Builder()
    then.node("Mul", "y", "x", "x")
    other.node("Identity", "y", "x")
    branches = {"then_branch": b.function("then", ["x"], then, out="y:z:0"),
                "else_branch": b.function("else", ["x"], other, out="y:output:0")}  # fmt: skip
    body.const("yes", True)
    body.node("StatelessIf", "if", "yes:output:0", "x", **branches)
    body.node("StatelessIf", "again", "yes:output:0", "if:output:0", **branches)
    b.const("x", 3.0, np.float32)
    b.const("loop/if", 7.0, np.float32)
    b.node("While", "loop", "x", body=b.function("body", ["x"], body, out="again:output:0"))
    graph = parse_graph(b.bytes())
    assert value(graph, ("loop", 0)) == 81
    assert value(graph, ("loop/if", 0)) == 7
    assert len({node.name for node in graph}) == len(graph)


@pytest.mark.parametrize("op", ["PartitionedCall", "StatefulPartitionedCall", "twice"])
def test_a_call_is_replaced_whichever_way_it_is_spelled(op):
    body, b = Builder(), Builder()
    body.node("AddV2", "sum", "x", "x")
    twice = b.function("twice", ["x"], body, out="sum:z:0")
    b.const("x", 3.0, np.float32)
    b.node(op, "call", "x", f=twice)
    assert value(parse_graph(b.bytes()), ("call", 0)) == 6


def test_what_a_tensor_list_holds_is_what_was_written_to_it():
    body = Builder()
    body.const("picture", [[1.0, 2.0]], np.float32)
    body.const("shape", [2], np.int32)
    body.node("TensorListFromTensor", "pictures", "picture:output:0", "shape:output:0")
    body.node("TensorListGetItem", "read", "pictures:output_handle:0", "i", "shape:output:0")
    body.node("Mul", "double", "read:item:0", "read:item:0")
    body.node("TensorListReserve", "empty", "shape:output:0", "i")
    body.node("TensorListSetItem", "written", "empty:handle:0", "i", "double:z:0")
    b = looping(body, out="written:output_handle:0")
    b.node("TensorListStack", "stack", "loop", "start")
    graph = parse_graph(b.bytes())
    assert Flow(graph).origin(("stack", 0)) == ("loop/double", 0)
    assert value(graph, ("loop/read", 0)) == [1, 2]
    assert value(graph, ("stack", 0)) == [[1, 4]]


def test_constants_of_a_body_are_spelled_out_for_opencv():
    body = Builder()
    body.const("inside", [1.0, 2.0], np.float32)
    graph = parse_graph(looping(body, out="inside:output:0").bytes())
    constants = Constants(Flow(graph))
    assert constants.name(("data", 0)) == "data"
    name = constants.name(("loop", 0))
    assert name not in graph
    assert [node.array().tolist() for node in constants.nodes if node.name == name] == [[1, 2]]


def test_functions_without_end_are_refused_at_once():
    """One that calls itself; and a chain, each link of which calls the next one twenty times."""
    body = Builder()
    body.node("While", "inner", "i", "data", body=Func("body"))
    with pytest.raises(ModelError, match="'body' calls too many functions, or itself"):
        parse_graph(looping(body, out="inner:output:0").bytes())
    b = Builder()
    for link in range(15):
        body = Builder()
        for number in range(20):
            body.node("PartitionedCall", f"n{number}", f=Func(f"link{link + 1}"))
        b.function(f"link{link}", [], body)
    b.node("PartitionedCall", "call", f=Func("link0"))
    b.function("link15", [], Builder())
    with pytest.raises(ModelError, match="calls too many functions, or itself; export it again"):
        parse_graph(b.bytes())


def test_long_names_do_not_multiply():
    body, b = Builder(), Builder()
    for number in range(100):
        body.node("NoOp", f"{number}")
    b.node("PartitionedCall", "x" * 5000, f=b.function("many", [], body))
    with pytest.raises(ModelError, match=r"x\.\.\.: a name of 500\d letters"):
        parse_graph(b.bytes())


def test_a_number_of_any_length_is_read():
    body = Builder()
    body.node("NoOp", "nothing")
    assert parse_graph(looping(body, out=f"nothing:y:{'9' * 5000}").bytes())["loop"].inputs == ["loop/nothing:0"]


def test_calls_that_do_not_fit_are_named():
    empty = Builder()
    with pytest.raises(ModelError, match="loop: 'body' takes 1 inputs, got 2"):
        parse_graph(looping(empty, arguments=["i"], out="i").bytes())
    with pytest.raises(ModelError, match="body: no node or argument is named 'nobody'"):
        parse_graph(looping(empty, out="nobody:output:0").bytes())
    b = Builder()
    b.node("If", "branch")
    with pytest.raises(ModelError, match="branch: a If without a condition"):
        parse_graph(b.bytes())
