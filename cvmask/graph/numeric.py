"""Evaluates small parts of a graph, with a made-up picture in place of the real one.

Anchors, paddings and the size of the resized picture are computed at run time, and each release does
that with other nodes. Evaluating the nodes is more reliable than matching patterns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.flow import ARRAYS, READS, RELAYS, STACKS, WRITES, Flow, Ref, array_of
from cvmask.graph.nodes import NUMPY_DTYPES, Node

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


Array = npt.NDArray[Any]
_MAX_ELEMENTS = 1 << 25
_MAX_TOTAL = 1 << 27  # limit of one evaluation: a few bytes in a file can ask for any number of elements


def _most_elements(op: str, arrays: Sequence[Array]) -> int:
    """Return an upper limit of the result's elements, before anything is allocated."""
    sizes = [array.size for array in arrays]
    if op in ("Tile", "Pad") and len(arrays) > 1:
        extra = np.abs(arrays[1].astype(np.float64))
        sides = extra * arrays[0].shape if op == "Tile" else extra.sum(axis=-1) + arrays[0].shape
        return int(min(np.prod(sides), 1e18))
    if op.startswith("Gather"):
        return int(sizes[0] * sizes[1] // max(arrays[0].shape[0], 1))
    try:
        together = math.prod(np.broadcast_shapes(*(array.shape for array in arrays)))
    except ValueError:  # ops other than elementwise ones
        together = 0
    return max(together * len(arrays) if op == "Pack" else together, sum(sizes))


class _NotTaken(Exception):
    """The value comes from a branch that is not taken."""


class Numeric:
    """Evaluates references.

    Parameters
    ----------
    flow
        The graph.
    given
        Arrays in place of nodes' outputs, by name.
    shape_of
        Returns the shape of a node's output without its values, None if it is unknown.
    instead
        Functions to use instead of those of `OPS`.
    """

    def __init__(
        self,
        flow: Flow,
        given: Mapping[str, Array] | None = None,
        shape_of: Callable[[str], tuple[int, ...] | None] = lambda name: None,
        instead: Mapping[str, Op] | None = None,
    ) -> None:
        self._flow, self._given, self._shape_of = flow, given or {}, shape_of
        self._ops = {**OPS, **(instead or {})}
        self._known: dict[Ref, Array] = {}
        self._not_taken: set[Ref] = set()
        self._left = _MAX_TOTAL

    def value(self, ref: Ref) -> Array:
        """Evaluate an output.

        Raises
        ------
        ModelError
            If it depends on an unknown value, or on an op that is not in `OPS`.
        """
        try:
            return self._value(ref)
        except _NotTaken:
            raise ModelError(f"{ref[0]}: none of its branches is taken") from None
        except RecursionError:
            raise ModelError(f"{ref[0]}: nested too deep to be evaluated") from None

    def flat(self, refs: Iterable[Ref]) -> list[Array]:
        """Evaluate several outputs, each flattened."""
        return [self.value(ref).reshape(-1) for ref in refs]

    def _value(self, ref: Ref) -> Array:
        if ref in self._not_taken:
            raise _NotTaken
        if ref not in self._known:
            try:
                array: Array = self._compute(ref)
            except _NotTaken:
                self._not_taken.add(ref)
                raise
            if array.size > _MAX_ELEMENTS:
                raise ModelError(f"{ref[0]}: {array.size} elements are too many to be a constant")
            self._known[ref] = array
        return self._known[ref]

    def _compute(self, ref: Ref) -> Array:
        node = self._flow.node(ref)
        if ref[0] in self._given:
            return self._given[ref[0]]
        if node.op == "Const":
            return node.array()
        if node.op in ("Shape", "Size", "Rank"):
            shape = self._shape(self._flow.refs(node)[0])
            number = {"Size": math.prod(shape), "Rank": len(shape)}.get(node.op, shape)
            return np.asarray(number, np.int32)
        if node.op in RELAYS or node.op in ("Merge", "Exit") or node.op.startswith(ARRAYS):
            return self._relay(ref, node)
        return self._apply(ref, node)

    def _apply(self, ref: Ref, node: Node) -> Array:
        function = self._ops.get(node.op)
        if function is None:
            raise ModelError(f"{node.name}: a {node.op} cannot be evaluated")
        arrays = [self._value(other) for other in self._flow.refs(node)]
        self._left -= _most_elements(node.op, arrays)
        if self._left < 0:
            raise ModelError(f"{node.name}: evaluating it takes more than {_MAX_TOTAL} elements")
        try:
            with np.errstate(all="ignore"):
                results = function(node, *arrays)
        except (ValueError, IndexError, TypeError, MemoryError, OverflowError) as error:
            raise ModelError(f"{node.name}: {error}") from None
        outputs = results if isinstance(results, list) else [results]
        for index, array in enumerate(outputs):
            self._known[(node.name, index)] = np.asarray(array)
        if ref not in self._known:
            raise ModelError(f"{node.name}: a {node.op} has no output {ref[1]}")
        return self._known[ref]

    def _relay(self, ref: Ref, node: Node) -> Array:
        refs = self._flow.refs(node)
        if node.op == "Merge" and not any(self._flow.node(r).op == "NextIteration" for r in refs):
            return self._branch(refs)
        if node.op in ("Switch", "RefSwitch") and self._flow.node(refs[1]).op != "LoopCond":
            if bool(self._value(refs[1])) != bool(ref[1]):
                raise _NotTaken
            return self._value(refs[0])
        before = self._flow.step(ref)
        if before is None:
            raise ModelError(f"{node.name}: a {node.op} cannot be evaluated")
        array = self._value(before)
        if node.op.startswith(STACKS):
            return array[None]
        return array[0] if node.op.startswith(READS) and self._unpacked(node) else array

    def _unpacked(self, node: Node) -> bool:
        """Return True if the array was filled from the rows of one tensor."""
        array = self._flow.node(self._flow.origin(array_of(node, self._flow.refs(node))))
        return not array.op.startswith(WRITES)

    def _branch(self, refs: list[Ref]) -> Array:
        for ref in refs:
            try:
                return self._value(ref)
            except _NotTaken:
                continue
        raise _NotTaken

    def _shape(self, ref: Ref) -> tuple[int, ...]:
        """Return the shape of an output, without computing its values if possible."""
        node = self._flow.node(ref)
        if ref[0] in self._given:
            return self._given[ref[0]].shape
        if ref not in self._known and node.op != "Const":
            known = self._shape_of(ref[0])
            if known is not None:
                return known
            refs = self._flow.refs(node)
            if node.op in ("Cast", "Identity", "Enter"):
                return self._shape(refs[0])
            if node.op.startswith(READS):
                before = self._flow.step(ref)
                if before is not None and self._unpacked(node):
                    return self._shape(before)[1:]
        return self._value(ref).shape


def channels(flow: Flow, ref: Ref) -> int:
    """Return the number of output channels of a layer with a bias."""
    node = flow.node(ref)
    if node.op in ("BiasAdd", "Add", "AddV2"):
        constants = [other for other in flow.inputs(node) if not flow.varies(other)]
        return int(Numeric(flow).value(constants[0]).size) if constants else 0
    weights = Numeric(flow).value(flow.inputs(node)[1])
    return int(weights.shape[-2] if node.op == "Conv2DBackpropInput" else weights.shape[-1])


def constant(flow: Flow, ref: Ref) -> float | None:
    """Return the number that a reference holds, None if it holds anything else."""
    if flow.varies(ref):
        return None
    try:
        array = Numeric(flow).value(ref)
    except ModelError:
        return None
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else None


def factor(flow: Flow, node: Node) -> float:
    """Return the constant factor by which a Mul or RealDiv scales its other input, 1.0 if there is none."""
    values = [constant(flow, ref) for ref in flow.inputs(node)]
    known = [value for value in values if value is not None]
    if len(known) != 1 or len(values) != 2:
        return 1.0
    return known[0] if node.op == "Mul" else 1.0 / known[0]


_WINDOWED = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")
_RESIZES = ("ResizeBilinear", "ResizeNearestNeighbor")


class Spatial:
    """Computes sizes of feature maps in cells, (height, width)."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[str, tuple[int, int]] = {}

    def size(self, ref: Ref) -> tuple[int, int]:
        """Return the size of an output.

        Raises
        ------
        ModelError
            If it depends on the picture, or on an op that is not supported.
        """
        flow = self._flow
        for node in flow.order([ref], self._needs):
            if node.name not in self._known:
                self._known[node.name] = self._size(node)
        return self._known[flow.origin(ref)[0]]

    def _needs(self, node: Node) -> list[Ref]:
        if node.op == "CropAndResize" or node.name in self._known:
            return []
        refs = self._flow.inputs(node)
        if node.op in _RESIZES:
            return self._measured(refs[1])
        index = 2 if node.op == "Conv2DBackpropInput" else 0
        varying = [ref for ref in refs[index:] if self._flow.varies(ref)]
        if not varying:
            raise ModelError(f"{node.name}: its size depends on the picture")
        return varying[:1]

    def _measured(self, ref: Ref) -> list[Ref]:
        """Return the outputs whose shapes a size is computed from."""
        found: list[Ref] = []
        todo, seen = [ref], set()
        while todo:
            ref = todo.pop()
            if ref in seen or not self._flow.varies(ref):
                continue
            seen.add(ref)
            node = self._flow.node(ref)
            if node.op == "Placeholder":
                raise ModelError(f"{node.name}: its size depends on the picture")
            inputs = self._flow.inputs(node)
            (found if node.op == "Shape" else todo).extend(inputs)
        return found

    def _size(self, node: Node) -> tuple[int, int]:
        flow = self._flow
        if node.op == "CropAndResize":
            return self._pair(node, flow.inputs(node)[3])
        if node.op in _RESIZES:
            return self._pair(node, flow.inputs(node)[1])
        height, width = self._known[self._needs(node)[0][0]]
        if node.op == "Conv2DBackpropInput":
            _, down, right, _ = node.ints("strides", (1, 1, 1, 1))
            return self._deconvolved(node, (height, width), (down, right))
        if node.op in _WINDOWED:
            return self._windowed(node, (height, width))
        if node.op == "Pad":
            pads = Numeric(flow).value(flow.inputs(node)[1])
            return height + int(pads[1].sum()), width + int(pads[2].sum())
        return height, width

    def _pair(self, node: Node, ref: Ref) -> tuple[int, int]:
        given = Numeric(self._flow, shape_of=self._shape_of).value(ref).reshape(-1)
        if given.size != 2:
            raise ModelError(f"{node.name}: needed a height and a width, got {given.tolist()}")
        return int(given[0]), int(given[1])

    def _shape_of(self, name: str) -> tuple[int, ...] | None:
        return (1, *self._known[name], 1) if name in self._known else None

    def _kernel(self, node: Node) -> tuple[int, int]:
        if node.op in ("MaxPool", "AvgPool"):
            _, height, width, _ = node.ints("ksize", (1, 1, 1, 1))
        else:
            height, width, *_ = Numeric(self._flow).value(self._flow.inputs(node)[1]).shape
        return int(height), int(width)

    def _windowed(self, node: Node, size: tuple[int, int]) -> tuple[int, int]:
        _, *steps, _ = node.ints("strides", (1, 1, 1, 1))
        _, *holes, _ = node.ints("dilations", (1, 1, 1, 1))
        if node.text("padding") == "SAME":
            return -(-size[0] // steps[0]), -(-size[1] // steps[1])
        reach = [(k - 1) * d for k, d in zip(self._kernel(node), holes)]
        return (size[0] - reach[0] - 1) // steps[0] + 1, (size[1] - reach[1] - 1) // steps[1] + 1

    def _deconvolved(self, node: Node, size: tuple[int, int], steps: tuple[int, int]) -> tuple[int, int]:
        output = self._flow.inputs(node)[0]
        if not self._flow.varies(output):
            shape = Numeric(self._flow).value(output).reshape(-1)
            return int(shape[1]), int(shape[2])
        height, width = self._kernel(node) if node.text("padding") == "VALID" else steps
        return size[0] * steps[0] + max(height - steps[0], 0), size[1] * steps[1] + max(width - steps[1], 0)
