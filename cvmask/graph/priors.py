"""Anchors that OpenCL can clip without harm.

OpenCV's OpenCL kernel for a PriorBox with `clip` starts four times the work items that it needs (since
July 2018, up to 5.0 at least) and so writes far past its buffer: wrong results on a GPU, a crash
where the buffer is in the process's own memory. The anchors are the same when other layers clip them.
"""

from __future__ import annotations

from collections.abc import Iterator

from cvmask.graph.nodes import Graph, Node
from cvmask.graph.tensors import FLOAT, Attr, Tensor


def clip_apart(graph: Graph) -> Graph:
    """A text graph whose PriorBox nodes do not clip; nodes after them do, to 0..1.

    The result differs from the original's in the last bits: for targets that are not exact anyway.
    """
    clipping = {node.name for node in graph if node.op == "PriorBox" and node.get("clip", "b", False)}
    if not clipping:
        return graph
    return Graph((new for node in graph for new in _replaced(node, clipping)), graph.origin)


def _replaced(node: Node, clipping: set[str]) -> Iterator[Node]:
    inputs = [f"{name}/clipped" if name in clipping else name for name in node.inputs]
    if node.name not in clipping:
        yield Node(node.name, node.op, inputs, node.attrs)
        return
    name = node.name
    yield Node(name, node.op, inputs, {**node.attrs, "clip": Attr("b", False)})
    # min(max(x, 0), 1), with the one clipping layer that every OpenCV reads: ReLU6 of 6 x.
    yield _constant(f"{name}/six", 6.0)
    yield _constant(f"{name}/sixth", 1 / 6)
    yield Node(f"{name}/six_times", "Mul", [name, f"{name}/six"])
    yield Node(f"{name}/relu6", "Relu6", [f"{name}/six_times"])
    yield Node(f"{name}/clipped", "Mul", [f"{name}/relu6", f"{name}/sixth"])


def _constant(name: str, value: float) -> Node:
    tensor = Tensor(FLOAT, (), values=(value,))
    return Node(name, "Const", [], {"dtype": Attr("type", FLOAT), "value": Attr("tensor", tensor)})
