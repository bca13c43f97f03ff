"""Boxes and scores in a text graph: OpenCV's own layers for anchors, decoding and suppression."""

from __future__ import annotations

from collections.abc import Iterable

from cvmask.graph.constants import Constants
from cvmask.graph.facts import Anchors, Suppression
from cvmask.graph.layers import Layers
from cvmask.graph.tensors import FLOAT, INT32, Attr, Tensor

Scales = tuple[float, float, float, float]
_EVERY = -1  # DetectionOutput's top_k: as TensorFlow does, suppress over all candidates
_NCHW = Attr("s", b"NCHW")  # said of rows: OpenCV takes what a crop reads for a picture and turns its axes


class Rows:
    """Appends nodes to a text graph; every method returns the name of what it made."""

    def __init__(self, layers: Layers, constants: Constants) -> None:
        self._layers, self._constants = layers, constants

    def add(self, op: str, name: str, *inputs: str, **attrs: Attr) -> str:
        """A node."""
        return self._layers.add(op, self._constants.unique(name), inputs, **attrs)

    def ints(self, name: str, *values: int) -> str:
        """A constant of whole numbers."""
        return self.add("Const", name, value=Attr("tensor", Tensor(INT32, (len(values),), b"", values)))

    def floats(self, name: str, *values: float) -> str:
        """A constant of real numbers."""
        return self.add("Const", name, value=_floats(values))

    def shaped(self, name: str, data: str, *shape: int) -> str:
        """A Reshape; -1 is what is left."""
        return self.add("Reshape", name, data, self.ints(f"{name}/shape", *shape))

    def sliced(self, name: str, data: str, begin: Iterable[int], size: Iterable[int]) -> str:
        """A Slice; -1 is all that is left."""
        begins, sizes = self.ints(f"{name}/begins", *begin), self.ints(f"{name}/sizes", *size)
        return self.add("Slice", name, data, begins, sizes, data_format=_NCHW)

    def scored(self, name: str, data: str, op: str) -> str:
        """Scores from class predictions."""
        return self.add(op, name, data, **({"axis": Attr("i", -1)} if op == "Softmax" else {"data_format": _NCHW}))

    def prior_box(self, name: str, features: str, image: str, anchors: Anchors, scales: Scales) -> str:
        """The anchors of a feature map."""
        return self.add(
            "PriorBox",
            name,
            features,
            image,
            clip=Attr("b", anchors.clip),
            flip=Attr("b", False),
            height=_floats(anchors.heights),
            width=_floats(anchors.widths),
            offset=Attr("f", anchors.offset[0] / anchors.stride[0]),
            step=Attr("f", anchors.stride[0]),
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
    ) -> str:
        """Rows (1, 1, n, 7) from box codes, scores and priors; `decoded` codes are scaled already."""
        return self.add(
            "DetectionOutput",
            name if rule.clip_first else f"{name}/unclipped",
            *inputs,
            background_label_id=Attr("i", background),
            clip=Attr("b", rule.clip_first),
            code_type=Attr("s", b"CENTER_SIZE"),
            confidence_threshold=Attr("f", rule.score_threshold),
            group_by_classes=Attr("b", False),
            keep_top_k=Attr("i", rule.max_total),
            nms_threshold=Attr("f", rule.iou_threshold),
            num_classes=Attr("i", classes),
            share_location=Attr("b", share_location),
            top_k=Attr("i", _EVERY),
            **({"variance_encoded_in_target": Attr("b", True)} if decoded else {}),
        )

    def clipped_rows(self, name: str, rows: str) -> str:
        """Proposals with boxes inside the picture. Image 0, class 1 and scores are inside 0..1 anyway."""
        return self._clip(name, rows, name)

    def clipped_boxes(self, name: str, rows: str) -> str:
        """Detections with boxes inside the picture, their classes and scores as they were."""
        head = self.sliced(f"{name}/head", rows, (0, 0, 0, 0), (-1, -1, -1, 3))
        boxes = self.sliced(f"{name}/boxes", rows, (0, 0, 0, 3), (-1, -1, -1, 4))
        boxes = self._clip(f"{name}/clip", boxes, name)
        axis = self.add("Const", f"{name}/axis", value=Attr("tensor", Tensor(INT32, (), b"", (3,))))
        return self.add("ConcatV2", name, head, boxes, axis, data_format=_NCHW)

    def _clip(self, name: str, data: str, scope: str) -> str:
        low, high = self.floats(f"{scope}/low", 0.0), self.floats(f"{scope}/high", 1.0)
        return self.add("ClipByValue", name, data, low, high, data_format=_NCHW)


def variance(scales: Scales) -> tuple[float, ...]:
    """The box coder's scales y, x, height, width as OpenCV wants them: x, y, width, height, inverted."""
    y, x, height, width = scales
    return 1 / x, 1 / y, 1 / width, 1 / height


def _floats(values: Iterable[float]) -> Attr:
    items = tuple(values)
    return Attr("tensor", Tensor(FLOAT, (len(items),), b"", items))
