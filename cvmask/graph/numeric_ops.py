"""What each op computes, on NumPy arrays: the ones that shapes, anchors and paddings are made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from cvmask.graph.nodes import Node
from cvmask.graph.tensors import NUMPY_DTYPES

Op = Callable[..., Any]
_MAX_ROWS = 1 << 25


def _cast(node: Node, x: Any) -> Any:
    return x.astype(NUMPY_DTYPES.get(node.get("DstT", "type", 1), "<f4"))


def _axes(node: Node, axes: Any) -> tuple[Any, bool]:
    keep = node.get("keep_dims", "b", False)
    return tuple(int(a) for a in np.atleast_1d(axes)), bool(keep)


def _reduce(function: Callable[..., Any]) -> Op:
    def apply(node: Node, x: Any, axes: Any) -> Any:
        axis, keep = _axes(node, axes)
        return function(x, axis=axis, keepdims=keep).astype(x.dtype)

    return apply


def _fill(node: Node, dims: Any, value: Any) -> Any:
    return np.broadcast_to(value, [int(d) for d in dims])


def _range(node: Node, start: Any, limit: Any, delta: Any) -> Any:
    if delta == 0 or abs((limit - start) / delta) > _MAX_ROWS:
        raise ValueError(f"a range from {start} to {limit} by {delta}")
    return np.arange(start, limit, delta).astype(start.dtype)


def _split(node: Node, axis: Any, x: Any) -> Any:
    return np.split(x, node.get("num_split", "i", 1), int(axis))


def _unpack(node: Node, x: Any) -> Any:
    axis = node.get("axis", "i", 0)
    return [np.take(x, i, axis) for i in range(x.shape[axis])]


def _squeeze(node: Node, x: Any) -> Any:
    return np.squeeze(x, tuple(node.ints("squeeze_dims")) or None)


def _slice(node: Node, x: Any, begin: Any, size: Any) -> Any:
    ends = [None if s < 0 else b + s for b, s in zip(begin, size)]
    return x[tuple(slice(b, e) for b, e in zip(begin, ends))]


def _strided_slice(node: Node, x: Any, begin: Any, end: Any, strides: Any) -> Any:
    masks = {
        name: node.get(f"{name}_mask", "i", 0)
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    index: list[Any] = []
    for i, (b, e, s) in enumerate(zip(begin, end, strides)):
        if masks["ellipsis"] >> i & 1:
            index.append(Ellipsis)
        elif masks["new_axis"] >> i & 1:
            index.append(None)
        elif masks["shrink_axis"] >> i & 1:
            index.append(int(b))
        else:
            first, last = masks["begin"] >> i & 1, masks["end"] >> i & 1
            index.append(slice(None if first else int(b), None if last else int(e), int(s)))
    return np.asarray(x[tuple(index)])


def _divide(node: Node, x: Any, y: Any) -> Any:
    if x.dtype.kind in "iu":
        return np.floor_divide(x, y)
    return np.true_divide(x, y).astype(x.dtype)


def _round_half_even(node: Node, x: Any) -> Any:
    return np.rint(x).astype(x.dtype)


OPS: dict[str, Op] = {
    "Cast": _cast,
    "Fill": _fill,
    "Range": _range,
    "Split": _split,
    "Unpack": _unpack,
    "Squeeze": _squeeze,
    "Slice": _slice,
    "StridedSlice": _strided_slice,
    "RealDiv": _divide,
    "Div": _divide,
    "Round": _round_half_even,
    "Rint": _round_half_even,
    "Add": lambda n, x, y: x + y,
    "AddV2": lambda n, x, y: x + y,
    "AddN": lambda n, *xs: sum(xs),
    "Sub": lambda n, x, y: x - y,
    "Mul": lambda n, x, y: x * y,
    "FloorDiv": lambda n, x, y: x // y,
    "FloorMod": lambda n, x, y: x % y,
    "Mod": lambda n, x, y: np.fmod(x, y),
    "Pow": lambda n, x, y: x**y,
    "Maximum": lambda n, x, y: np.maximum(x, y),
    "Minimum": lambda n, x, y: np.minimum(x, y),
    "Neg": lambda n, x: -x,
    "Exp": lambda n, x: np.exp(x),
    "Log": lambda n, x: np.log(x),
    "Sqrt": lambda n, x: np.sqrt(x),
    "Rsqrt": lambda n, x: 1 / np.sqrt(x),
    "Square": lambda n, x: x * x,
    "Reciprocal": lambda n, x: 1 / x,
    "Floor": lambda n, x: np.floor(x),
    "Ceil": lambda n, x: np.ceil(x),
    "Greater": lambda n, x, y: x > y,
    "GreaterEqual": lambda n, x, y: x >= y,
    "Less": lambda n, x, y: x < y,
    "LessEqual": lambda n, x, y: x <= y,
    "Equal": lambda n, x, y: x == y,
    "NotEqual": lambda n, x, y: x != y,
    "LogicalAnd": lambda n, x, y: x & y,
    "LogicalOr": lambda n, x, y: x | y,
    "LogicalNot": lambda n, x: ~x,
    "Select": lambda n, c, x, y: np.where(c, x, y),
    "SelectV2": lambda n, c, x, y: np.where(c, x, y),
    "Max": _reduce(np.max),
    "Min": _reduce(np.min),
    "Sum": _reduce(np.sum),
    "Prod": _reduce(np.prod),
    "Mean": _reduce(np.mean),
    "All": _reduce(np.all),
    "Any": _reduce(np.any),
    "ZerosLike": lambda n, x: np.zeros_like(x),
    "OnesLike": lambda n, x: np.ones_like(x),
    "Pack": lambda n, *xs: np.stack(np.broadcast_arrays(*xs), n.get("axis", "i", 0)),
    "ConcatV2": lambda n, *xs: np.concatenate(xs[:-1], int(xs[-1])),
    "Concat": lambda n, axis, *xs: np.concatenate(xs, int(axis)),
    "ExpandDims": lambda n, x, axis: np.expand_dims(x, int(axis)),
    "Reshape": lambda n, x, shape: np.reshape(x, [int(s) for s in shape]),
    "Transpose": lambda n, x, perm: np.transpose(x, perm),
    "Tile": lambda n, x, reps: np.tile(x, reps),
    "BroadcastTo": lambda n, x, shape: np.broadcast_to(x, shape),
    "Gather": lambda n, x, i: np.take(x, i, 0),
    "GatherV2": lambda n, x, i, axis: np.take(x, i, int(axis)),
    "Where": lambda n, x: np.argwhere(x),
    "Pad": lambda n, x, pads: np.pad(x, pads),
}
