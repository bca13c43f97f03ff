"""Translates the layers of a frozen graph one by one into ONNX, with channels first and paddings as numbers.

`auto_pad` is not used: OpenCV 5.0 computes it wrongly for layers with a stride. Constants that scale or shift the
result of a convolution or matrix multiplication, such as a batch norm, become part of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.layers import BEFORE_LAYERS, NORMS, RELAYOUT, RESIZES, dilation
from cvmask.graph.nodes import Node
from cvmask.graph.numeric import Numeric, Spatial
from cvmask.graph.onnx import Model

Array = npt.NDArray[Any]
Pair = tuple[int, int]
_SAME = {"Relu": "Relu", "Elu": "Elu", "Tanh": "Tanh", "Sigmoid": "Sigmoid", "Exp": "Exp", "Abs": "Abs"}
_SUMS = {"BiasAdd": "Add", "Add": "Add", "AddV2": "Add", "AddN": "Sum", "Sub": "Sub", "Mul": "Mul", "RealDiv": "Div"}
_WEIGHTED = ("Conv2D", "DepthwiseConv2dNative", "MatMul", "Conv2DBackpropInput")
_LOWEST = np.finfo(np.float32).min


@dataclass(frozen=True)
class Value:
    """The output of a translated node: `size` is (height, width) if known, `rank` is 4 for maps and 2 for rows."""

    name: str
    rank: int = 4
    size: Pair | None = None


class _Affine(NamedTuple):
    """scale * x + shift, with one number per channel or one for all; `source` names the node that gives x."""

    source: str
    scale: Array
    shift: Array


class OnnxLayers:
    """Adds translated nodes to a model.

    Parameters
    ----------
    flow
        The frozen graph.
    model
        The model that gets the nodes.
    """

    def __init__(self, flow: Flow, model: Model) -> None:
        self.flow, self.model = flow, model
        self._values: dict[str, Value] = {}
        self._spatial = Spatial(flow)
        self._behind_layers = flow.descendants(node.name for node in flow.graph if node.op in _WEIGHTED)
        self._affines: dict[str, _Affine | None] = {}

    def give(self, name: str, value: Value) -> None:
        """Use a value as the output of the node of that name."""
        self._values[name] = value

    def emit(self, ref: Ref) -> Value:
        """Translate `ref` and all it needs; return its value.

        Raises
        ------
        ModelError
            If an op is not supported.
        """
        for node in self.flow.order([ref], self._needs):
            if node.name not in self._values:
                self._values[node.name] = self._translate(node)
        return self._values[self.flow.origin(ref)[0]]

    def _needs(self, node: Node) -> list[Ref]:
        if node.name in self._values:
            return []
        affine = self._affine(node)
        if affine is None:
            return self._sources(node)
        if affine.source in self._values:
            return []
        source = self.flow.graph[affine.source]
        return self._sources(source) if source.op in _WEIGHTED else [(affine.source, 0)]

    def _read(self, node: Node) -> list[Value]:
        return [self._values[ref[0]] for ref in self._sources(node)]

    def _sources(self, node: Node) -> list[Ref]:
        """Return the inputs of a node that depend on the picture."""
        refs = self.flow.inputs(node)
        if node.op in ("Conv2D", "DepthwiseConv2dNative"):
            return [self._before_padding(node)[0]]
        if node.op in _SUMS or node.op in ("ConcatV2", "Concat"):
            return [ref for ref in refs if self.flow.varies(ref)]
        return refs[2:3] if node.op == "Conv2DBackpropInput" else [r for r in refs if self.flow.varies(r)][:1]

    def _translate(self, node: Node) -> Value:
        affine = self._affine(node)
        if affine is not None:
            return self._scaled(node, affine)
        if node.op in _WEIGHTED:
            return self._weighted(node, node, np.float64(1), np.float64(0))
        inputs = self._read(node)
        if not inputs:
            raise ModelError(f"{node.name}: a {node.op} that does not depend on the picture")
        if node.op in BEFORE_LAYERS and node.name not in self._behind_layers:
            return inputs[0]  # the runtime has already resized the picture
        if node.op in ("SpaceToBatchND", "BatchToSpaceND"):
            return inputs[0]  # expressed as dilations of the convolution between them
        if node.op in _SAME:
            return self._like(inputs[0], _SAME[node.op], node)
        for ops, method in self._METHODS:
            if node.op in ops:
                return method(self, node, inputs)
        raise ModelError(f"{node.name}: a {node.op} cannot be converted to ONNX")

    def _like(self, x: Value, op: str, node: Node, *more: str, **attributes: Any) -> Value:
        """Add a node whose output has the shape of its input."""
        return Value(self.model.add(op, x.name, *more, name=node.name, **attributes), x.rank, x.size)

    # Constants that scale and shift

    def _affine(self, node: Node) -> _Affine | None:
        """Return the chain of scales and shifts that ends in this node and its input, None if there is no chain."""
        if node.name not in self._affines:
            self._affines[node.name] = self._find_affine(node)
        return self._affines[node.name]

    def _find_affine(self, node: Node) -> _Affine | None:
        scale, shift = np.float64(1), np.float64(0)
        at = node
        while (step := self._step(at)) is not None:
            before, factor, term = step
            scale, shift = scale * factor, shift + scale * term
            at = self.flow.node(before)
            if at.name in self._values or len(self.flow.readers.get(at.name, ())) > 1:
                break
        return None if at is node else _Affine(at.name, np.asarray(scale), np.asarray(shift))

    def _step(self, node: Node) -> tuple[Ref, Any, Any] | None:
        """Return the input that a node scales, the factor, and the term it adds."""
        refs = self.flow.inputs(node)
        if node.op in NORMS:
            return (refs[0], *self._norm(node, refs))
        if node.op not in _SUMS or node.op == "AddN":
            return None
        fixed = [ref for ref in refs if not self.flow.varies(ref)]
        if len(fixed) != 1 or len(refs) != 2:
            return None
        if node.op in ("Sub", "RealDiv") and fixed[0] == refs[0]:
            raise ModelError(f"{node.name}: a constant minus or by a layer is not supported")
        values = Numeric(self.flow).value(fixed[0]).astype(np.float64)
        if values.size not in values.shape[-1:] and values.size != 1:
            raise ModelError(f"{node.name}: needed one number a channel, got shape {list(values.shape)}")
        values = values.reshape(-1) if values.size > 1 else values.reshape(())
        source = refs[1 - refs.index(fixed[0])]
        if node.op == "Mul":
            return source, values, 0.0
        if node.op == "RealDiv":
            return source, 1 / values, 0.0
        return source, 1.0, -values if node.op == "Sub" else values

    def _norm(self, node: Node, refs: list[Ref]) -> tuple[Array, Array]:
        """Return factor and term of a batch norm in inference mode."""
        self._check_layout(node)
        if node.get("is_training", "b", False):
            raise ModelError(f"{node.name}: a batch norm in training mode; export the graph for inference")
        gamma, beta, mean, variance = (Numeric(self.flow).value(ref).astype(np.float64) for ref in refs[1:5])
        factor = gamma / np.sqrt(variance + node.get("epsilon", "f", 1e-4))
        return factor, beta - mean * factor

    def _scaled(self, node: Node, affine: _Affine) -> Value:
        source = self.flow.graph[affine.source]
        if source.op in _WEIGHTED and source.name not in self._values:
            return self._weighted(node, source, affine.scale, affine.shift)
        x = self._values[source.name]
        for op, values, neutral in (("Mul", affine.scale, 1), ("Add", affine.shift, 0)):
            if (values != neutral).any():
                x = self._like(x, op, node, self._per_channel(values, x.rank, node.name))
        return x

    def _per_channel(self, values: Array, rank: int, name: str) -> str:
        shaped = values.reshape(1, -1, 1, 1) if rank == 4 and values.size > 1 else values.reshape(-1)
        return self.model.constant(shaped.astype(np.float32), f"{name}/values")

    # Layers with weights

    def _weighted(self, node: Node, source: Node, scale: Array | np.float64, shift: Array | np.float64) -> Value:
        self._check_layout(source)
        method = {"MatMul": self._matmul, "Conv2DBackpropInput": self._deconvolution}.get(source.op, self._convolution)
        return method(node, source, np.asarray(scale), np.asarray(shift))

    def _weights(self, source: Node) -> Array:
        return Numeric(self.flow).value(self.flow.inputs(source)[1]).astype(np.float64)

    def _named(self, name: str, weights: Array, shift: Array, count: int) -> list[str]:
        """The names of weights and bias; no bias where it is zero."""
        names = [self.model.constant(np.ascontiguousarray(weights, np.float32), f"{name}/weights")]
        if (shift != 0).any():
            bias = np.broadcast_to(shift, (count,)).astype(np.float32)
            names.append(self.model.constant(bias, f"{name}/bias"))
        return names

    def _convolution(self, node: Node, source: Node, scale: Array, shift: Array) -> Value:
        weights = self._weights(source)
        kernel = weights.shape[:2]
        groups = 1
        if source.op == "DepthwiseConv2dNative":
            groups = weights.shape[2]
            weights = weights.reshape(*kernel, 1, -1)
        weights = (weights * scale).transpose(3, 2, 0, 1)
        ref, padding = self._before_padding(source)
        x = self._values[ref[0]]
        rate, pads = dilation(self.flow, source)
        strides = _strides(source)
        if rate != (1, 1):
            sides = np.array([pads, pads])
        elif source.text("padding") == "SAME":
            x, sides = self._same_padding(x, (kernel[0], kernel[1]), strides, 0.0)
        elif source.text("padding") == "VALID":
            sides = padding
        else:
            raise ModelError(f"{source.name}: padding {source.text('padding')} is not supported")
        out = self.model.add(
            "Conv",
            x.name,
            *self._named(node.name, weights, shift, weights.shape[0]),
            name=node.name,
            kernel_shape=list(kernel),
            strides=list(strides),
            pads=sides.reshape(-1).tolist(),
            dilations=list(rate),
            group=groups,
        )
        reach = [(k - 1) * r + 1 for k, r in zip(kernel, rate)]
        return Value(out, 4, _after(x.size, reach, strides, sides))

    def _before_padding(self, source: Node) -> tuple[Ref, Array]:
        """Return a convolution's input, skipping a Pad before it, and the paddings ((top, left), (bottom, right))."""
        none = np.zeros((2, 2), np.int64)
        ref = self.flow.inputs(source)[0]
        before = self.flow.node(ref)
        if before.op != "Pad" or source.text("padding") != "VALID" or before.name in self._values:
            return ref, none
        refs = self.flow.inputs(before)
        if self.flow.varies(refs[1]):
            return ref, none
        pads = Numeric(self.flow).value(refs[1]).astype(np.int64)
        if pads.shape != (4, 2) or pads[[0, 3]].any() or (pads < 0).any():
            return ref, none
        return refs[0], np.ascontiguousarray(pads[1:3].T)

    def _same_padding(self, x: Value, kernel: Pair, strides: Pair, fill: float) -> tuple[Value, Array]:
        """Return the paddings of "SAME"; if they depend on an unknown size, the map is returned padded instead."""
        if strides == (1, 1):
            total = np.array(kernel) - 1
        elif x.size is not None:
            size = np.array(x.size)
            total = np.maximum((-(-size // strides) - 1) * strides + kernel - size, 0)
        else:
            return self._padded_at_run_time(x, kernel, strides, fill), np.zeros((2, 2), np.int64)
        return x, np.array([total // 2, total - total // 2])

    def _padded_at_run_time(self, x: Value, kernel: Pair, strides: Pair, fill: float) -> Value:
        add, model = self.model.add, self.model
        size = add("Slice", add("Shape", x.name), model.ints(2), model.ints(4), model.ints(0))
        step, two = model.ints(*strides), model.ints(2)
        # (ceil(n / s) - 1) s + k - n, and ceil(n / s) - 1 is floor((n - 1) / s)
        whole = add("Mul", add("Div", add("Sub", size, model.ints(1)), step), step)
        total = add("Max", add("Sub", add("Add", whole, model.ints(*kernel)), size), model.ints(0))
        before = add("Div", total, two)
        none = model.ints(0, 0)
        pads = add("Concat", none, before, none, add("Sub", total, before), axis=0)
        return Value(add("Pad", x.name, pads, model.constant(np.float32(fill))))

    def _deconvolution(self, node: Node, source: Node, scale: Array, shift: Array) -> Value:
        weights = self._weights(source) * np.broadcast_to(scale, (self._weights(source).shape[2],))[:, None]
        kernel, strides = np.array(weights.shape[:2]), np.array(_strides(source))
        x = self._values[self.flow.inputs(source)[2][0]]
        if x.size is None:
            raise ModelError(f"{source.name}: a deconvolution of a map of any size is not supported")
        size = np.array(self._spatial.size((source.name, 0)))
        total = (np.array(x.size) - 1) * strides + kernel - size
        before = np.maximum(total, 0) // 2
        out = self.model.add(
            "ConvTranspose",
            x.name,
            *self._named(node.name, weights.transpose(3, 2, 0, 1), shift, weights.shape[2]),
            name=node.name,
            kernel_shape=kernel.tolist(),
            strides=strides.tolist(),
            pads=[*before.tolist(), *(np.maximum(total, 0) - before).tolist()],
            output_padding=np.maximum(-total, 0).tolist(),
        )
        return Value(out, 4, (int(size[0]), int(size[1])))

    def _matmul(self, node: Node, source: Node, scale: Array, shift: Array) -> Value:
        if source.get("transpose_a", "b", False) or source.get("transpose_b", "b", False):
            raise ModelError(f"{source.name}: a transposed matrix is not supported")
        x = self._values[self._sources(source)[0][0]]
        weights = self._weights(source) * scale
        names = self._named(node.name, weights, shift, weights.shape[1])
        return Value(self.model.add("Gemm", self._rows(x).name, *names, name=node.name), 2)

    def _rows(self, x: Value) -> Value:
        """Flatten a map to rows in TensorFlow's order, channels last."""
        if x.rank == 2:
            return x
        name = x.name if x.size == (1, 1) else self.model.add("Transpose", x.name, perm=[0, 2, 3, 1])
        return Value(self.model.add("Flatten", name, axis=1), 2)

    # Layers without weights

    def _sum(self, node: Node, inputs: list[Value]) -> Value:
        if len(inputs) < len(self.flow.inputs(node)):
            raise ModelError(f"{node.name}: a {node.op} of constants and {len(inputs)} layers is not supported")
        size = next((x.size for x in inputs if x.size != (1, 1)), inputs[0].size)
        names = [x.name for x in inputs]
        return Value(self.model.add(_SUMS[node.op], *names, name=node.name), inputs[0].rank, size)

    def _relu6(self, node: Node, inputs: list[Value]) -> Value:
        zero, six = (self.model.constant(np.float32(value)) for value in (0, 6))
        return self._like(inputs[0], "Clip", node, zero, six)

    def _leaky(self, node: Node, inputs: list[Value]) -> Value:
        return self._like(inputs[0], "LeakyRelu", node, alpha=float(node.get("alpha", "f", 0.2)))

    def _pool(self, node: Node, inputs: list[Value]) -> Value:
        self._check_layout(node)
        _, *sides, _ = node.ints("ksize", (1, 1, 1, 1))
        kernel, strides = (sides[0], sides[1]), _strides(node)
        is_max = node.op == "MaxPool"
        x, pads = inputs[0], np.zeros((2, 2), np.int64)
        if node.text("padding") == "SAME":
            if not is_max and x.size is None and strides != (1, 1):
                raise ModelError(f"{node.name}: average pooling with strides of a map of any size is not supported")
            x, pads = self._same_padding(x, kernel, strides, float(_LOWEST))
        attributes = {"kernel_shape": list(kernel), "strides": list(strides), "pads": pads.reshape(-1).tolist()}
        out = self.model.add("MaxPool" if is_max else "AveragePool", x.name, name=node.name, **attributes)
        return Value(out, 4, _after(x.size, kernel, strides, pads))

    def _concat(self, node: Node, inputs: list[Value]) -> Value:
        refs = self.flow.inputs(node)
        axis = int(Numeric(self.flow).value(refs[0] if node.op == "Concat" else refs[-1]).reshape(-1)[0])
        if axis not in (3, -1) or len(inputs) != len(refs) - 1:
            raise ModelError(f"{node.name}: a concatenation along axis {axis}, needed 3, the channels, of layers")
        return Value(
            self.model.add("Concat", *(x.name for x in inputs), name=node.name, axis=1), inputs[0].rank, inputs[0].size
        )

    def _mean(self, node: Node, inputs: list[Value]) -> Value:
        axes = sorted(int(axis) % 4 for axis in Numeric(self.flow).value(self.flow.inputs(node)[1]).reshape(-1))
        if axes != [1, 2] or inputs[0].rank != 4:
            raise ModelError(f"{node.name}: a mean over axes {axes}, needed 1 and 2, height and width")
        out = Value(self.model.add("GlobalAveragePool", inputs[0].name, name=node.name), 4, (1, 1))
        return out if node.get("keep_dims", "b", False) else self._rows(out)

    def _pad(self, node: Node, inputs: list[Value]) -> Value:
        pads = Numeric(self.flow).value(self.flow.inputs(node)[1]).astype(np.int64)[[0, 3, 1, 2]]
        x = inputs[0]
        size = None if x.size is None else (x.size[0] + int(pads[2].sum()), x.size[1] + int(pads[3].sum()))
        names = [self.model.ints(*pads.T.reshape(-1).tolist()), self.model.constant(np.float32(0))]
        return Value(self.model.add("Pad", x.name, *names, name=node.name), 4, size)

    def _resize(self, node: Node, inputs: list[Value]) -> Value:
        size = self._spatial.size((node.name, 0))
        corners, half = (node.get(key, "b", False) for key in ("align_corners", "half_pixel_centers"))
        attributes = {
            "coordinate_transformation_mode": "align_corners" if corners else "half_pixel" if half else "asymmetric",
            "mode": "linear" if node.op == "ResizeBilinear" else "nearest",
        }
        if attributes["mode"] == "nearest":
            attributes["nearest_mode"] = "round_prefer_ceil" if corners else "floor"
        x = inputs[0]
        if x.size is None:
            raise ModelError(f"{node.name}: a map of any size is resized to {size}: not supported")
        if x.size == size:
            return x
        ratio = np.array([1, 1, size[0] / x.size[0], size[1] / x.size[1]], np.float32)
        exact = all(int(np.float32(a) * b) == c for a, b, c in zip(x.size, ratio[2:], size))
        extra = ["", self.model.constant(ratio)] if exact and not corners else ["", "", self._channels_kept(x, size)]
        return Value(self.model.add("Resize", x.name, *extra, name=node.name, **attributes), 4, size)

    def _channels_kept(self, x: Value, size: Pair) -> str:
        """Add the shape of a map with another height and width."""
        shape = self.model.add("Shape", x.name)
        head = self.model.add("Slice", shape, self.model.ints(0), self.model.ints(2), self.model.ints(0))
        return self.model.add("Concat", head, self.model.ints(*size), axis=0)

    def _relayout(self, node: Node, inputs: list[Value]) -> Value:
        """Flatten to rows if a matrix multiplication follows; between spatial layers, keep the shape."""
        todo, seen = [node], set()
        while todo:
            for reader in self.flow.readers.get(todo.pop().name, ()):
                if reader.op == "MatMul":
                    return self._rows(inputs[0])
                if reader.op in (*RELAYOUT, "Identity") and reader.name not in seen:
                    seen.add(reader.name)
                    todo.append(reader)
        return inputs[0]

    def _check_layout(self, node: Node) -> None:
        if node.text("data_format", "NHWC") != "NHWC":
            raise ModelError(f"{node.name}: data format {node.text('data_format')}, needed NHWC")

    _METHODS = (
        (tuple(_SUMS), _sum), (("Relu6",), _relu6), (("LeakyRelu",), _leaky), (("MaxPool", "AvgPool"), _pool),
        (("ConcatV2", "Concat"), _concat), (("Mean",), _mean), (("Pad",), _pad), (RESIZES, _resize),
        (RELAYOUT, _relayout),
    )  # fmt: skip


def _strides(node: Node) -> Pair:
    strides = node.ints("strides", (1, 1, 1, 1))
    if len(strides) != 4 or min(strides) < 1:
        raise ModelError(f"{node.name}: strides must be 4 numbers of 1 or more, got {len(strides)}: {strides[:8]}")
    return strides[1], strides[2]


def _after(size: Pair | None, reach: Any, strides: Pair, pads: Array) -> Pair | None:
    """Return the size of a map after a sliding window."""
    if size is None:
        return None
    high, wide = ((n + int(p) - r) // s + 1 for n, p, r, s in zip(size, pads.sum(axis=0), reach, strides))
    return high, wide
