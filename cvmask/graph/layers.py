"""Translates the layers of a frozen graph one by one into layers that OpenCV's importer reads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.nodes import FLOAT, INT32, UINT8, Attr, Graph, Node, Tensor
from cvmask.graph.numeric import Numeric, Spatial

Pair = tuple[int, int]


def dilation(flow: Flow, node: Node) -> tuple[Pair, Pair]:
    """Return the dilation rate of a convolution, (1, 1) for a plain one, and its padding on each side.

    Both are (vertical, horizontal), in cells.

    Raises
    ------
    ModelError
        If the paddings are not the same on both sides, or depend on the size of the feature map.
    """
    before = flow.node(flow.inputs(node)[0])
    kernel = Numeric(flow).value(flow.inputs(node)[1]).shape[:2]
    if before.op == "SpaceToBatchND":
        return _split_dilation(flow, node, before, (int(kernel[0]), int(kernel[1])))
    _, *rate, _ = node.ints("dilations", (1, 1, 1, 1))
    if rate == [1, 1]:
        return (1, 1), (0, 0)
    reach = [(int(k) - 1) * r for k, r in zip(kernel, rate)]
    pads = [total // 2 if node.text("padding") == "SAME" else 0 for total in reach]
    if node.ints("strides") != (1, 1, 1, 1) or any(total % 2 for total in reach):
        raise ModelError(f"{node.name}: dilations {rate} with kernel {kernel} and strides are not supported")
    return (rate[0], rate[1]), (pads[0], pads[1])


def _split_dilation(flow: Flow, node: Node, before: Node, kernel: Pair) -> tuple[Pair, Pair]:
    """Return rate and padding of a convolution between SpaceToBatchND and BatchToSpaceND.

    The paddings and crops are computed for two sizes of the feature map. Padding that is not cropped
    again is the convolution's own.
    """
    after = [reader for reader in flow.readers.get(node.name, ()) if reader.op == "BatchToSpaceND"]
    rate = [int(value) for value in Numeric(flow).value(flow.inputs(before)[1])]
    if len(after) != 1 or len(rate) != 2:
        raise ModelError(f"{node.name}: SpaceToBatchND without a BatchToSpaceND of two dimensions")
    found = {_own_padding(flow, before, after[0], size) for size in ((32, 40), (33, 47))}
    (top, bottom), (left, right) = next(iter(found))
    if kernel == (1, 1) and found == {((0, 0), (0, 0))}:
        return (1, 1), (0, 0)  # a 1x1 kernel has nothing to dilate
    if len(found) > 1 or top != bottom or left != right:
        raise ModelError(
            f"{node.name}: an atrous {kernel} convolution with paddings {found} is not supported"
        )
    return (rate[0], rate[1]), (top, left)


def _own_padding(flow: Flow, before: Node, after: Node, size: Pair) -> tuple[Pair, Pair]:
    image = np.broadcast_to(np.float32(0), (1, *size, 1))
    numeric = Numeric(flow, {flow.inputs(before)[0][0]: image})
    pads = numeric.value(flow.inputs(before)[2]) - numeric.value(flow.inputs(after)[2])
    (top, bottom), (left, right) = pads.tolist()
    return (int(top), int(bottom)), (int(left), int(right))


Array = npt.NDArray[Any]
_HALF = 19
_MAX_ELEMENTS = 1 << 18  # OpenCV reads a text graph whole: weights have to stay in the .pb


class Constants:
    """Names constants, and collects text nodes for those that OpenCV cannot read from the `.pb`."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._taken: dict[str, Node] = {}
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._stripped = bool(stripped(flow.graph))

    @property
    def nodes(self) -> list[Node]:
        """The constants that the text graph holds itself."""
        return list(self._taken.values())

    def unique(self, name: str) -> str:
        """Return a name that neither the `.pb` nor this text graph uses: OpenCV reads each constant only once."""
        number, candidate = self._numbers.get(name, 1), name
        while candidate in self._flow.graph or candidate in self._used:
            number += 1
            candidate = f"{name}{number}"
        self._used.add(candidate)
        self._numbers[name] = number  # names with smaller numbers are in use
        return candidate

    def name(self, ref: Ref, instead: Array | None = None) -> str:
        """Return the name of the constant that `ref` holds; `instead` is written out if OpenCV cannot read it."""
        ref = self._flow.origin(ref)
        node = self._stored(ref)
        if node.op == "Const" and node.in_file and (self._stripped or _readable(node.get("value", "tensor"))):
            return node.name
        return self.inline(node.name, Numeric(self._flow).value(ref) if instead is None else instead)

    def packed(self, ref: Ref) -> str:
        """Like `name`, for the parameters of a batch norm, which OpenCV reads only if they are stored as bytes."""
        node = self._stored(self._flow.origin(ref))
        if node.op == "Const" and not self._stripped and not len(node.get("value", "tensor").content):
            return self.inline(node.name, node.array())
        return self.name(ref)

    def vector(self, ref: Ref) -> str:
        """Like `name`, for one number or one per channel, which need one dimension in OpenCV."""
        node = self._stored(self._flow.origin(ref))
        if node.op == "Const" and len(node.get("value", "tensor").shape) < 2:
            return self.name(ref)
        array = Numeric(self._flow).value(ref)
        if array.size not in array.shape[-1:] and array.size != 1:
            raise ModelError(f"{node.name}: needed one number a channel, got shape {list(array.shape)}")
        return self.inline(node.name, array.reshape(-1))

    def _stored(self, ref: Ref) -> Node:
        """Return the node that stores `ref`. A cast from half to single precision is skipped: OpenCV casts as well."""
        node = self._flow.node(ref)
        if node.op != "Cast" or node.get("DstT", "type") != FLOAT:
            return node
        source = self._flow.node(self._flow.inputs(node)[0])
        is_half = source.op == "Const" and source.get("value", "tensor").dtype == _HALF
        return source if is_half else node

    def axis(self, ref: Ref) -> str:
        """Return the name of the constant for the channel axis of a concatenation."""
        node = self._flow.node(self._flow.origin(ref))
        axis = int(Numeric(self._flow).value(ref).reshape(-1)[0])
        if axis not in (3, -1):
            raise ModelError(f"{node.name}: a concatenation along axis {axis}, needed 3, the channels")
        tensor = node.get("value", "tensor")
        if node.op == "Const" and axis == 3 and tensor.dtype == INT32 and len(tensor.values):
            return node.name
        return self.inline(node.name, np.array(3, np.int32))

    def inline(self, name: str, array: Array) -> str:
        """Write a constant into the text graph under a new name that begins with `name`."""
        if array.size > _MAX_ELEMENTS:
            raise ModelError(f"{name}: {array.size} weights, computed or in a function, are too many for a text graph")
        name = self.unique(name)
        self._taken[name] = const_node(name, array)
        return name


def stripped(graph: Graph) -> list[str]:
    """Return the names of constants shaped like weights but without data. Only zeros are stored that way."""
    tensors = ((node.name, node.get("value", "tensor")) for node in graph if node.op == "Const")
    return [
        name for name, t in tensors if t is not None and t.is_empty and len(t.shape) in (2, 4) and t.size > 32
    ]


def const_node(name: str, array: Array) -> Node:
    """Return a Const of a text graph: 32-bit floats or integers."""
    if array.dtype.kind in "iu":
        tensor = Tensor(INT32, array.shape, b"", array.reshape(-1).astype(int).tolist())
    else:  # as bytes: OpenCV ignores a batch norm's scale that is spelled value by value
        tensor = Tensor(FLOAT, array.shape, array.astype("<f4").tobytes())
    return Node(name, "Const", [], {"value": Attr("tensor", tensor)})


def _readable(tensor: Tensor) -> bool:
    """Return True if OpenCV's importer reads the constant as TensorFlow does.

    It reads floats and 32-bit integers whose elements are all stored. One value that stands for a
    whole shape works only for a batch norm's scale of one, which OpenCV leaves out.
    """
    if tensor.dtype not in (FLOAT, INT32, _HALF):
        return False
    width = {FLOAT: 4, INT32: 4, _HALF: 2}[tensor.dtype]
    return len(tensor.content) == width * tensor.size or (
        tensor.dtype != _HALF and len(tensor.values) == tensor.size
    )


def _four(node: Node, key: str) -> Attr:
    """Return an attribute that holds one integer for each of the four dimensions."""
    numbers = node.ints(key)
    if len(numbers) != 4 or min(numbers) < 1:
        raise ModelError(f"{node.name}: {key} must be 4 numbers of 1 or more, got {len(numbers)}: {numbers[:8]}")
    return Attr("list", Attr("i", numbers))


_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative", "Conv2DBackpropInput")
_SAME = ("Relu", "Relu6", "Elu", "Tanh", "Sigmoid", "Exp", "Abs", "LeakyRelu")
_SUMS = {"BiasAdd": "BiasAdd", "Add": "Add", "AddV2": "Add", "AddN": "AddN", "Sub": "Sub", "Mul": "Mul",
         "RealDiv": "RealDiv"}  # fmt: skip
RESIZES = ("ResizeBilinear", "ResizeNearestNeighbor")
NORMS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
RELAYOUT = ("Reshape", "Squeeze", "ExpandDims", "Cast")
BEFORE_LAYERS = (
    *RELAYOUT,
    *RESIZES,
    "ResizeArea",
    "ResizeBicubic",
    "Pack",
    "Unpack",
    "StridedSlice",
    "Tile",
)
ONES = Attr("list", Attr("i", (1, 1, 1, 1)))
NHWC = Attr("s", b"NHWC")


class Layers:
    """Collects translated nodes in `nodes`."""

    def __init__(self, flow: Flow, constants: Constants) -> None:
        self.flow, self.constants = flow, constants
        self.nodes: list[Node] = []
        self._names: dict[str, str] = {}
        self._boxes: dict[str, str] = {}
        self._spatial = Spatial(flow)
        convolutions = [node.name for node in flow.graph if node.op in _CONVOLUTIONS]
        self._behind_layers = flow.descendants(convolutions)

    def set_boxes(self, crop: Node, boxes: str) -> None:
        """Make a CropAndResize read its boxes from the text node `boxes`."""
        self._boxes[crop.name] = boxes

    def emit(self, ref: Ref) -> str:
        """Translate `ref` and all it needs; return the name of the text node that stands for it.

        Raises
        ------
        ModelError
            If an op is not supported.
        """
        for node in self.flow.order([ref], self._needs):
            if node.name not in self._names:
                self._names[node.name] = self._translate(node)
        return self._names[self.flow.origin(ref)[0]]

    def add(self, op: str, name: str, inputs: Iterable[str], **attrs: Attr) -> str:
        """Append a node."""
        self.nodes.append(Node(name, op, list(inputs), attrs))
        return name

    def _needs(self, node: Node) -> list[Ref]:
        if node.name in self._names or node.op == "Placeholder":
            return []
        refs = self.flow.inputs(node)
        if node.op in _SUMS or node.op in ("ConcatV2", "Concat"):
            return [ref for ref in refs if self.flow.varies(ref)]
        return refs[2:3] if node.op == "Conv2DBackpropInput" else [r for r in refs if self.flow.varies(r)][:1]

    def _read(self, node: Node) -> list[str]:
        return [self._names[ref[0]] for ref in self._needs(node)]

    def _translate(self, node: Node) -> str:
        if node.op == "Placeholder":
            shape = Attr("shape", (-1, -1, -1, 3))
            return self.add("Placeholder", node.name, [], dtype=Attr("type", UINT8), shape=shape)
        if not self._read(node):
            raise ModelError(f"{node.name}: a {node.op} that does not depend on the picture")
        if node.op in BEFORE_LAYERS and node.name not in self._behind_layers:
            return self._read(node)[0]  # the runtime has already resized the picture
        if node.op in ("SpaceToBatchND", "BatchToSpaceND"):
            return self._read(node)[0]  # expressed as dilations of the convolution between them
        for ops, method in self._METHODS:
            if node.op in ops:
                return method(self, node)
        raise ModelError(f"{node.name}: neither OpenCV's importer nor the converter supports a {node.op}")

    def _same(self, node: Node) -> str:
        keys = [key for key in ("alpha",) if key in node.attrs]
        return self.add(node.op, node.name, self._read(node), **{key: node.attrs[key] for key in keys})

    def _sum(self, node: Node) -> str:
        refs = self.flow.inputs(node)
        fixed = [ref for ref in refs if not self.flow.varies(ref)]
        inputs = self._read(node)
        if fixed and node.op in ("Sub", "RealDiv") and not self.flow.varies(refs[0]):
            raise ModelError(f"{node.name}: a constant minus or by a layer is not supported")
        inputs += [self.constants.vector(ref) for ref in fixed]
        layout = {"data_format": NHWC} if node.op == "BiasAdd" else {}
        return self.add(_SUMS[node.op], node.name, inputs, **layout)

    def _convolution(self, node: Node) -> str:
        self._check_layout(node)
        weights = self.flow.inputs(node)[1]
        if node.text("padding") == "EXPLICIT":
            raise ModelError(f"{node.name}: explicit paddings are not supported")
        inputs = [*self._read(node), self.constants.name(weights)]
        rate, pads = dilation(self.flow, node)
        if rate == (1, 1):
            keys = {"padding": node.attrs["padding"], "strides": _four(node, "strides")}
            return self.add(node.op, node.name, inputs, data_format=NHWC, dilations=ONES, **keys)
        return self._atrous(node, inputs, rate, pads)

    def _atrous(self, node: Node, inputs: list[str], rate: Pair, pads: Pair) -> str:
        """Add a dilated convolution. OpenCV reads the rate from SpaceToBatchND only, and ignores `dilations`."""
        block = self.constants.inline(f"{node.name}/block_shape", np.array(rate, np.int32))
        twice = np.array([[pads[0], pads[0]], [pads[1], pads[1]]], np.int32)
        paddings = self.constants.inline(f"{node.name}/paddings", twice)
        crops = self.constants.inline(f"{node.name}/crops", np.zeros((2, 2), np.int32))
        apart = self.add(
            "SpaceToBatchND", self.constants.unique(f"{node.name}/apart"), [inputs[0], block, paddings]
        )
        keys = {"padding": Attr("s", b"VALID"), "strides": ONES}
        self.add(node.op, node.name, [apart, inputs[1]], data_format=NHWC, dilations=ONES, **keys)
        return self.add(
            "BatchToSpaceND", self.constants.unique(f"{node.name}/together"), [node.name, block, crops]
        )

    def _deconvolution(self, node: Node) -> str:
        self._check_layout(node)
        weights = self.flow.inputs(node)[1]
        channels = Numeric(self.flow).value(weights).shape[-2]
        shape = np.array([1, *self._spatial.size((node.name, 0)), channels], np.int32)
        inputs = [
            self.constants.inline(f"{node.name}/shape", shape),
            self.constants.name(weights),
            *self._read(node),
        ]
        keys = {"padding": node.attrs["padding"], "strides": _four(node, "strides")}
        return self.add(node.op, node.name, inputs, data_format=NHWC, **keys)

    def _norm(self, node: Node) -> str:
        self._check_layout(node)
        parameters = [self.constants.packed(ref) for ref in self.flow.inputs(node)[1:5]]
        epsilon = Attr("f", node.get("epsilon", "f", 1e-4))
        return self.add(
            "FusedBatchNorm", node.name, [*self._read(node), *parameters], data_format=NHWC, epsilon=epsilon
        )

    def _pool(self, node: Node) -> str:
        self._check_layout(node)
        keys = {"padding": node.attrs["padding"], "ksize": _four(node, "ksize"), "strides": _four(node, "strides")}
        return self.add(node.op, node.name, self._read(node), data_format=NHWC, **keys)

    def _concat(self, node: Node) -> str:
        refs = self.flow.inputs(node)
        axis = refs[0] if node.op == "Concat" else refs[-1]
        return self.add("ConcatV2", node.name, [*self._read(node), self.constants.axis(axis)])

    def _mean(self, node: Node) -> str:
        axes = self.constants.name(self.flow.inputs(node)[1])
        keep = Attr("b", node.get("keep_dims", "b", False))
        return self.add("Mean", node.name, [*self._read(node), axes], keep_dims=keep)

    def _pad(self, node: Node) -> str:
        pads = Numeric(self.flow).value(self.flow.inputs(node)[1]).astype(np.int32)
        return self.add(
            "Pad", node.name, [*self._read(node), self.constants.name(self.flow.inputs(node)[1], pads)]
        )

    def _resize(self, node: Node) -> str:
        ref = self.flow.inputs(node)[1]
        size = np.array(self._spatial.size((node.name, 0)), np.int32)
        keys = {
            key: node.attrs[key]
            for key in ("align_corners", "half_pixel_centers")
            if node.get(key, "b", False)
        }
        return self.add(node.op, node.name, [*self._read(node), self.constants.name(ref, size)], **keys)

    def _crop(self, node: Node) -> str:
        size = self.constants.name(self.flow.inputs(node)[3])
        if node.get("extrapolation_value", "f", 0.0) or node.text("method", "bilinear") != "bilinear":
            raise ModelError(f"{node.name}: only bilinear crops with zeros outside are supported")
        keys = {"extrapolation_value": Attr("f", 0.0), "method": Attr("s", b"bilinear")}
        inputs = [*self._read(node), self._boxes[node.name], size]
        return self.add("CropAndResize", node.name, inputs, **keys)

    def _relayout(self, node: Node) -> str:
        """Flatten if a matrix multiplication follows; between spatial layers, keep the shape."""
        todo, seen = [node], set()
        while todo:
            for reader in self.flow.readers.get(todo.pop().name, ()):
                if reader.op == "MatMul":
                    return self.add("Flatten", node.name, self._read(node))
                if reader.op in (*RELAYOUT, "Identity") and reader.name not in seen:
                    seen.add(reader.name)
                    todo.append(reader)
        return self._read(node)[0]

    def _matmul(self, node: Node) -> str:
        if node.get("transpose_a", "b", False) or node.get("transpose_b", "b", False):
            raise ModelError(f"{node.name}: a transposed matrix is not supported")
        weights = self.constants.name(self.flow.inputs(node)[1])
        no = Attr("b", False)
        return self.add("MatMul", node.name, [*self._read(node), weights], transpose_a=no, transpose_b=no)

    def _check_layout(self, node: Node) -> None:
        if node.text("data_format", "NHWC") != "NHWC":
            raise ModelError(f"{node.name}: data format {node.text('data_format')}, needed NHWC")

    _METHODS = (
        (_SAME, _same), (tuple(_SUMS), _sum), (("Conv2D", "DepthwiseConv2dNative"), _convolution),
        (("Conv2DBackpropInput",), _deconvolution), (NORMS, _norm), (("MaxPool", "AvgPool"), _pool),
        (("ConcatV2", "Concat"), _concat), (("Mean",), _mean), (("Pad",), _pad), (RESIZES, _resize),
        (("CropAndResize",), _crop), (RELAYOUT, _relayout), (("MatMul",), _matmul),
    )  # fmt: skip
