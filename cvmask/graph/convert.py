"""Frozen graph -> the text graph that cv2.dnn needs.

OpenCV has its own layers for what the Object Detection API spells out: PriorBox makes the anchors,
DetectionOutput decodes and suppresses boxes. The layers between them are translated one by one.
"""

from __future__ import annotations

from cvmask.graph.anatomy import Anatomy, dissect
from cvmask.graph.constants import Constants
from cvmask.graph.describe import facts_of
from cvmask.graph.facts import GraphFacts, Suppression
from cvmask.graph.flow import Ref
from cvmask.graph.layers import Layers
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.numeric import channels, factor
from cvmask.graph.tensors import FLOAT, INT32, Attr, Tensor

NCHW = Attr("s", b"NCHW")  # said of rows, so that OpenCV does not take them for a picture and turn their axes
_EVERY = -1  # DetectionOutput's top_k: as TensorFlow does, suppress over all anchors


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
    parts = dissect(graph)
    facts = facts_of(parts)
    builder = _Builder(parts, facts)
    return Graph(builder.build(), graph.origin), facts


class _Builder:
    """Puts the text graph of one model together."""

    def __init__(self, parts: Anatomy, facts: GraphFacts) -> None:
        self.parts, self.facts = parts, facts
        self.constants = Constants(parts.flow)
        self.layers = Layers(parts.flow, self.constants)

    def build(self) -> list[Node]:
        proposals = self._first_stage()
        assert self.parts.second.crop is not None
        self.layers.set_boxes(self.parts.second.crop, proposals)
        detections = self._second_stage(proposals)
        self.layers.set_boxes(self.parts.mask_crop, detections)
        self._masks()
        return [*self.constants.nodes, *self.layers.nodes]

    def _add(self, op: str, name: str, *inputs: str, **attrs: Attr) -> str:
        return self.layers.add(op, self.constants.unique(name), inputs, **attrs)

    def _ints(self, name: str, *values: int) -> str:
        name = self.constants.unique(name)
        tensor = Tensor(INT32, (len(values),), b"", values)
        return self.layers.add("Const", name, [], value=Attr("tensor", tensor))

    def _first_stage(self) -> str:
        """RPN -> proposals, (1, 1, n, 7)."""
        stage = self.parts.first
        boxes = self._predictor(stage.boxes)
        classes = self._predictor(stage.classes, transposed=False)
        scope = _scope(stage.classes)
        rows = self._add("Reshape", f"{scope}/reshape_1", classes, self._ints(f"{scope}/reshape_1/shape", 0, -1, 2))
        scores = self._scored(rows, f"{scope}/softmax", stage.scores.op)
        flat_scores = self._add("Flatten", f"{scope}/softmax/flatten", scores)
        flat_boxes = self._add("Flatten", f"{_scope(stage.boxes)}/flatten", boxes)
        anchors = self._prior_box(boxes)
        return self._detections("detection_out", (flat_boxes, flat_scores, anchors), self.facts.first_stage, 2, 0,
                                share_location=True, clip_all=True)  # fmt: skip

    def _second_stage(self, proposals: str) -> str:
        """Proposals -> final detections, (1, 1, n, 7)."""
        stage, classes = self.parts.second, self.facts.classes
        boxes = self._predictor(stage.boxes)
        logits = self._predictor(stage.classes, transposed=False)
        scope = _scope(stage.classes).rpartition("/")[0] or "second_stage"
        width = classes + (1 if stage.scores.op == "Softmax" else 0)
        rows = self._add("Reshape", f"{scope}/Reshape_1", self._scaled(logits), self._ints(f"{scope}/Reshape_1/shape", -1, 1, width))
        scores = self._scored(rows, f"{scope}/Reshape_1/softmax", stage.scores.op)
        if width > classes:
            scores = self._slice(f"{scope}/Reshape_1/slice", scores, (0, 0, 1), (-1, -1, -1))
        scores = self._add("Reshape", f"{scope}/Reshape_1/Reshape", scores, self._ints(f"{scope}/Reshape_1/Reshape/shape", 1, -1))
        codes = self._add("Reshape", f"{scope}/Reshape", boxes, self._ints(f"{scope}/Reshape/shape", 1, -1, 4))
        variance = _floats(self._variance(self.facts.second_scales))
        const = self.layers.add("Const", self.constants.unique("proposals/variance"), [], value=variance)
        codes = self._add("Mul", "variance_encoded", codes, const, axis=Attr("i", 2))
        codes = self._add("Flatten", "variance_encoded/flatten", codes)
        priors = self._slice("detection_out/slice", proposals, (0, 0, 0, 3), (-1, -1, -1, 4))
        priors = self._add("Reshape", "detection_out/slice/reshape", priors, self._ints("detection_out/slice/reshape/shape", 1, 1, -1))
        shared = self._box_width() == 4
        return self._detections("detection_out_final", (codes, scores, priors), self.facts.second_stage, classes,
                                classes + 1, share_location=shared, clip_all=False,
                                variance_encoded_in_target=Attr("b", True))  # fmt: skip

    def _masks(self) -> str:
        logits = self.layers.emit(self.parts.masks)
        for reader in self.parts.flow.readers.get(self.parts.masks[0], ()):
            if reader.op == "Transpose":
                perm = self.constants.name(self.parts.flow.inputs(reader)[1])
                logits = self.layers.add("Transpose", reader.name, [logits, perm])
                break
        return self.layers.add("Sigmoid", "detection_masks", [logits])

    def _predictor(self, ref: Ref, transposed: bool = True) -> str:
        """A predictor's last layer; boxes come as y, x, h, w and are wanted as x, y, w, h."""
        name = self.layers.emit(ref)
        if transposed:
            for node in reversed(self.layers.nodes):
                if node.op in ("Conv2D", "MatMul"):
                    node.attrs = {**node.attrs, "loc_pred_transposed": Attr("b", True)}
                    break
        return name

    def _scored(self, rows: str, name: str, op: str) -> str:
        if op == "Sigmoid":
            return self._add("Sigmoid", name, rows)
        return self._add("Softmax", name, rows, axis=Attr("i", -1))

    def _scaled(self, logits: str) -> str:
        """Class predictions by the constant that some releases multiply them with before softmax."""
        flow, scale = self.parts.flow, 1.0
        ref = flow.inputs(self.parts.second.scores)[0]
        while ref != self.parts.second.classes:
            node = flow.node(ref)
            scale *= factor(flow, node) if node.op in ("Mul", "RealDiv") else 1.0
            ref = next(other for other in flow.inputs(node) if flow.varies(other))
        if scale == 1.0:
            return logits
        const = self.layers.add("Const", self.constants.unique("scale_logits/scale"), [], value=_floats((scale,)))
        return self._add("Mul", "scale_logits", logits, const)

    def _box_width(self) -> int:
        return channels(self.parts.flow, self.parts.second.boxes)

    def _prior_box(self, boxes: str) -> str:
        anchors = self.facts.anchors
        return self._add(
            "PriorBox", "proposals", boxes, self.facts.image,
            clip=Attr("b", anchors.clip), flip=Attr("b", False),
            height=_floats(anchors.heights), width=_floats(anchors.widths),
            offset=Attr("f", anchors.offset[0] / anchors.stride[0]), step=Attr("f", anchors.stride[0]),
            variance=_floats(self._variance(self.facts.first_scales)),
        )  # fmt: skip

    def _variance(self, scales: tuple[float, float, float, float]) -> tuple[float, ...]:
        """OpenCV's order: x, y, width, height."""
        y, x, height, width = scales
        return 1 / x, 1 / y, 1 / width, 1 / height

    def _slice(self, name: str, data: str, begin: tuple[int, ...], size: tuple[int, ...]) -> str:
        begins, sizes = self._ints(f"{name}/begins", *begin), self._ints(f"{name}/sizes", *size)
        return self._add("Slice", name, data, begins, sizes, data_format=NCHW)

    def _detections(self, name: str, inputs: tuple[str, ...], rule: Suppression, classes: int, background: int,
                    *, share_location: bool, clip_all: bool, **more: Attr) -> str:  # fmt: skip
        """A DetectionOutput. Newer releases suppress first and clip to the picture afterwards."""
        attrs = {
            "background_label_id": Attr("i", background), "clip": Attr("b", rule.clip_first),
            "code_type": Attr("s", b"CENTER_SIZE"), "confidence_threshold": Attr("f", rule.score_threshold),
            "group_by_classes": Attr("b", False), "keep_top_k": Attr("i", rule.max_total),
            "nms_threshold": Attr("f", rule.iou_threshold), "num_classes": Attr("i", classes),
            "share_location": Attr("b", share_location), "top_k": Attr("i", _EVERY), **more,
        }  # fmt: skip
        if rule.clip_first:
            return self._add("DetectionOutput", name, *inputs, **attrs)
        rows = self._add("DetectionOutput", f"{name}/unclipped", *inputs, **attrs)
        low = self.layers.add("Const", self.constants.unique(f"{name}/low"), [], value=_floats((0.0,)))
        high = self.layers.add("Const", self.constants.unique(f"{name}/high"), [], value=_floats((1.0,)))
        if clip_all:  # image 0, class 1, a score: nothing but the box can change
            return self._add("ClipByValue", name, rows, low, high, data_format=NCHW)
        heads = self._slice(f"{name}/head", rows, (0, 0, 0, 0), (-1, -1, -1, 3))
        boxes = self._slice(f"{name}/box", rows, (0, 0, 0, 3), (-1, -1, -1, 4))
        boxes = self._add("ClipByValue", f"{name}/clip", boxes, low, high, data_format=NCHW)
        return self._add("ConcatV2", name, heads, boxes, self._scalar(f"{name}/axis", 3), data_format=NCHW)

    def _scalar(self, name: str, value: int) -> str:
        tensor = Tensor(INT32, (), b"", (value,))
        return self.layers.add("Const", self.constants.unique(name), [], value=Attr("tensor", tensor))


def _floats(values: tuple[float, ...]) -> Attr:
    return Attr("tensor", Tensor(FLOAT, (len(values),), b"", values))


def _scope(ref: Ref) -> str:
    """The scope of a layer: `a/b` out of `a/b/BiasAdd`."""
    return ref[0].rpartition("/")[0] or ref[0]
