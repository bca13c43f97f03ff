"""Writes ONNX models without the onnx package: the bytes of the protobuf messages, field by field.

The field numbers are those of `onnx.proto` (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), the encoding is
that of https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from cvmask.graph.protobuf import BYTES, FIXED32, VARINT

Array = npt.NDArray[Any]
Dim = Union[int, str]
IR_VERSION = 8
OPSET = 17  # RoiAlign has a mode of coordinates since 16
FLOAT, UINT8, INT32, INT64, BOOL = 1, 2, 6, 7, 9
_TYPES = {"f4": FLOAT, "u1": UINT8, "i4": INT32, "i8": INT64, "b1": BOOL}
# Kinds of attributes: their number in `type`, and the field that holds the value.
_A_FLOAT, _AN_INT, _A_STRING, _FLOATS, _INTS = (1, 2), (2, 3), (3, 4), (6, 7), (7, 8)


def _varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _message(field: int, *parts: bytes) -> bytes:
    """Encode a field that holds a message or text, given in parts."""
    return b"".join([_varint(field << 3 | BYTES), _varint(sum(map(len, parts))), *parts])


def _text(field: int, value: str) -> bytes:
    return _message(field, value.encode())


def _tensor(name: str, array: Array) -> bytes:
    """Encode a TensorProto, with its elements as raw little-endian bytes."""
    kind = _TYPES[array.dtype.str[1:]]
    dims = b"".join(_number(1, size) for size in array.shape)
    content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return b"".join([dims, _number(2, kind), _text(8, name), _message(9, content)])


def _attribute(name: str, value: Any) -> bytes:
    """Encode an AttributeProto: a number, a text, or a list of numbers of one kind."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    if isinstance(value, str):
        kind, field = _A_STRING
        body = _text(field, value)
    elif any(isinstance(item, float) for item in items):
        kind, field = _A_FLOAT if items is not value and not isinstance(value, (list, tuple)) else _FLOATS
        body = b"".join(_varint(field << 3 | FIXED32) + np.float32(item).tobytes() for item in items)
    else:
        kind, field = _INTS if isinstance(value, (list, tuple)) else _AN_INT
        body = b"".join(_number(field, int(item)) for item in items)
    return _text(1, name) + body + _number(20, kind)


def _value_info(name: str, kind: int, shape: Sequence[Dim]) -> bytes:
    """Encode a ValueInfoProto: a tensor of that element type; a text in its shape stands for any size."""
    dims = b"".join(_message(1, _text(2, d) if isinstance(d, str) else _number(1, d)) for d in shape)
    return _text(1, name) + _message(2, _message(1, _number(1, kind), _message(2, dims)))


class Model:
    """Builds an ONNX model; nodes are added in the order of the data.

    Parameters
    ----------
    name
        Name of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._weights: list[bytes] = []
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []
        self._taken: set[str] = set()
        self._known: dict[tuple[str, str, tuple[int, ...], bytes], str] = {}

    def unique(self, name: str) -> str:
        """Return a name that is not yet used in this model."""
        number, candidate = 1, name
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate

    def input(self, name: str, shape: Sequence[Dim], kind: int = FLOAT) -> str:
        """Add an input of the model; texts in `shape` stand for any size."""
        self._taken.add(name)
        self._inputs.append(_message(11, _value_info(name, kind, shape)))
        return name

    def output(self, name: str, value: str, shape: Sequence[Dim], kind: int = FLOAT) -> str:
        """Declare an output `name` of the model that gives the node output `value`."""
        self._taken.add(name)
        self._nodes.append(self._node("Identity", [value], [name], {}))
        self._outputs.append(_message(12, _value_info(name, kind, shape)))
        return name

    def constant(self, array: npt.ArrayLike, name: str = "constant") -> str:
        """Add weights, or reuse those of the same content; returns their name."""
        values = np.asarray(array)
        small = values.size <= 16
        key = (name if not small else "", values.dtype.str, values.shape, values.tobytes() if small else b"")
        if small and key in self._known:
            return self._known[key]
        name = self.unique(name)
        self._weights.append(_message(5, _tensor(name, values)))
        if small:
            self._known[key] = name
        return name

    def ints(self, *values: int) -> str:
        """Add a one-dimensional constant of integers."""
        return self.constant(np.array(values, np.int64))

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output; returns the output's name."""
        return self.several(op, *inputs, names=(name or op.lower(),), **attributes)[0]

    def several(self, op: str, *inputs: str, names: Iterable[str], **attributes: Any) -> list[str]:
        """Add a node with one output for each of `names`; returns their names."""
        outputs = [self.unique(name) for name in names]
        self._nodes.append(self._node(op, inputs, outputs, attributes))
        return outputs

    @staticmethod
    def _node(op: str, inputs: Iterable[str], outputs: Iterable[str], attributes: Mapping[str, Any]) -> bytes:
        outputs = list(outputs)
        return _message(
            1,
            *(_text(1, name) for name in inputs),
            *(_text(2, name) for name in outputs),
            _text(3, outputs[0]),
            _text(4, op),
            *(_message(5, _attribute(key, value)) for key, value in attributes.items()),
        )

    def bytes(self) -> bytes:
        """Return the content of the model's file."""
        graph = [*self._nodes, _text(2, self._name), *self._weights, *self._inputs, *self._outputs]
        opset = _message(8, _text(1, ""), _number(2, OPSET))
        return b"".join([_number(1, IR_VERSION), _text(2, "cvmask"), _message(7, *graph), opset])
