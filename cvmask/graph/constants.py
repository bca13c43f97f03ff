"""Constants of a text graph: by name where OpenCV reads them from the `.pb`, else spelled out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.numeric import Numeric
from cvmask.graph.tensors import FLOAT, INT32, Attr, Tensor

Array = npt.NDArray[Any]
_HALF = 19
_MAX_ELEMENTS = 1 << 18  # a text graph is read in one piece: weights have to stay in the .pb


class Constants:
    """Gives names for constants, and collects the text nodes of those that have to be spelled out."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._taken: dict[str, Node] = {}
        self._used: set[str] = set()
        self._stripped = bool(stripped(flow.graph))

    @property
    def nodes(self) -> list[Node]:
        """The constants that were spelled out."""
        return list(self._taken.values())

    def unique(self, name: str) -> str:
        """A name that neither the `.pb` nor this text graph has: OpenCV takes each constant only once."""
        number, candidate = 1, name
        while candidate in self._flow.graph or candidate in self._used:
            number += 1
            candidate = f"{name}{number}"
        self._used.add(candidate)
        return candidate

    def name(self, ref: Ref, instead: Array | None = None) -> str:
        """The name of the constant that `ref` holds; `instead` is spelled out where OpenCV cannot read it."""
        ref = self._flow.origin(ref)
        node = self._flow.node(ref)
        if node.op == "Const" and node.in_file and (self._stripped or _readable(node.get("value", "tensor"))):
            return node.name
        return self.inline(node.name, Numeric(self._flow).value(ref) if instead is None else instead)

    def packed(self, ref: Ref) -> str:
        """As `name`, for what OpenCV reads only where it is stored as bytes: a batch norm's parameters."""
        node = self._flow.node(self._flow.origin(ref))
        if node.op == "Const" and not self._stripped and not len(node.get("value", "tensor").content):
            return self.inline(node.name, node.array())
        return self.name(ref)

    def vector(self, ref: Ref) -> str:
        """As `name`, for a number or one number a channel: those have one dimension in OpenCV."""
        node = self._flow.node(self._flow.origin(ref))
        if node.op == "Const" and len(node.get("value", "tensor").shape) < 2:
            return self.name(ref)
        array = Numeric(self._flow).value(ref)
        if array.size not in array.shape[-1:] and array.size != 1:
            raise ModelError(f"{node.name}: needed one number a channel, got shape {list(array.shape)}")
        return self.inline(node.name, array.reshape(-1))

    def axis(self, ref: Ref) -> str:
        """The name of the constant for the channel axis of a concatenation."""
        node = self._flow.node(self._flow.origin(ref))
        axis = int(Numeric(self._flow).value(ref).reshape(-1)[0])
        if axis not in (3, -1):
            raise ModelError(f"{node.name}: a concatenation along axis {axis}, needed 3, the channels")
        tensor = node.get("value", "tensor")
        if node.op == "Const" and axis == 3 and tensor.dtype == INT32 and len(tensor.values):
            return node.name
        return self.inline(node.name, np.array(3, np.int32))

    def inline(self, name: str, array: Array) -> str:
        """Spell a constant out under a new name that begins with `name`."""
        if array.size > _MAX_ELEMENTS:
            raise ModelError(f"{name}: {array.size} weights, computed or in a function, are too many for a text graph")
        name = self.unique(name)
        self._taken[name] = const_node(name, array)
        return name


def stripped(graph: Graph) -> list[str]:
    """The constants shaped like weights that hold none: zeros may be spelled so, weights are not."""
    tensors = ((node.name, node.get("value", "tensor")) for node in graph if node.op == "Const")
    return [
        name for name, t in tensors if t is not None and t.is_empty and len(t.shape) in (2, 4) and t.size > 32
    ]


def const_node(name: str, array: Array) -> Node:
    """A Const of a text graph: 32-bit floats or integers."""
    if array.dtype.kind in "iu":
        tensor = Tensor(INT32, array.shape, b"", array.reshape(-1).astype(int).tolist())
    else:  # as bytes: a batch norm's scale is left out where it is spelled value by value
        tensor = Tensor(FLOAT, array.shape, array.astype("<f4").tobytes())
    return Node(name, "Const", [], {"value": Attr("tensor", tensor)})


def _readable(tensor: Tensor) -> bool:
    """True where OpenCV's importer reads the constant as TensorFlow does.

    It takes floats and 32-bit integers whose elements are all there; a single value that stands for a
    whole shape is right only where it is a batch norm's scale of one, which it leaves out.
    """
    if tensor.dtype not in (FLOAT, INT32, _HALF):
        return False
    width = {FLOAT: 4, INT32: 4, _HALF: 2}[tensor.dtype]
    return len(tensor.content) == width * tensor.size or (
        tensor.dtype != _HALF and len(tensor.values) == tensor.size
    )
