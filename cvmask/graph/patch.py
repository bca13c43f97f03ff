"""Small changes to a text graph, made in memory before it is loaded."""

from __future__ import annotations

from cvmask.errors import ModelError
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.split import final_detections, first_detections
from cvmask.graph.tensors import Attr

MAX_PROPOSALS = 1000  # ten times what exports have; far more end in sizes that OpenCV cannot count


def set_score_floor(graph: Graph, floor: float) -> Graph:
    """A graph whose final detections are those with a score above `floor`, in 0..1."""
    if not 0 <= floor <= 1:
        raise ModelError(f"score threshold: needed 0 to 1, got {floor}")
    return _with_attr(graph, final_detections(graph), "confidence_threshold", Attr("f", float(floor)))


def score_floor(graph: Graph) -> float:
    """The score, in 0..1, that the final detections have to exceed."""
    return float(final_detections(graph).get("confidence_threshold", "f", 0.0))


def set_proposals(graph: Graph, count: int) -> Graph:
    """A graph whose first stage hands on `count` proposals: faster, and no longer the same results."""
    if count > MAX_PROPOSALS:
        raise ModelError(f"proposals: needed {MAX_PROPOSALS} or fewer, got {count}")
    return _with_count(graph, first_detections(graph), count, "proposals")


def max_detections(graph: Graph) -> int:
    """How many rows of final detections it gives at most."""
    return int(final_detections(graph).get("keep_top_k", "i", -1))


def set_max_detections(graph: Graph, count: int) -> Graph:
    """A graph that gives `count` rows of final detections at most, and no more than there can be.

    A proposal is an object of each class at most, and OpenCV makes room for all rows.
    """
    final = final_detections(graph)
    possible = int(first_detections(graph).get("keep_top_k", "i", 0)) * int(final.get("num_classes", "i", 0))
    return _with_count(graph, final, min(count, possible) if possible > 0 else count, "detections")


def _with_count(graph: Graph, node: Node, count: int, what: str) -> Graph:
    if count < 1:
        raise ModelError(f"{what}: needed 1 or more, got {count}")
    return _with_attr(graph, node, "keep_top_k", Attr("i", int(count)))


def _with_attr(graph: Graph, node: Node, key: str, attr: Attr) -> Graph:
    changed = Node(node.name, node.op, node.inputs, {**node.attrs, key: attr})
    return Graph((changed if other is node else other for other in graph), graph.origin)
