"""Frozen graph -> the text graph that cv2.dnn needs.

OpenCV has its own layers for what the Object Detection API spells out: PriorBox makes the anchors,
DetectionOutput decodes and suppresses boxes. The layers between them are translated one by one.
"""

from __future__ import annotations

import math

from cvmask.errors import ModelError
from cvmask.graph.anatomy import Anatomy, dissect
from cvmask.graph.constants import Constants
from cvmask.graph.describe import facts_of, has_background
from cvmask.graph.facts import GraphFacts
from cvmask.graph.flow import Ref
from cvmask.graph.guard import understood
from cvmask.graph.layers import Layers
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.numeric import channels, factor
from cvmask.graph.rows import Rows, variance
from cvmask.graph.tensors import Attr


def convert(graph: Graph) -> Graph:
    """The text graph of a frozen Object Detection API Mask R-CNN.

    Raises
    ------
    ModelError
        If the graph is something else, or has an op that OpenCV cannot run; the message names it.
    """
    return convert_with_facts(graph)[0]


def convert_with_facts(graph: Graph) -> tuple[Graph, GraphFacts]:
    """The text graph, and what was read off the frozen graph to make it."""
    with understood(graph.origin):
        return _convert(graph)


def _convert(graph: Graph) -> tuple[Graph, GraphFacts]:
    parts = dissect(graph)
    facts = facts_of(parts)
    if facts.anchors.stride[0] != facts.anchors.stride[1]:
        raise ModelError(
            f"{graph.origin}: anchors {facts.anchors.stride} apart: OpenCV has one step for both axes"
        )
    return Graph(_Builder(parts, facts).build(), graph.origin), facts


class _Builder:
    """Puts the text graph of one model together."""

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
        """The region proposal network and its rows."""
        stage, rows, facts = self.parts.first, self.rows, self.facts
        boxes, logits = self._boxes(stage.boxes), self.layers.emit(stage.classes)
        scope = _scope(stage.classes)
        scores = rows.scored(
            f"{scope}/softmax", rows.shaped(f"{scope}/reshape_1", logits, 0, -1, 2), stage.scores.op
        )
        scores = rows.add("Flatten", f"{scope}/softmax/flatten", scores)
        codes = rows.add("Flatten", f"{_scope(stage.boxes)}/flatten", boxes)
        anchors = rows.prior_box("proposals", boxes, facts.image, facts.anchors, facts.first_scales)
        inputs = (codes, scores, anchors)
        found = rows.detections(
            "detection_out", inputs, facts.first_stage, 2, 0, share_location=True, decoded=False
        )
        return found if facts.first_stage.clip_first else rows.clipped_rows("detection_out", found)

    def _second_stage(self, proposals: str) -> str:
        """The box classifier and its rows."""
        stage, rows, facts = self.parts.second, self.rows, self.facts
        boxes, logits = self._boxes(stage.boxes), self._scaled(self.layers.emit(stage.classes))
        scope = _scope(stage.classes).rpartition("/")[0] or "second_stage"
        inputs = (self._codes(scope, boxes), self._scores(scope, logits), self._priors(proposals))
        shared = channels(self.flow, stage.boxes) == 4
        rule, classes = facts.second_stage, facts.classes
        found = rows.detections(
            "detection_out_final", inputs, rule, classes, classes + 1, shared, decoded=True
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
        """A box predictor. OpenCV turns its weights from y, x, height, width to x, y, width, height."""
        name = self.layers.emit(ref)
        inner = next(node for node in reversed(self.layers.nodes) if node.op in ("Conv2D", "MatMul"))
        inner.attrs = {**inner.attrs, "loc_pred_transposed": Attr("b", True)}
        return name

    def _scaled(self, logits: str) -> str:
        """Class predictions, times the constant that some releases put before softmax."""
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
