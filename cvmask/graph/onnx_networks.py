"""Converts a frozen graph to three ONNX networks. The caller does the steps between them: anchors and suppression.

=========  ==================================  ==================================================================
network    inputs                              outputs
=========  ==================================  ==================================================================
features   image (1, 3, H, W)                  features (1, c, h, w), proposal_codes (n, 4), proposal_scores (n,)
box_head   features, boxes (k, 4)              box_codes (k, 4 or 4 a class), class_scores (k, classes)
mask_head  features, boxes (k, 4)              masks (k, classes or 1, mask height, width), in 0..1
=========  ==================================  ==================================================================

The image is RGB in 0..255, in the size that the resizer of the model gives. Codes are in the order y, x, height, width;
those of the n anchors go by rows, columns, anchors of a cell. Boxes are top, left, bottom, right in 0..1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.anatomy import Anatomy, Stage, dissect
from cvmask.graph.describe import facts_of, has_background
from cvmask.graph.facts import GraphFacts
from cvmask.graph.flow import Ref
from cvmask.graph.nodes import Graph, Node, understood
from cvmask.graph.numeric import Spatial, factor
from cvmask.graph.onnx import Model
from cvmask.graph.onnx_layers import OnnxLayers, Pair, Value

NETWORKS = ("features", "box_head", "mask_head")


@dataclass(frozen=True)
class Parts:
    """The anatomy and the numbers of a frozen graph."""

    anatomy: Anatomy
    facts: GraphFacts


def parts_of(graph: Graph) -> Parts:
    """Dissect a frozen Object Detection API Mask R-CNN.

    Raises
    ------
    ModelError
        If the graph is something else, or not understood.
    """
    with understood(graph.origin):
        anatomy = dissect(graph)
        return Parts(anatomy, facts_of(anatomy))


def features_network(parts: Parts, size: Pair | None = None) -> bytes:
    """Return the network `features` for pictures of this (height, width), or for any size if None.

    With a size the paddings are constants; it then also fits other sizes with the same paddings. For any size they are
    computed at run time, which copies some maps.

    Raises
    ------
    ModelError
        If an op cannot be converted.
    """
    model = Model("features")
    height, width = size if size and _is_fixed(parts) else ("height", "width")
    image = model.input("image", (1, 3, height, width))
    with understood(parts.anatomy.graph.origin):
        features, codes, scores = first_stage(parts, model, Value(image, 4, size))
    model.output("features", features.name, (1, "channels", "rows", "columns"))
    model.output("proposal_codes", codes, ("anchors", 4))
    model.output("proposal_scores", scores, ("anchors",))
    return model.bytes()


def box_head_network(parts: Parts) -> bytes:
    """Return the network `box_head`, for any number of boxes."""
    model = Model("box_head")
    features, boxes = _crop_inputs(model)
    with understood(parts.anatomy.graph.origin):
        codes, scores = second_stage(parts, model, features, boxes)
    model.output("box_codes", codes, ("boxes", "codes"))
    model.output("class_scores", scores, ("boxes", parts.facts.classes))
    return model.bytes()


def mask_head_network(parts: Parts) -> bytes:
    """Return the network `mask_head`, for any number of boxes."""
    model = Model("mask_head")
    features, boxes = _crop_inputs(model)
    with understood(parts.anatomy.graph.origin):
        masks = mask_stage(parts, model, features, boxes)
    count = 1 if parts.facts.class_agnostic_masks else parts.facts.classes
    model.output("masks", masks, ("boxes", count, *parts.facts.mask_size))
    return model.bytes()


def _is_fixed(parts: Parts) -> bool:
    return parts.facts.resizer.kind == "fixed"


def _crop_inputs(model: Model) -> tuple[str, str]:
    return model.input("features", (1, "channels", "rows", "columns")), model.input("boxes", ("boxes", 4))


def first_stage(parts: Parts, model: Model, image: Value) -> tuple[Value, str, str]:
    """Add the first stage: the feature map, and codes (n, 4) and scores (n,) of the n anchors."""
    anatomy = parts.anatomy
    layers = OnnxLayers(anatomy.flow, model)
    layers.give(anatomy.image.name, image)
    features = layers.emit(anatomy.features)
    codes = _by_anchor(model, layers.emit(anatomy.first.boxes).name, 4)
    logits = _by_anchor(model, _scaled(parts, layers, anatomy.first).name, 2)
    scores = _scores(model, logits, anatomy.first)
    column = model.add("Slice", scores, model.ints(1), model.ints(2), model.ints(1))
    return features, codes, model.add("Reshape", column, model.ints(-1))


def second_stage(parts: Parts, model: Model, features: str, boxes: str) -> tuple[str, str]:
    """Add the second stage: box codes and class scores, one row per box."""
    anatomy = parts.anatomy
    layers = OnnxLayers(anatomy.flow, model)
    assert anatomy.second.crop is not None
    _give_crop(anatomy, layers, anatomy.second.crop, features, boxes)
    codes = _rows(model, layers.emit(anatomy.second.boxes))
    scores = _scores(model, _rows(model, _scaled(parts, layers, anatomy.second)), anatomy.second)
    if has_background(anatomy.flow, anatomy.second):  # it is the first
        last = model.ints(parts.facts.classes + 1)
        scores = model.add("Slice", scores, model.ints(1), last, model.ints(1))
    return codes, scores


def mask_stage(parts: Parts, model: Model, features: str, boxes: str) -> str:
    """Add the mask head: one mask per box, or per box and class."""
    anatomy = parts.anatomy
    layers = OnnxLayers(anatomy.flow, model)
    _give_crop(anatomy, layers, anatomy.mask_crop, features, boxes)
    return model.add("Sigmoid", layers.emit(anatomy.masks).name)


def _by_anchor(model: Model, name: str, count: int) -> str:
    """Reshape a predictor's output to one row per anchor."""
    last = model.add("Transpose", name, perm=[0, 2, 3, 1])
    return model.add("Reshape", last, model.ints(-1, count))


def _rows(model: Model, value: Value) -> str:
    return value.name if value.rank == 2 else model.add("Flatten", value.name, axis=1)


def _scores(model: Model, logits: str, stage: Stage) -> str:
    return model.add("Softmax", logits, axis=-1) if stage.scores.op == "Softmax" else model.add("Sigmoid", logits)


def _scaled(parts: Parts, layers: OnnxLayers, stage: Stage) -> Value:
    """Add class predictions, times the constant that some releases multiply by before softmax."""
    flow, factors = parts.anatomy.flow, [1.0]

    def step(ref: Ref) -> Ref | None:
        if ref == stage.classes:
            return None
        node = flow.node(ref)
        factors.append(factor(flow, node) if node.op in ("Mul", "RealDiv") else 1.0)
        return next(other for other in flow.inputs(node) if flow.varies(other))

    flow.follow(flow.inputs(stage.scores)[0], step)
    value, scale = layers.emit(stage.classes), math.prod(factors)
    if scale == 1.0:
        return value
    name = layers.model.add("Mul", value.name, layers.model.constant(np.float32(scale)))
    return Value(name, value.rank, value.size)


def _give_crop(anatomy: Anatomy, layers: OnnxLayers, crop: Node, features: str, boxes: str) -> None:
    """Add a CropAndResize that reads its boxes from the value `boxes`."""
    if crop.get("extrapolation_value", "f", 0.0) or crop.text("method", "bilinear") != "bilinear":
        raise ModelError(f"{crop.name}: only bilinear crops with zeros outside are supported")
    size = Spatial(anatomy.flow).size((crop.name, 0))
    layers.give(crop.name, Value(crop_and_resize(layers.model, features, boxes, size), 4, size))


def crop_and_resize(model: Model, features: str, boxes: str, size: Pair) -> str:
    """Add TensorFlow's CropAndResize, as a RoiAlign with one sample per bin.

    Sample i of n lies at start + i step, with start = y1 (H - 1) and step = (y2 - y1) (H - 1) / (n - 1), in cells. One
    from start - step/2 + 1/2 over n bins of one step has its samples there. A sample outside the map is zero in
    TensorFlow, where rounding may put the last one of a box that ends at the border; RoiAlign takes the border's value.
    """
    add = model.add
    shape = add("Slice", add("Shape", features), model.ints(2), model.ints(4), model.ints(0))
    last = add("Sub", add("Cast", shape, to=1), model.constant(np.float32(1)))
    sides, inside = [], []
    for axis in (0, 1):
        low, high = (add("Slice", boxes, model.ints(i), model.ints(i + 1), model.ints(1)) for i in (axis, axis + 2))
        end = add("Slice", last, model.ints(axis), model.ints(axis + 1), model.ints(0))
        extent, start = add("Mul", add("Sub", high, low), end), add("Mul", low, end)
        gaps = max(size[axis] - 1, 1)
        step = add("Div", extent, model.constant(np.float32(gaps)))
        if size[axis] == 1:  # in the middle of the box
            start = add("Add", start, add("Mul", extent, model.constant(np.float32(0.5))))
            samples = start
        else:
            numbers = model.constant(np.arange(size[axis], dtype=np.float32)[None])
            samples = add("Add", start, add("Mul", step, numbers))
        half = add("Mul", step, model.constant(np.float32(0.5)))
        first = add("Add", add("Sub", start, half), model.constant(np.float32(0.5)))
        span = add("Mul", step, model.constant(np.float32(size[axis])))
        sides.append((first, add("Add", first, span)))
        inside.append(_inside(model, samples, end, (-1, 1, size[axis], 1) if axis == 0 else (-1, 1, 1, size[axis])))
    rois = add("Concat", sides[1][0], sides[0][0], sides[1][1], sides[0][1], axis=1)
    column = add("Mul", add("Slice", boxes, model.ints(0), model.ints(1), model.ints(1)), model.constant(np.float32(0)))
    batch = add("Cast", add("Reshape", column, model.ints(-1)), to=7)
    crops = add(
        "RoiAlign",
        features,
        rois,
        batch,
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=size[0],
        output_width=size[1],
        sampling_ratio=1,
        spatial_scale=1.0,
    )
    return add("Mul", crops, add("Mul", *inside))


def _inside(model: Model, samples: str, end: str, shape: tuple[int, int, int, int]) -> str:
    """Add a factor of that shape: 1 for samples in 0..end, 0 for others."""
    add = model.add
    above = add("LessOrEqual", samples, end)
    below = add("GreaterOrEqual", samples, model.constant(np.float32(0)))
    return add("Reshape", add("Cast", add("And", above, below), to=1), model.ints(*shape))
