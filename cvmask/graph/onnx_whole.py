"""Frozen graph -> one ONNX model with everything inside: a picture in, TensorFlow's five outputs out.

The networks are those of `cvmask.graph.onnx_networks`; between them stand, as ONNX operators, the resizer, the anchors
and the rules of `cvmask.runtime.boxes`, in the same order and in 32-bit floats.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvmask.graph.facts import Anchors, Resizer, Suppression
from cvmask.graph.nodes import understood
from cvmask.graph.onnx import FLOAT, INT64, UINT8, Model
from cvmask.graph.onnx_layers import Value
from cvmask.graph.onnx_networks import (
    NETWORKS,
    Parts,
    box_head_network,
    features_network,
    first_stage,
    mask_head_network,
    mask_stage,
    second_stage,
)

WHOLE = "mask_rcnn"
_SAMPLING = {"legacy": "asymmetric", "half_pixel": "half_pixel", "align_corners": "align_corners"}
_MODES = {"bilinear": "linear", "bicubic": "cubic"}
_RESIZERS = (*_MODES, "nearest")  # ONNX has no average of areas


def resizes(resizer: Resizer) -> bool:
    """Whether the whole model resizes pictures itself; if not, it takes them in the size that the resizer gives."""
    return resizer.kind != "none" and resizer.method in _RESIZERS


def whole_network(parts: Parts) -> bytes:
    """The model `mask_rcnn`: input and outputs are called, shaped and numbered as those of the frozen graph.

    Input `image_tensor` (1, height, width, 3), uint8, RGB. Outputs `num_detections` (1,), `detection_boxes` (1, n, 4)
    as top, left, bottom, right in 0..1, `detection_scores` (1, n), `detection_classes` (1, n) from 1 on, and
    `detection_masks` (1, n, h, w) in 0..1: n rows, best first, and no rows of zeros behind them.

    Raises
    ------
    ModelError
        If there is an op that has no translation.
    """
    facts, model = parts.facts, Model(WHOLE)
    size = facts.resizer.fixed_wh[::-1] if facts.resizer.kind == "fixed" else None
    given = (1, *size, 3) if size and not resizes(facts.resizer) else (1, "height", "width", 3)
    picture = model.input("image_tensor", given, UINT8)
    planes = _float(model, model.add("Transpose", picture, perm=[0, 3, 1, 2]))
    with understood(parts.anatomy.graph.origin):
        image = _resized(model, planes, facts.resizer)
        rules = _Rules(model, _size_of(model, image))
        features, codes, scores = first_stage(parts, model, Value(image, 4, size))
        anchors = rules.anchors(facts.anchors, _size_of(model, features.name))
        candidates = rules.decode(rules.each(codes), rules.each(anchors), facts.first_scales)
        scores = model.add("Reshape", scores, model.ints(1, -1))
        proposals = rules.suppress(candidates, scores, facts.first_stage).boxes
        # A box of no area where there is none: nothing comes of it.
        shares = _one_at_least(model, model.add("Mul", proposals, rules.reciprocals))
        codes, scores = second_stage(parts, model, features.name, shares)
        pixels = rules.each(model.add("Mul", shares, rules.limits))
        codes = model.add("Reshape", codes, model.ints(0, -1, 4))
        boxes = rules.decode(model.add("Transpose", codes, perm=[1, 0, 2]), pixels, facts.second_scales)
        found = rules.suppress(boxes, model.add("Transpose", scores, perm=[1, 0]), facts.second_stage)
        final = model.add("Mul", found.boxes, rules.reciprocals)
        masks = mask_stage(parts, model, features.name, _one_at_least(model, final))
        if not facts.class_agnostic_masks:
            masks = _of_class(model, masks, found.classes, facts.classes)
        masks = model.add("Slice", masks, model.ints(0), model.add("Shape", found.scores), model.ints(0))
    height, width = facts.mask_size
    count = _float(model, model.add("Shape", found.scores))
    numbers = model.add("Add", _float(model, found.classes), _number(model, 1))
    shape = model.add("Concat", model.ints(1), model.add("Shape", found.scores), model.ints(height, width), axis=0)
    masks = model.add("Reshape", masks, shape)
    model.output("num_detections", count, (1,))
    model.output("detection_boxes", rules.each(final), (1, "detections", 4))
    model.output("detection_scores", rules.each(found.scores), (1, "detections"))
    model.output("detection_classes", rules.each(numbers), (1, "detections"))
    model.output("detection_masks", masks, (1, "detections", height, width))
    return model.bytes()


def _part(model: Model, value: str, start: int, end: int, axis: int) -> str:
    return model.add("Slice", value, model.ints(start), model.ints(end), model.ints(axis))


def _size_of(model: Model, image: str) -> str:
    """Height and width of a map, whole numbers of shape (2,)."""
    return _part(model, model.add("Shape", image), 2, 4, 0)


def _one_at_least(model: Model, boxes: str) -> str:
    """Boxes (n, 4), or one of zeros where n is 0: OpenVINO's pooling refuses a batch of none."""
    add, count = model.add, _part(model, model.add("Shape", boxes), 0, 1, 0)
    lacking = add("Max", add("Sub", model.ints(1), count), model.ints(0))
    shape = add("Concat", lacking, model.ints(4), axis=0)
    return add("Concat", boxes, add("Expand", _number(model, 0), shape), axis=0)


def _float(model: Model, value: str) -> str:
    return model.add("Cast", value, to=FLOAT)


def _number(model: Model, value: float) -> str:
    return model.constant(np.float32(value))


def _resized(model: Model, image: str, resizer: Resizer) -> str:
    """The picture (1, 3, H, W) in the size, and by the method, of a resizer."""
    if not resizes(resizer):
        return image
    size = _wanted_size(model, _size_of(model, image), resizer)
    if resizer.method == "nearest":
        return _nearest(model, image, size, resizer.sampling)
    cubic: dict[str, Any] = {}
    if resizer.method == "bicubic":
        half = resizer.sampling == "half_pixel"
        cubic = {"cubic_coeff_a": -0.5 if half else -0.75, "exclude_outside": int(half)}
    mode, where = _MODES[resizer.method], _SAMPLING[resizer.sampling]
    sizes = model.add("Concat", model.ints(1, 3), size, axis=0)
    return model.add("Resize", image, "", "", sizes, mode=mode, coordinate_transformation_mode=where, **cubic)


def _wanted_size(model: Model, size: str, resizer: Resizer) -> str:
    """Height and width as `Resizer.target_wh` has them."""
    if resizer.kind == "fixed":
        return model.ints(*resizer.fixed_wh[::-1])
    add, sides = model.add, _float(model, size)
    low, high = (add(op, sides, keepdims=1, axes=[0]) for op in ("ReduceMin", "ReduceMax"))
    numbers = resizer.min_dimension, resizer.max_dimension
    # A number for each side: one for both is divided the wrong way round by OpenVINO 2026.4, in what gives a size.
    least, most = (model.constant(np.full(2, side, np.float32)) for side in numbers)
    if resizer.kind in ("at_most", "at_least"):
        side = high if resizer.kind == "at_most" else low
        wanted = add("Min", side, most) if resizer.kind == "at_most" else add("Max", side, least)
        new = add("Floor", add("Mul", sides, add("Div", wanted, side)))
    else:
        new = add("Round", add("Mul", sides, add("Div", least, low)))
        if resizer.max_dimension:
            smaller = add("Round", add("Mul", sides, add("Div", most, high)))
            too_large = add("Greater", add("ReduceMax", new, keepdims=1, axes=[0]), most)
            new = add("Where", too_large, smaller, new)
    return add("Cast", add("Max", new, _number(model, 1)), to=INT64)


def _nearest(model: Model, image: str, size: str, sampling: str) -> str:
    """Pixels picked as TensorFlow's kernel picks them: ONNX's Resize divides where that multiplies."""
    add, old = model.add, _size_of(model, image)
    corners, half = sampling == "align_corners", 0.5 if sampling == "half_pixel" else 0.0
    for axis in (0, 1):
        before, after = (_float(model, _part(model, value, axis, axis + 1, 0)) for value in (old, size))
        last = add("Sub", before, _number(model, 1))
        scale = add("Div", before, after)
        if corners:
            whole = add("Sub", after, _number(model, 1))
            exact = add("Div", last, add("Max", whole, _number(model, 1)))
            scale = add("Where", add("Greater", whole, _number(model, 0)), exact, scale)
        numbers = _counted(model, _part(model, size, axis, axis + 1, 0))
        place = add("Mul", add("Add", numbers, _number(model, half)), scale)
        place = add("Floor", add("Add", place, _number(model, 0.5 if corners else 0)))
        image = add("Gather", image, add("Cast", add("Min", place, last), to=INT64), axis=2 + axis)
    return image


def _counted(model: Model, count: str) -> str:
    """0, 1, 2 ... as floats, `count` (1,) of them."""
    zero, one = (model.constant(np.array(value, np.int64)) for value in (0, 1))
    return _float(model, model.add("Range", zero, model.add("Squeeze", count, model.ints(0)), one))


def _of_class(model: Model, masks: str, classes: str, count: int) -> str:
    """Of masks (n, classes, h, w) that of each one's own class: (n, h, w)."""
    shape = model.add("Concat", model.ints(-1), _size_of(model, masks), axis=0)
    flat = model.add("Reshape", masks, shape)
    first = model.add("Mul", _counted(model, model.add("Shape", classes)), _number(model, count))
    return model.add("Gather", flat, model.add("Add", model.add("Cast", first, to=INT64), classes), axis=0)


@dataclass(frozen=True)
class _Found:
    """Names of boxes (n, 4) in pixels, scores (n,) and 0-based classes (n,)."""

    boxes: str
    scores: str
    classes: str


class _Rules:
    """What `cvmask.runtime.boxes` does, for a picture of `size` (height, width)."""

    def __init__(self, model: Model, size: str) -> None:
        self._model = model
        sides = _float(model, size)
        self.limits = model.add("Concat", sides, sides, axis=0)
        self.reciprocals = model.add("Div", _number(model, 1), self.limits)

    def each(self, value: str) -> str:
        """The same with one more dimension before the others."""
        return self._model.add("Unsqueeze", value, self._model.ints(0))

    def anchors(self, anchors: Anchors, cells: str) -> str:
        """As `boxes.anchor_grid`: shape (n, 4)."""
        model, add, sides = self._model, self._model.add, (anchors.heights, anchors.widths)
        shape = add("Concat", cells, model.ints(len(anchors)), axis=0)
        lows: list[str] = []
        highs: list[str] = []
        for axis in (0, 1):
            centers = _counted(model, _part(model, cells, axis, axis + 1, 0))
            centers = add("Mul", centers, _number(model, anchors.stride[axis]))
            centers = add("Add", centers, _number(model, anchors.offset[axis]))
            centers = add("Reshape", centers, model.ints(*((-1, 1, 1) if axis == 0 else (1, -1, 1))))
            half = model.constant(np.float32(0.5) * np.array(sides[axis], np.float32), "anchors")
            for op, ends in (("Sub", lows), ("Add", highs)):
                ends.append(add("Unsqueeze", add("Expand", add(op, centers, half), shape), model.ints(3)))
        flat = add("Reshape", add("Concat", *lows, *highs, axis=3), model.ints(-1, 4))
        return self.clip(flat) if anchors.clip else flat

    def decode(self, codes: str, anchors: str, scales: Sequence[float]) -> str:
        """As `boxes.decode`, of codes (b, k, 4) and anchors (1, k, 4)."""
        model, add = self._model, self._model.add
        middle, extent = (_part(model, codes, i, i + 2, 2) for i in (0, 2))
        low, high = (_part(model, anchors, i, i + 2, 2) for i in (0, 2))
        first, last = (model.constant(np.array(values, np.float32)) for values in (scales[:2], scales[2:]))
        sizes, two = add("Sub", high, low), _number(model, 2)
        centers = add("Add", low, add("Div", sizes, two))
        half = add("Div", add("Mul", add("Exp", add("Div", extent, last)), sizes), two)
        middle = add("Add", add("Mul", add("Div", middle, first), sizes), centers)
        return add("Concat", add("Sub", middle, half), add("Add", middle, half), axis=2)

    def clip(self, boxes: str) -> str:
        """As `boxes.clip`, of boxes (..., 4)."""
        return self._model.add("Min", self._model.add("Max", boxes, _number(self._model, 0)), self.limits)

    def _has_area(self, boxes: str, rank: int) -> str:
        """Which boxes (..., 4) have an area: (...)."""
        model, add = self._model, self._model.add
        sides = add("Sub", *(_part(model, boxes, i, i + 2, rank - 1) for i in (2, 0)))
        return add("Greater", add("ReduceMin", sides, keepdims=0, axes=[rank - 1]), _number(model, 0))

    def suppress(self, boxes: str, scores: str, rule: Suppression) -> _Found:
        """As `boxes.suppress`, of boxes (classes or 1, k, 4) and scores (classes, k).

        Operators that sort do so by falling score, and ties by rising number: here too the lower class goes first, then
        the box that stands first.
        """
        model, add = self._model, self._model.add
        shape = add("Concat", add("Shape", scores), model.ints(4), axis=0)
        boxes = add("Expand", boxes, shape)
        if rule.clip_first:
            boxes = self.clip(boxes)
            scores = add("Where", self._has_area(boxes, 3), scores, _number(model, -1))
        thresholds = _number(model, rule.iou_threshold), _number(model, rule.score_threshold)
        most, shown = model.ints(rule.max_per_class), add("Unsqueeze", scores, model.ints(1))
        chosen = add("NonMaxSuppression", boxes, shown, most, *thresholds)
        classes, rows = (add("Reshape", _part(model, chosen, i, i + 1, 1), model.ints(-1)) for i in (0, 2))
        flat = add("Add", add("Mul", classes, _part(model, shape, 1, 2, 0)), rows)
        kept = add("Gather", self.clip(add("Reshape", boxes, model.ints(-1, 4))), flat, axis=0)
        values = add("Gather", add("Reshape", scores, model.ints(-1)), flat, axis=0)
        if not rule.clip_first:
            there = add("Reshape", add("NonZero", self._has_area(kept, 2)), model.ints(-1))
            kept, values, classes = (add("Gather", value, there, axis=0) for value in (kept, values, classes))
        count = add("Min", add("Shape", values), model.ints(rule.max_total))
        values, order = model.several("TopK", values, count, names=("scores", "order"), axis=0, largest=1, sorted=1)
        return _Found(add("Gather", kept, order, axis=0), values, add("Gather", classes, order, axis=0))


def onnx_files(parts: Parts, labels: Sequence[str]) -> dict[str, bytes]:
    """All that ONNX programs need of a model: the contents of files, by name.

    The three networks, the whole model, and `model.json` with inputs, outputs, anchors and rules.

    Raises
    ------
    ModelError
        If there is an op that has no translation.
    """
    fixed = parts.facts.resizer.fixed_wh[::-1] if parts.facts.resizer.kind == "fixed" else None
    networks = features_network(parts, fixed), box_head_network(parts), mask_head_network(parts), whole_network(parts)
    files = {f"{name}.onnx": data for name, data in zip((*NETWORKS, WHOLE), networks)}
    return {**files, "model.json": (json.dumps(_description(parts, labels), indent=1) + "\n").encode()}


def _description(parts: Parts, labels: Sequence[str]) -> dict[str, Any]:
    """What a program needs to know that runs the networks, as JSON has it."""
    facts = parts.facts
    height, width = facts.mask_size
    masks = [1 if facts.class_agnostic_masks else facts.classes, height, width]
    crops = {"features": [1, "channels", "rows", "columns"], "boxes": ["boxes", 4]}
    ports: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "features": (
            {"image": [1, 3, "height", "width"]},
            {"features": crops["features"], "proposal_codes": ["anchors", 4], "proposal_scores": ["anchors"]},
        ),
        "box_head": (crops, {"box_codes": ["boxes", "codes"], "class_scores": ["boxes", facts.classes]}),
        "mask_head": (crops, {"masks": ["boxes", *masks]}),
        WHOLE: (
            {"image_tensor": [1, "height", "width", 3]},
            {
                "num_detections": [1],
                "detection_boxes": [1, "detections", 4],
                "detection_scores": [1, "detections"],
                "detection_classes": [1, "detections"],
                "detection_masks": [1, "detections", height, width],
            },
        ),
    }
    assert set(ports) == {*NETWORKS, WHOLE}
    resizer = dataclasses.asdict(facts.resizer)
    return {
        "backbone": facts.backbone,
        "labels": list(labels),
        "image": {"channels": "RGB", "range": [0, 255], "resizer": resizer, "resized_inside": resizes(facts.resizer)},
        "anchors": dataclasses.asdict(facts.anchors),
        "first_stage": {**dataclasses.asdict(facts.first_stage), "scales": list(facts.first_scales)},
        "second_stage": {**dataclasses.asdict(facts.second_stage), "scales": list(facts.second_scales)},
        "networks": {
            name: {"file": f"{name}.onnx", "inputs": inputs, "outputs": outputs}
            for name, (inputs, outputs) in ports.items()
        },
    }
