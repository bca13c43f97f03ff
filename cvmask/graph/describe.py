"""Reads the facts of a Mask R-CNN from its frozen graph."""

from __future__ import annotations

from collections.abc import Iterable

from cvmask.errors import ModelError
from cvmask.graph.anatomy import OUTPUTS, Anatomy, Stage, back, dissect, output_name
from cvmask.graph.facts import GraphFacts, Suppression
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.nodes import Graph, Node, RefusedError, understood
from cvmask.graph.numeric import Numeric, Spatial, channels, constant, factor
from cvmask.graph.probe import anchors_of, check_colours, check_padding, resizer_of

_BACKBONES = {
    "InceptionResnetV2": "Inception-ResNet v2",
    "InceptionV2": "Inception v2",
    "resnet_v1_50": "ResNet-50",
    "resnet_v1_101": "ResNet-101",
    "resnet_v1_152": "ResNet-152",
    "MobilenetV1": "MobileNet v1",
    "MobilenetV2": "MobileNet v2",
}
_NO_LIMIT = 1 << 30


def read_facts(graph: Graph) -> GraphFacts:
    """Read the facts of a frozen Mask R-CNN graph.

    Raises
    ------
    ModelError
        If it is something else, or a number cannot be found; the message names it.
    """
    with understood(graph.origin):
        return facts_of(dissect(graph))


def facts_of(parts: Anatomy) -> GraphFacts:
    """Read the facts of a dissected graph."""
    graph, flow = parts.graph, parts.flow
    check_padding(parts)
    check_colours(parts)
    spatial = Spatial(flow)
    classes = channels(flow, parts.second.classes) - int(has_background(flow, parts.second))
    return GraphFacts(
        backbone=_backbone(graph, parts),
        image=parts.image.name,
        classes=classes,
        mask_size=spatial.size(parts.masks),
        class_agnostic_masks=channels(flow, parts.masks) == 1 and classes > 1,
        crop_size=spatial.size((parts.mask_crop.name, 0)),
        resizer=resizer_of(parts),
        anchors=anchors_of(parts),
        first_stage=_suppression(parts, parts.first),
        second_stage=_suppression(parts, parts.second),
        first_scales=_scales(flow, parts.first),
        second_scales=_scales(flow, parts.second),
        features=parts.features[0],
        outputs=tuple(name for name in OUTPUTS if output_name(graph, name) in graph),
    )


def has_background(flow: Flow, stage: Stage) -> bool:
    """Return True if the first class prediction is the background.

    With softmax it always is. With sigmoid most releases predict it too, and then drop it with a slice.
    """
    if stage.scores.op == "Softmax":
        return True
    between = flow.descendants([stage.scores.name])
    between &= flow.graph.ancestors([node.name for node in stage.suppressions])
    numeric = Numeric(flow)
    return any(_cuts_off_first(flow, numeric, flow.graph[name]) for name in between)


def _cuts_off_first(flow: Flow, numeric: Numeric, node: Node) -> bool:
    """Return True if a slice drops the first element of the last axis, and keeps more than the second."""
    if node.op not in ("Slice", "StridedSlice"):
        return False
    try:
        begin, end = numeric.flat(flow.inputs(node)[1:3])
    except ModelError:
        return False
    if not begin.size or begin[-1] != 1:
        return False
    if node.op == "Slice":
        return bool(end[-1] < 0 or end[-1] > 1)
    last = begin.size - 1
    return not node.get("shrink_axis_mask", "i", 0) >> last & 1 and bool(
        node.get("end_mask", "i", 0) >> last & 1 or end[-1] > 2
    )


def _backbone(graph: Graph, parts: Anatomy) -> str:
    names = graph.ancestors([parts.features[0]])
    for token, title in _BACKBONES.items():
        if any(f"/{token}/" in f"/{name}" for name in names):
            return title
    return "unknown"


def _scales(flow: Flow, stage: Stage) -> tuple[float, float, float, float]:
    """Return the divisors that the box decoder applies to y, x, height and width."""
    scales = [1.0, 1.0, 1.0, 1.0]
    for reader in flow.readers.get(stage.decoder.name, ()):
        for name, index in flow.refs(reader):
            if name == stage.decoder.name and reader.op in ("RealDiv", "Mul") and index < 4:
                scales[index] /= factor(flow, reader)
    return scales[0], scales[1], scales[2], scales[3]


def _suppression(parts: Anatomy, stage: Stage) -> Suppression:
    flow, node = parts.flow, stage.suppressions[0]
    inputs = flow.inputs(node)
    if node.op == "CombinedNonMaxSuppression":
        per_class, total, iou, floor = (constant(flow, ref) for ref in inputs[2:6])
    else:
        per_class, iou = _limit(flow, inputs[2]), node.get("iou_threshold", "f")
        iou = constant(flow, inputs[3]) if len(inputs) > 3 else iou
        floor = constant(flow, inputs[4]) if len(inputs) > 4 else None
        total = _total(parts, stage)
    if iou is None or per_class is None:
        raise ModelError(f"{node.name}: its IoU threshold or its box count is not a constant")
    if node.op == "NonMaxSuppressionV5" and constant(flow, inputs[5]):
        raise RefusedError(f"{node.name}: soft non-maximum suppression is not supported; OpenCV has only the plain one")
    floors = [value for value in (floor, _score_filter(flow, stage)) if value is not None and value > 0]
    return Suppression(
        score_threshold=max(floors, default=0.0),
        iou_threshold=iou,
        max_per_class=int(per_class),
        max_total=int(total or per_class),
        clip_first=_clips_first(parts, stage),
    )


def _limit(flow: Flow, ref: Ref) -> float | None:
    """Return the constant in `minimum(constant, count)`, or the constant itself."""
    return min(_limits(flow, [ref]), default=None)


def _limits(flow: Flow, refs: Iterable[Ref]) -> list[float]:
    """Return the constants among `refs`, and those in any Minimum among them."""
    known: list[float] = []
    seen: set[Ref] = set()
    todo = [flow.origin(ref) for ref in refs]
    while todo:
        ref = todo.pop()
        if ref in seen:
            continue
        seen.add(ref)
        value = constant(flow, ref)
        if value is not None:
            known.append(value)
        elif flow.node(ref).op == "Minimum":
            todo.extend(flow.inputs(flow.node(ref)))
    return known


def _total(parts: Anatomy, stage: Stage) -> float | None:
    """Return the smallest constant that limits the sorted boxes of all classes."""
    flow = parts.flow
    crop = parts.second.crop if stage is parts.first else parts.mask_crop
    assert crop is not None
    after = flow.descendants(node.name for node in stage.suppressions)
    between = after & flow.graph.ancestors([crop.name])
    cuts: list[Ref] = []
    for name in between:
        node = flow.graph[name]
        if node.op == "Minimum" and flow.readers.get(name):
            cuts.append((name, 0))
        elif node.op == "TopKV2":
            cuts.append(flow.inputs(node)[1])
    return min((limit for limit in _limits(flow, cuts) if 0 < limit < _NO_LIMIT), default=None)


def _score_filter(flow: Flow, stage: Stage) -> float | None:
    """Return the constant that scores are compared with before suppression."""
    floors = []
    known: dict[Ref, Ref] = {}
    for name in flow.graph.ancestors([stage.suppressions[0].name], stop=[stage.scores.name]):
        node = flow.graph[name]
        if node.op in ("Greater", "GreaterEqual"):
            left, right = flow.inputs(node)
            if back(flow, left, known=known)[0] == stage.scores.name:
                floors.append(constant(flow, right))
    return max((floor for floor in floors if floor is not None), default=None)


def _clips_first(parts: Anatomy, stage: Stage) -> bool:
    """Return True if boxes are clipped to the picture between decoder and suppression."""
    flow = parts.flow
    way = flow.descendants(exp.name for exp in stage.exps)
    way &= flow.graph.ancestors([flow.inputs(stage.suppressions[0])[0][0]])
    return any(flow.graph[name].op in ("Minimum", "ClipByValue") for name in way)
