"""Finds anchors and resizer by evaluating the graph for made-up pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.anatomy import Anatomy
from cvmask.graph.facts import Anchors, Resizer
from cvmask.graph.flow import ARRAYS, Flow, Ref
from cvmask.graph.nodes import Node, RefusedError
from cvmask.graph.numeric import Numeric, Op, Spatial, channels

Array = npt.NDArray[Any]
_CELLS = (24, 20)  # height and width of the made-up feature map
_FAR = 1 << 20  # height and width of the made-up picture: nothing is clipped below or to the right
_MAPS = (
    "Conv2D",
    "BiasAdd",
    "Relu",
    "Relu6",
    "Elu",
    "FusedBatchNorm",
    "FusedBatchNormV2",
    "FusedBatchNormV3",
)
_METHODS = {
    "ResizeBilinear": "bilinear",
    "ResizeNearestNeighbor": "nearest",
    "ResizeBicubic": "bicubic",
    "ResizeArea": "area",
}
_OTHER_RESIZES = ("ScaleAndTranslate", "CropAndResize")
_PICTURES = ((100, 100), (100, 3000), (3000, 100), (480, 640), (1200, 900), (37, 53), (9, 12), (300, 30000))


def anchors_of(parts: Anatomy) -> Anchors:
    """Return the anchors of the first stage.

    Raises
    ------
    ModelError
        If they do not form a regular grid, the only kind that OpenCV's PriorBox makes.
    """
    refs, cells = _decoder_refs(parts), _cells(parts)
    y, x, h, w = _grid(parts, refs, cells, _UNCLIPPED)
    stride = ((y[-1, 0, 0] - y[0, 0, 0]) / (cells[0] - 1), (x[0, -1, 0] - x[0, 0, 0]) / (cells[1] - 1))
    grid = np.stack(
        [y - np.arange(cells[0])[:, None, None] * stride[0], x - np.arange(cells[1])[:, None] * stride[1]]
    )
    if min(stride) <= 0 or any(np.ptp(part) > 1e-2 for part in (grid[0], grid[1])):
        raise RefusedError(f"{parts.graph.origin}: the anchors do not form a regular grid")
    clipped = _grid(parts, refs, cells, {})
    return Anchors(
        heights=_means(h),
        widths=_means(w),
        stride=(round(float(stride[0]), 4), round(float(stride[1]), 4)),
        offset=(round(float(grid[0].mean()), 3), round(float(grid[1].mean()), 3)),
        clip=not np.allclose(clipped[2], h, atol=1e-2) or not np.allclose(clipped[3], w, atol=1e-2),
    )


def _cells(parts: Anatomy) -> tuple[int, int]:
    """Return height and width of the feature map: built into a model for one picture size, else made up."""
    try:
        built_in = Spatial(parts.flow).size(parts.features)
    except ModelError:
        return _CELLS
    return built_in if min(built_in) > 1 else _CELLS


def _grid(parts: Anatomy, refs: list[Ref], cells: tuple[int, int], instead: Mapping[str, Op]) -> list[Array]:
    """Return centre y, centre x, height and width in pixels, each of shape (rows, columns, anchors)."""
    found, halved = (_made_up(parts, cells, instead, far).flat(refs) for far in (_FAR, _FAR // 2))
    if found[2].size and np.allclose(halved[2], 2 * found[2], rtol=1e-3, atol=0):
        found = [array * _FAR for array in found]  # relative to the picture
    if any(array.size % (cells[0] * cells[1]) for array in found):
        raise ModelError(
            f"{parts.graph.origin}: {found[0].size} anchors do not fit {cells[0]} by {cells[1]} cells"
        )
    return [np.asarray(array, np.float64).reshape(*cells, -1) for array in found]


def _means(grid: Array) -> tuple[float, ...]:
    """Return the mean over all cells, which removes the rounding of 32-bit coordinates."""
    return tuple(float(np.float32(value)) for value in grid.mean(axis=(0, 1)))


def _decoder_refs(parts: Anatomy) -> list[Ref]:
    """Return the references to centre y, centre x, height and width of the anchors in the box decoder."""
    flow, stage = parts.flow, parts.first
    sizes: dict[int, Ref] = {}
    for exp in stage.exps:
        sizes[_output_read(flow, exp.name, stage.decoder)] = _partner(flow, (exp.name, 0), ("Mul",))[1]
    if set(sizes) != {2, 3}:
        raise ModelError(f"{parts.graph.origin}: the box decoder {stage.decoder.name} is not understood")
    centers = [_center(flow, stage.decoder, axis, sizes[2 + axis]) for axis in (0, 1)]
    return [*centers, sizes[2], sizes[3]]


def _made_up(parts: Anatomy, cells: tuple[int, int], instead: Mapping[str, Op], far: int) -> Numeric:
    """Evaluate the graph with a feature map of these cells, a picture `far` high and wide, and box codes of zero."""
    flow, features = parts.flow, parts.features[0]
    before = flow.graph.ancestors([features]) - {features}
    behind = flow.descendants([features])
    codes = np.zeros((1, *cells, channels(flow, parts.first.boxes)), np.float32)

    def shape_of(name: str) -> tuple[int, ...] | None:
        node = flow.graph[name]
        if name == features or (name in behind and node.op in _MAPS):
            return (1, *cells, 1)
        image = name in before and flow.varies((name, 0)) and not node.op.startswith(ARRAYS)
        return (1, far, far, 3) if image else None

    return Numeric(flow, {parts.first.boxes[0]: codes}, shape_of, instead)


def _longer(node: Node, x: Array, y: Array) -> Array:
    """Replaces the minimum or maximum of boxes and a border: the boxes, unclipped."""
    return x if x.size >= y.size else y


def _output_read(flow: Flow, name: str, decoder: Node) -> int:
    """Return the index of the decoder's output that a node reads, scaled or not."""


    def step(ref: Ref) -> Ref | None:
        if ref[0] == decoder.name:
            return None
        return next(other for other in flow.inputs(flow.node(ref)) if flow.varies(other))

    return flow.follow((name, 0), step)[1]


def _partner(flow: Flow, ref: Ref, ops: tuple[str, ...], other: Ref | None = None) -> tuple[Node, Ref]:
    """Return the node of one of `ops` that combines `ref` with another reference, and that reference."""
    for reader in flow.readers.get(ref[0], ()):
        inputs = flow.inputs(reader)
        if reader.op in ops and len(inputs) == 2 and ref in inputs:
            found = inputs[1 - inputs.index(ref)]
            if other is None or found == other:
                return reader, found
    raise ModelError(f"{ref[0]}: the box decoder is not understood")


def _center(flow: Flow, decoder: Node, axis: int, size: Ref) -> Ref:
    """Return the anchors' centres: the term added to code times size."""
    ref: Ref = (decoder.name, axis)
    for reader in flow.readers.get(decoder.name, ()):
        if reader.op in ("RealDiv", "Mul") and ref in flow.inputs(reader) and size not in flow.inputs(reader):
            ref = (reader.name, 0)
            break
    product, _ = _partner(flow, ref, ("Mul",), size)
    return _partner(flow, (product.name, 0), ("Add", "AddV2"))[1]


_UNCLIPPED: dict[str, Op] = {"Minimum": _longer, "Maximum": _longer}


def check_padding(parts: Anatomy) -> None:
    """Raise ModelError if the graph pads pictures to one size, which is not supported."""
    flow = parts.flow
    cure = (
        "export with pad_to_max_dimension: false in its keep_aspect_ratio_resizer, or without a pad_to_multiple_resizer"
    )
    behind, numeric = _behind_layers(parts), Numeric(flow)
    for name in flow.graph.ancestors([parts.features[0]]):
        node = flow.graph[name]
        if node.op in ("Pad", "PadV2") and flow.varies(flow.inputs(node)[1]):
            raise RefusedError(
                f"{parts.graph.origin}: {name} pads each picture to a fixed size; {cure}"
            )
        readers = {reader.op for reader in flow.graph.consumers.get(name, ())}
        is_of_layer = readers <= {"Conv2D", "DepthwiseConv2dNative"}  # the layer's own padding
        if node.op in ("Pad", "PadV2") and not is_of_layer and node.name not in behind:
            pads = numeric.value(flow.inputs(node)[1]).reshape(-1, 2)
            if (pads[:, 1] > pads[:, 0]).any():
                raise RefusedError(f"{parts.graph.origin}: {name} pads the picture; {cure}")


def check_colours(parts: Anatomy) -> None:
    """Raise ModelError if the graph converts pictures to grayscale, which is not supported."""
    behind = _behind_layers(parts)
    for name in parts.graph.ancestors([parts.features[0]]):
        node = parts.graph[name]
        if node.op in ("Conv2D", "DepthwiseConv2dNative") and node.name not in behind:
            count = Numeric(parts.flow).value(parts.flow.inputs(node)[1]).shape[2]
            if count != 3:
                raise RefusedError(
                    f"{parts.graph.origin}: its first layer {name} reads {count} channels, needed 3; "
                    "export without convert_to_grayscale in its resizer"
                )


def resizer_of(parts: Anatomy) -> Resizer:
    """Return how the graph resizes the picture before the first layer."""
    flow = parts.flow
    before, behind = flow.graph.ancestors([parts.features[0]]), _behind_layers(parts)
    nodes = [flow.graph[name] for name in before if flow.graph[name].op in _METHODS]
    nodes = [node for node in nodes if node.name not in behind]
    others = [flow.graph[name] for name in before if flow.graph[name].op in _OTHER_RESIZES]
    odd = next((node for node in others if node.name not in behind), None)
    if odd is not None:
        raise RefusedError(f"{parts.graph.origin}: {odd.name} resizes with {odd.op}; {_KNOWN}")
    if not nodes:
        return Resizer("none")
    node = nodes[0]
    if len({other.op for other in nodes}) > 1:
        raise RefusedError(f"{parts.graph.origin}: {node.name} and other nodes resize in different ways; {_KNOWN}")
    corners, half = node.get("align_corners", "b", False), node.get("half_pixel_centers", "b", False)
    sampling = "align_corners" if corners else "half_pixel" if half else "legacy"
    plain = Resizer("none", sampling=sampling, method=_METHODS[node.op])
    sizes = [_resized(parts, nodes, picture) for picture in _PICTURES]
    known = [size for size in sizes if size is not None]
    found = _recognised(known, plain) if len(known) == len(sizes) else None
    if found is None:
        picture, size = _PICTURES[3], sizes[3]
        became = f"a picture of 640x480 becomes {size[1]}x{size[0]}" if size else f"no size is known for {picture}"
        raise RefusedError(f"{parts.graph.origin}: {node.name} resizes in an unknown way: {became}; {_KNOWN}")
    return found


_KNOWN = "export with a keep_aspect_ratio_resizer, fixed_shape_resizer, conditional_shape_resizer or identity_resizer"


def _behind_layers(parts: Anatomy) -> set[str]:
    """Return the names of all nodes behind a convolution, direct or indirect."""
    convolutions = [node for node in parts.graph if node.op in ("Conv2D", "DepthwiseConv2dNative")]
    fed = {reader.name for node in convolutions for reader in parts.graph.consumers.get(node.name, ())}
    return parts.graph.descendants(fed)


def _resized(parts: Anatomy, nodes: list[Node], picture: tuple[int, int]) -> tuple[int, int] | None:
    """Return the size to which a picture is resized, by whichever branch is taken for it."""
    image = np.broadcast_to(np.uint8(0), (1, *picture, 3))
    numeric = Numeric(parts.flow, {parts.image.name: image})
    for node in nodes:
        try:
            size = numeric.value(parts.flow.refs(node)[1])
            return int(size[0]), int(size[1])
        except ModelError:
            continue
    return None


def _recognised(sizes: list[tuple[int, int]], plain: Resizer) -> Resizer | None:
    if sizes == list(_PICTURES):
        return plain
    if len(set(sizes)) == 1:
        height, width = sizes[0]
        return replace(plain, kind="fixed", fixed_wh=(width, height))
    longest = max(max(size) for size in sizes)
    shortest = min(min(size) for size in sizes)
    for resizer in (
        replace(plain, kind="keep_aspect_ratio", min_dimension=min(sizes[0]), max_dimension=longest),
        replace(plain, kind="at_most", max_dimension=longest),
        replace(plain, kind="at_least", min_dimension=shortest),
    ):
        gaps = np.subtract([resizer.target_wh(picture[::-1])[::-1] for picture in _PICTURES], sizes)
        if np.abs(gaps).max() <= 1:
            return resizer
    return None
