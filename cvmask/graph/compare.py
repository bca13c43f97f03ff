"""Compares the text graph that came with a model with its frozen graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.facts import Anchors, GraphFacts, Suppression
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.split import final_detections, first_detections

Numbers = tuple[float, ...]
_ENOUGH = 6000  # candidates of a suppression: OpenCV's own scripts write this where TensorFlow has no limit
_TOLERANCE = 1e-3  # relative: text graphs are printed with few digits
_LAYER_ATTRS = ("strides", "ksize", "dilations", "padding", "epsilon", "align_corners", "half_pixel_centers")
_SAID_AT_MOST = 4
_ANCHOR_WIDTHS, _ANCHOR_HEIGHTS, _STEP = "anchor widths", "anchor heights", "step"
_OFFSET, _ANCHOR_CLIP, _VARIANCE = "offset", "clipping of anchors", "variance of the {} stage"
_FLOOR, _IOU = "score floor of the {} stage", "IoU threshold of the {} stage"
_COUNT, _CLIP = "number of rows of the {} stage", "clipping in the {} stage"


def contradictions(given: Graph, made: Graph, frozen: Graph, facts: GraphFacts | None = None) -> list[str]:
    """Return the differences between a given text graph and the one made from the frozen graph, one phrase each.

    Compared are anchors, offsets, steps, both suppressions, counts, variances, score floors, crop sizes, and the
    strides, kernels and paddings of the layers that both have. With the `facts` of the frozen graph, a number of rows
    equal to its limit for all classes is accepted too, even if its limit for one class is lower.

    Raises
    ------
    ModelError
        If one of the two does not have two stages.
    """
    theirs, ours = _stated(given, frozen), _stated(made, frozen)
    rows = _COUNT.format("second")
    if facts is not None and theirs[rows] == (facts.second_stage.max_total,):
        theirs[rows] = ours[rows]
    found = [
        f"{name} is {_text(theirs[name])}, not {_text(value)}"
        for name, value in ours.items()
        if name in theirs and not _same(theirs[name], value)
    ]
    return found + list(_layer_contradictions(given, made))


def contradiction_note(given: Graph, found: list[str], kept: bool) -> str:
    """Return one line for the user: the differences, and which of the two graphs runs."""
    rest = len(found) - _SAID_AT_MOST
    said = "; ".join(found[:_SAID_AT_MOST]) + (f"; and {rest} more" if rest > 0 else "")
    used = "it runs as it is, as asked", "the frozen graph's values are used (--keep-graph keeps this file's)"
    return f"{given.origin} contradicts the frozen graph: {said}; {used[not kept]}"


def facts_as_run(facts: GraphFacts, text: Graph, frozen: Graph) -> GraphFacts:
    """Return the facts of a frozen graph, with the numbers that a given text graph replaces."""
    said = _stated(text, frozen)
    if _STEP not in said:
        anchors = facts.anchors
    else:
        stride = said[_STEP][0], said[_STEP][-1]
        anchors = Anchors(
            said[_ANCHOR_HEIGHTS],
            said[_ANCHOR_WIDTHS],
            stride,
            (said[_OFFSET][0] * stride[0], said[_OFFSET][-1] * stride[1]),
            bool(said[_ANCHOR_CLIP][0]),
        )
    return replace(
        facts,
        anchors=anchors,
        first_stage=_suppression(facts.first_stage, said, "first"),
        second_stage=_suppression(facts.second_stage, said, "second"),
    )


def _suppression(rule: Suppression, said: dict[str, Numbers], stage: str) -> Suppression:
    return replace(
        rule,
        score_threshold=said[_FLOOR.format(stage)][0],
        iou_threshold=said[_IOU.format(stage)][0],
        max_total=int(said[_COUNT.format(stage)][0]),
    )


def _stated(graph: Graph, frozen: Graph) -> dict[str, Numbers]:
    """Return the numbers in OpenCV's own layers (PriorBox, DetectionOutput, crops) by their names."""
    first, final = first_detections(graph), final_detections(graph)
    said: dict[str, Numbers] = {}
    before = graph.ancestors([first.name])
    priors = [node for node in graph if node.op == "PriorBox" and node.name in before]
    if priors:  # two where the axes differ: the first one for y, the other one for x
        said[_ANCHOR_WIDTHS] = _of_all(_array(node, "width") for node in priors)
        said[_ANCHOR_HEIGHTS] = _of_all(_array(node, "height") for node in priors)
        said[_STEP] = _of_all((node.get("step", "f", 0.0),) for node in priors)
        said[_OFFSET] = _of_all((node.get("offset", "f", 0.0),) for node in priors)
        said[_ANCHOR_CLIP] = _of_all((float(node.get("clip", "b", False)),) for node in priors)
        said[_VARIANCE.format("first")] = _of_all(_array(node, "variance") for node in priors)
    said[_VARIANCE.format("second")] = _second_variance(graph, frozen, final)
    for stage, node in (("first", first), ("second", final)):
        candidates = node.get("top_k", "i", -1)
        said[_FLOOR.format(stage)] = (max(0.0, node.get("confidence_threshold", "f", 0.0)),)
        said[_IOU.format(stage)] = (node.get("nms_threshold", "f", 0.0),)
        said[_COUNT.format(stage)] = (float(node.get("keep_top_k", "i", -1)),)
        said[_CLIP.format(stage)] = (float(node.get("clip", "b", False)),)
        said[f"top_k of the {stage} stage"] = (-1.0 if candidates >= _ENOUGH else float(candidates),)
        said[f"share_location of the {stage} stage"] = (float(node.get("share_location", "b", True)),)
        said[f"background_label_id of the {stage} stage"] = (float(node.get("background_label_id", "i", 0)),)
    for crop in graph:
        if crop.op == "CropAndResize" and len(crop.sources()) > 2:
            said[f"crop size of {crop.name}"] = _constant(graph, frozen, crop.sources()[-1])
    return said


def _of_all(numbers: Iterable[Numbers]) -> Numbers:
    """Return the numbers that all of these have in common, or all of them in a row if they differ."""
    found = list(numbers)
    return found[0] if all(_same(found[0], other) for other in found) else tuple(itertools.chain(*found))


def _before(graph: Graph, node: Node) -> Iterator[Node]:
    """Return this node and its inputs."""
    return (graph[name] for name in node.sources() if name in graph)


def _array(node: Node, key: str) -> Numbers:
    tensor = node.get(key, "tensor")
    return () if tensor is None else tuple(float(value) for value in tensor.array().ravel())


def _second_variance(graph: Graph, frozen: Graph, final: Node) -> Numbers:
    """Return the factors of the box codes before the final detections, empty if they cannot be found."""
    if not final.get("variance_encoded_in_target", "b", False):
        return ()
    node: Node | None = final
    while node is not None:
        node = next(_before(graph, node), None)
        if node is not None and node.op == "Mul" and len(node.sources()) > 1:
            return _constant(graph, frozen, node.sources()[1])
        if node is None or node.op not in ("Flatten", "Reshape"):
            break
    return (1.0,) * 4


def _constant(graph: Graph, frozen: Graph, name: str) -> Numbers:
    try:
        return tuple(float(value) for value in (graph if name in graph else frozen)[name].array().ravel())
    except (KeyError, ModelError):  # of another model, which is said elsewhere
        return ()


def _layer_contradictions(given: Graph, made: Graph) -> Iterator[str]:
    for node in given:
        if node.name not in made or made[node.name].op != node.op:
            continue
        for key in _LAYER_ATTRS:
            theirs, ours = node.attrs.get(key), made[node.name].attrs.get(key)
            if theirs is None or ours is None:
                continue
            if theirs.kind != ours.kind or not _same_values(theirs.value, ours.value):
                yield f"{key} of {node.name} is {_plain(theirs.value)}, not {_plain(ours.value)}"


def _same_values(theirs: object, ours: object) -> bool:
    if isinstance(theirs, float) and isinstance(ours, float):
        return _same((theirs,), (ours,))
    return theirs == ours


def _plain(value: object) -> str:
    inner = getattr(value, "value", value)  # of a list
    if isinstance(inner, bytes):
        return inner.decode("ascii", "replace")
    return str(list(inner) if isinstance(inner, tuple) else inner)


def _same(theirs: Numbers, ours: Numbers) -> bool:
    return len(theirs) == len(ours) and bool(np.allclose(theirs, ours, rtol=_TOLERANCE, atol=1e-6))


def _text(values: Numbers) -> str:
    return ", ".join(f"{value:g}" for value in values) or "not given"
