"""Converts a frozen graph to the text graph that cv2.dnn needs.

OpenCV has its own layers for what the Object Detection API spells out: PriorBox makes the anchors,
DetectionOutput decodes and suppresses boxes. The layers between them are translated one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.anatomy import Anatomy, dissect
from cvmask.graph.describe import facts_of, has_background
from cvmask.graph.facts import Anchors, GraphFacts, Suppression
from cvmask.graph.flow import Ref
from cvmask.graph.layers import Constants, Layers, const_node
from cvmask.graph.nodes import FLOAT, INT32, Attr, Graph, Node, Tensor, understood
from cvmask.graph.numeric import channels, factor
from cvmask.graph.split import final_detections

Scales = tuple[float, float, float, float]
_EVERY = -1  # DetectionOutput's top_k: suppress over all candidates, as TensorFlow does
_NCHW = Attr("s", b"NCHW")  # for rows: OpenCV treats the input of a crop as a picture and transposes it otherwise


class Rows:
    """Appends nodes to a text graph; every method returns the name of the node it added."""

    def __init__(self, layers: Layers, constants: Constants) -> None:
        self._layers, self._constants = layers, constants

    def add(self, op: str, name: str, *inputs: str, **attrs: Attr) -> str:
        """Add a node."""
        return self._layers.add(op, self._constants.unique(name), inputs, **attrs)

    def ints(self, name: str, *values: int) -> str:
        """Add a constant of integers."""
        return self.add("Const", name, value=Attr("tensor", Tensor(INT32, (len(values),), b"", values)))

    def floats(self, name: str, *values: float) -> str:
        """Add a constant of floats."""
        return self.add("Const", name, value=_floats(values))

    def shaped(self, name: str, data: str, *shape: int) -> str:
        """Add a Reshape; -1 is inferred."""
        return self.add("Reshape", name, data, self.ints(f"{name}/shape", *shape))

    def sliced(self, name: str, data: str, begin: Iterable[int], size: Iterable[int]) -> str:
        """Add a Slice; -1 is everything that is left."""
        begins, sizes = self.ints(f"{name}/begins", *begin), self.ints(f"{name}/sizes", *size)
        return self.add("Slice", name, data, begins, sizes, data_format=_NCHW)

    def scored(self, name: str, data: str, op: str) -> str:
        """Add the op that turns class predictions into scores."""
        return self.add(op, name, data, **({"axis": Attr("i", -1)} if op == "Softmax" else {"data_format": _NCHW}))

    def anchors(self, name: str, features: str, image: str, anchors: Anchors, scales: Scales) -> str:
        """Add the anchors of a feature map."""
        steps = list(zip(anchors.stride, anchors.offset))
        if steps[0] == steps[1]:
            return self._prior_box(name, features, image, anchors, scales, *steps[0])
        # PriorBox has one step and one offset for both axes: y comes from one PriorBox, x from another.
        shaped = [
            self.shaped(f"{box}/boxes", self._prior_box(box, features, image, anchors, scales, *step), 2, -1, 4)
            for box, step in zip((f"{name}/rows", f"{name}/columns"), steps)
        ]
        sides = [
            self.sliced(f"{name}/side_{i}", shaped[1 - i % 2], (0, 0, i), (-1, -1, 1)) for i in range(4)
        ]
        axis = self.add("Const", f"{name}/axis", value=Attr("tensor", Tensor(INT32, (), b"", (2,))))
        boxes = self.add("ConcatV2", f"{name}/sides", *sides, axis, data_format=_NCHW)
        return self.shaped(name, boxes, 1, 2, -1)

    def _prior_box(
        self, name: str, features: str, image: str, anchors: Anchors, scales: Scales, step: float, offset: float
    ) -> str:
        return self.add(
            "PriorBox",
            name,
            features,
            image,
            clip=Attr("b", anchors.clip),
            flip=Attr("b", False),
            height=_floats(anchors.heights),
            width=_floats(anchors.widths),
            offset=Attr("f", offset / step),
            step=Attr("f", step),
            variance=_floats(variance(scales)),
        )

    def detections(
        self,
        name: str,
        inputs: tuple[str, str, str],
        rule: Suppression,
        classes: int,
        background: int,
        share_location: bool,
        decoded: bool,
        most: int,
    ) -> str:
        """Add a DetectionOutput: box codes, scores and priors -> (1, 1, n, 7), n <= `most`.

        If `decoded`, the codes are scaled already.
        """
        return self.add(
            "DetectionOutput",
            name if rule.clip_first else f"{name}/unclipped",
            *inputs,
            background_label_id=Attr("i", background),
            clip=Attr("b", rule.clip_first),
            code_type=Attr("s", b"CENTER_SIZE"),
            confidence_threshold=Attr("f", rule.score_threshold),
            group_by_classes=Attr("b", False),
            keep_top_k=Attr("i", most),
            nms_threshold=Attr("f", rule.iou_threshold),
            num_classes=Attr("i", classes),
            share_location=Attr("b", share_location),
            top_k=Attr("i", _EVERY),
            **({"variance_encoded_in_target": Attr("b", True)} if decoded else {}),
        )

    def clipped_rows(self, name: str, rows: str) -> str:
        """Clip the boxes of proposals to the picture. Image 0, class 1 and scores are in 0..1 anyway."""
        return self._clip(name, rows, name)

    def clipped_boxes(self, name: str, rows: str) -> str:
        """Clip the boxes of detections to the picture, and keep classes and scores."""
        head = self.sliced(f"{name}/head", rows, (0, 0, 0, 0), (-1, -1, -1, 3))
        boxes = self.sliced(f"{name}/boxes", rows, (0, 0, 0, 3), (-1, -1, -1, 4))
        boxes = self._clip(f"{name}/clip", boxes, name)
        axis = self.add("Const", f"{name}/axis", value=Attr("tensor", Tensor(INT32, (), b"", (3,))))
        return self.add("ConcatV2", name, head, boxes, axis, data_format=_NCHW)

    def _clip(self, name: str, data: str, scope: str) -> str:
        low, high = self.floats(f"{scope}/low", 0.0), self.floats(f"{scope}/high", 1.0)
        return self.add("ClipByValue", name, data, low, high, data_format=_NCHW)


def variance(scales: Scales) -> tuple[float, ...]:
    """Convert the box coder's scales (y, x, height, width) to OpenCV's variances (1/x, 1/y, 1/width, 1/height)."""
    y, x, height, width = scales
    return 1 / x, 1 / y, 1 / width, 1 / height


def _floats(values: Iterable[float]) -> Attr:
    items = tuple(values)
    return Attr("tensor", Tensor(FLOAT, (len(items),), b"", items))


def convert(graph: Graph) -> Graph:
    """Convert a frozen Object Detection API Mask R-CNN to a text graph.

    Raises
    ------
    ModelError
        If the graph is something else, or has an op that OpenCV cannot run; the message names it.
    """
    return convert_with_facts(graph)[0]


def convert_with_facts(graph: Graph) -> tuple[Graph, GraphFacts]:
    """Return the text graph, and the facts of the frozen graph it was made from."""
    with understood(graph.origin):
        return _convert(graph)


def _convert(graph: Graph) -> tuple[Graph, GraphFacts]:
    parts = dissect(graph)
    facts = facts_of(parts)
    return Graph(_Builder(parts, facts).build(), graph.origin), facts


class _Builder:
    """Builds the text graph of one model."""

    def __init__(self, parts: Anatomy, facts: GraphFacts) -> None:
        self.parts, self.facts, self.flow = parts, facts, parts.flow
        self.constants = Constants(parts.flow)
        self.layers = Layers(parts.flow, self.constants)
        self.rows = Rows(self.layers, self.constants)

    def build(self) -> list[Node]:
        assert self.parts.second.crop is not None
        proposals = self._first_stage()
        self.layers.set_boxes(self.parts.second.crop, proposals)
        detections = self._second_stage(proposals)
        self.layers.set_boxes(self.parts.mask_crop, detections)
        self._masks()
        return [*self.constants.nodes, *self.layers.nodes]

    def _first_stage(self) -> str:
        """Add the region proposal network; returns the name of its rows."""
        stage, rows, facts = self.parts.first, self.rows, self.facts
        boxes, logits = self._boxes(stage.boxes), self.layers.emit(stage.classes)
        scope = _scope(stage.classes)
        scores = rows.scored(
            f"{scope}/softmax", rows.shaped(f"{scope}/reshape_1", logits, 0, -1, 2), stage.scores.op
        )
        scores = rows.add("Flatten", f"{scope}/softmax/flatten", scores)
        codes = rows.add("Flatten", f"{_scope(stage.boxes)}/flatten", boxes)
        anchors = rows.anchors("proposals", boxes, facts.image, facts.anchors, facts.first_scales)
        inputs = (codes, scores, anchors)
        found = rows.detections(
            "detection_out", inputs, facts.first_stage, 2, 0, share_location=True, decoded=False, most=facts.proposals
        )
        return found if facts.first_stage.clip_first else rows.clipped_rows("detection_out", found)

    def _second_stage(self, proposals: str) -> str:
        """Add the box classifier; returns the name of its rows."""
        stage, rows, facts = self.parts.second, self.rows, self.facts
        boxes, logits = self._boxes(stage.boxes), self._scaled(self.layers.emit(stage.classes))
        scope = _scope(stage.classes).rpartition("/")[0] or "second_stage"
        inputs = (self._codes(scope, boxes), self._scores(scope, logits), self._priors(proposals))
        shared = channels(self.flow, stage.boxes) == 4
        rule, classes = facts.second_stage, facts.classes
        found = rows.detections(
            "detection_out_final", inputs, rule, classes, classes + 1, shared, decoded=True, most=facts.max_detections
        )
        return found if rule.clip_first else rows.clipped_boxes("detection_out_final", found)

    def _scores(self, scope: str, logits: str) -> str:
        rows, op = self.rows, self.parts.second.scores.op
        width = self.facts.classes + int(has_background(self.flow, self.parts.second))
        scores = rows.scored(
            f"{scope}/Reshape_1/softmax", rows.shaped(f"{scope}/Reshape_1", logits, -1, 1, width), op
        )
        if width > self.facts.classes:  # the first one is the background
            scores = rows.sliced(f"{scope}/Reshape_1/slice", scores, (0, 0, 1), (-1, -1, -1))
        return rows.shaped(f"{scope}/Reshape_1/Reshape", scores, 1, -1)

    def _codes(self, scope: str, boxes: str) -> str:
        codes = self.rows.shaped(f"{scope}/Reshape", boxes, 1, -1, 4)
        scale = self.rows.floats("proposals/variance", *variance(self.facts.second_scales))
        codes = self.rows.add("Mul", "variance_encoded", codes, scale, axis=Attr("i", 2))
        return self.rows.add("Flatten", "variance_encoded/flatten", codes)

    def _priors(self, proposals: str) -> str:
        boxes = self.rows.sliced("detection_out/slice", proposals, (0, 0, 0, 3), (-1, -1, -1, 4))
        return self.rows.shaped("detection_out/slice/reshape", boxes, 1, 1, -1)

    def _masks(self) -> str:
        logits = self.layers.emit(self.parts.masks)
        for reader in self.flow.readers.get(self.parts.masks[0], ()):
            if reader.op == "Transpose":  # to channels first, where OpenCV has them anyway
                perm = self.constants.name(self.flow.inputs(reader)[1])
                logits = self.layers.add("Transpose", reader.name, [logits, perm])
                break
        return self.layers.add("Sigmoid", "detection_masks", [logits])

    def _boxes(self, ref: Ref) -> str:
        """Add a box predictor. OpenCV reorders its weights from y, x, height, width to x, y, width, height."""
        name = self.layers.emit(ref)
        inner = next(node for node in reversed(self.layers.nodes) if node.op in ("Conv2D", "MatMul"))
        inner.attrs = {**inner.attrs, "loc_pred_transposed": Attr("b", True)}
        return name

    def _scaled(self, logits: str) -> str:
        """Add class predictions, times the constant that some releases multiply by before softmax."""
        flow, stage, factors = self.flow, self.parts.second, [1.0]

        def step(ref: Ref) -> Ref | None:
            if ref == stage.classes:
                return None
            node = flow.node(ref)
            factors.append(factor(flow, node) if node.op in ("Mul", "RealDiv") else 1.0)
            return next(other for other in flow.inputs(node) if flow.varies(other))

        flow.follow(flow.inputs(stage.scores)[0], step)
        scale = math.prod(factors)
        if scale == 1.0:
            return logits
        return self.rows.add("Mul", "scale_logits", logits, self.rows.floats("scale_logits/scale", scale))


def _scope(ref: Ref) -> str:
    """The scope of a layer: `a/b` out of `a/b/BiasAdd`."""
    return ref[0].rpartition("/")[0] or ref[0]


def clip_apart(graph: Graph) -> Graph:
    """Return a text graph whose anchors are clipped to 0..1 by separate nodes instead of by PriorBox.

    Results differ in the last bits, so this is only for targets that are not exact anyway.
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


_CODE = 4  # numbers that describe a box


def scale_by_proposal(graph: Graph) -> Graph:
    """Return a text graph that scales the codes of all classes of a proposal in one multiplication.

    The products are the same. A graph without such a scale is returned unchanged.

    Raises
    ------
    ModelError
        If there are not two stages.
    """
    final = final_detections(graph)
    classes = 1 if final.get("share_location", "b", True) else int(final.get("num_classes", "i", 1))
    scale = _feeding(graph, _feeding(graph, final, "Flatten"), "Mul")
    codes = _feeding(graph, scale, "Reshape")
    if scale is None or codes is None or graph.consumers[codes.name] != [scale]:
        return graph
    factors, shape = (_numbers(graph, node) for node in (scale, codes))
    if classes == 1 or len(factors) != _CODE or shape != [1, -1, _CODE]:
        return graph
    wide = {
        scale.name: const_node(f"{scale.name}/by_proposal", np.tile(np.array(factors, np.float32), classes)),
        codes.name: const_node(f"{codes.name}/by_proposal", np.array([1, -1, _CODE * classes])),
    }
    nodes: list[Node] = []
    for node in graph:
        if node.name in wide:
            nodes.append(wide[node.name])
            nodes.append(Node(node.name, node.op, [node.inputs[0], wide[node.name].name], node.attrs))
        else:
            nodes.append(node)
    return Graph(nodes, graph.origin)


def _feeding(graph: Graph, node: Node | None, op: str) -> Node | None:
    """Return the first input of this node if it is an `op`, else None."""
    name = node.sources()[0] if node is not None and node.sources() else ""
    return graph[name] if name in graph and graph[name].op == op else None


def _numbers(graph: Graph, node: Node) -> list[float]:
    """Return this node's second input if it is a constant, [] if the text graph does not hold it completely."""
    try:
        return list(graph[node.sources()[1]].array().ravel().tolist())
    except (IndexError, ModelError):
        return []
