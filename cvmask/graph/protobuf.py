"""Decodes protobuf's binary form: numbered fields, and the messages of TensorFlow built from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Callable

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.nodes import Attr, Node, Tensor

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """Decode an unsigned integer of up to 64 bits; returns it and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError("the data end within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ModelError(f"a number of more than ten bytes before byte {at}")


def signed(value: int) -> int:
    """Interpret as two's complement, as protobuf writes negative int32 and int64 values."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: memoryview) -> Iterator[tuple[int, int, Any, int]]:
    """Yield field number, wire type, value and position of each field of a message.

    The value is an int for a varint and a slice of `data` for everything else.
    """
    at, end = 0, len(data)
    while at < end:
        start = at
        key = data[at]
        if key < 0x80:
            at += 1
        else:
            key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if not number:
            raise ModelError(f"field number 0 at byte {start}")
        if wire == VARINT:
            value, at = varint(data, at)
            yield number, wire, value, start
            continue
        if wire == BYTES:
            size, at = (data[at], at + 1) if at < end and data[at] < 0x80 else varint(data, at)
        elif wire in _FIXED:
            size = _FIXED[wire]
        else:
            raise ModelError(f"wire type {wire} at byte {start}")
        if size > end - at:
            raise ModelError(f"truncated: the field at byte {start} needs {size} bytes, {end - at} are left")
        yield number, wire, data[at : at + size], start
        at += size


def text_of(data: memoryview) -> str:
    """Decode a name."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"a name that is not UTF-8: {bytes(data[:40])!r}") from None


_MAX_RANK = 32  # NumPy's limit in the supported releases

# Field numbers of TensorProto's value lists: wire type of one item, and its little-endian NumPy type.
_FIXED_VALUES = {5: (FIXED32, "<f4"), 6: (FIXED64, "<f8")}
_VARINT_VALUES = {7: "int", 10: "int64", 11: "bool", 13: "half", 16: "uint32", 17: "uint64"}


def decode_attr(data: memoryview) -> Attr:
    """Decode an AttrValue; the last field wins, as in protobuf."""
    attr = Attr("none", None)
    for number, wire, value, _ in fields(data):
        if number == 1 and wire == BYTES:
            attr = Attr("list", _decode_list(value))
        elif number == 10 and wire == BYTES:
            attr = Attr("func", bytes(value))
        else:
            attr = _scalar(number, wire, value) or attr
    return attr


def _scalar(number: int, wire: int, value: Any) -> Attr | None:
    reader = _SCALARS.get((number, wire))
    return Attr(reader[0], reader[1](value)) if reader else None


def _decode_list(data: memoryview) -> Attr:
    """Decode the items of a list; if a damaged list mixes kinds, those of the last kind."""
    kind = "none"
    items: list[Any] = []
    for number, wire, value, _ in fields(data):
        found, more = "none", []
        reader = _SCALARS.get((number, wire))
        if reader:
            found, more = reader[0], [reader[1](value)]
        elif wire == BYTES and number in _PACKED:
            found, read = _PACKED[number]
            more = read(value)
        if found != "none":
            if found != kind:
                kind, items = found, []
            items.extend(more)
    return Attr(kind, tuple(items))


def decode_shape(data: memoryview) -> tuple[int, ...] | None:
    """Decode the dimensions, -1 for an unknown one; None if the rank is unknown."""
    dims: list[int] = []
    for number, wire, value, _ in fields(data):
        if number == 3 and wire == VARINT and value:
            return None
        if number == 2 and wire == BYTES:
            dims.append(next((signed(v) for n, w, v, _ in fields(value) if (n, w) == (1, VARINT)), 0))
    if len(dims) > _MAX_RANK:
        raise ModelError(f"a shape of {len(dims)} dimensions")
    return tuple(dims)


def decode_tensor(data: memoryview) -> Tensor:
    """Decode a TensorProto, without copying its bytes."""
    dtype, content = 0, data[:0]
    shape: tuple[int, ...] = ()
    values: list[Any] = []
    for number, wire, value, _ in fields(data):
        if number == 1 and wire == VARINT:
            dtype = value
        elif number == 2 and wire == BYTES:
            shape = decode_shape(value) or ()
        elif number == 4 and wire == BYTES:
            content = value
        elif number == 8 and wire == BYTES:
            values.append(bytes(value))
        else:
            values.extend(_numbers(number, wire, value))
    return Tensor(dtype, shape, content, values)


def _numbers(number: int, wire: int, value: Any) -> list[Any]:
    if number in _FIXED_VALUES and wire in (BYTES, _FIXED_VALUES[number][0]):
        return _fixed(value, _FIXED_VALUES[number][1])
    if number not in _VARINT_VALUES or wire not in (BYTES, VARINT):
        return []
    plain = [value] if wire == VARINT else _varints(value)
    if _VARINT_VALUES[number] == "half":  # the 16 bits of a half, not a number
        return np.array(plain, np.uint64).astype("<u2").view("<f2").tolist()  # type: ignore[no-any-return]
    return plain if _VARINT_VALUES[number].startswith("uint") else [signed(item) for item in plain]


def _fixed(data: memoryview, dtype: str) -> list[Any]:
    if len(data) % np.dtype(dtype).itemsize:
        raise ModelError(f"{len(data)} bytes of {dtype} values")
    return np.frombuffer(data, dtype).tolist()  # type: ignore[no-any-return]


def _varints(data: memoryview) -> list[int]:
    at, items = 0, []
    while at < len(data):
        item, at = varint(data, at)
        items.append(item)
    return items


def _ints(data: memoryview) -> list[int]:
    return [signed(item) for item in _varints(data)]


# (field number, wire type) of AttrValue and of AttrValue.ListValue: kind, and how to read one.
_SCALARS: dict[tuple[int, int], tuple[str, Callable[[Any], Any]]] = {
    (2, BYTES): ("s", bytes),
    (3, VARINT): ("i", signed),
    (4, FIXED32): ("f", lambda value: _fixed(value, "<f4")[0]),
    (5, VARINT): ("b", bool),
    (6, VARINT): ("type", int),
    (7, BYTES): ("shape", decode_shape),
    (8, BYTES): ("tensor", decode_tensor),
}
_PACKED: dict[int, tuple[str, Callable[[Any], list[Any]]]] = {
    3: ("i", _ints),
    4: ("f", lambda value: _fixed(value, "<f4")),
    5: ("b", lambda value: [bool(item) for item in _varints(value)]),
    6: ("type", _varints),
}


class LazyAttrs(Mapping[str, Attr]):
    """The attributes of one node, each decoded at its first use."""

    __slots__ = ("_known", "_raw")

    def __init__(self, raw: dict[str, memoryview]) -> None:
        self._raw = raw
        self._known: dict[str, Attr] = {}

    def __getitem__(self, key: str) -> Attr:
        if key not in self._known:
            self._known[key] = decode_attr(self._raw[key])
        return self._known[key]

    def __contains__(self, key: object) -> bool:
        return key in self._raw

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def decode_node(data: memoryview, start: int) -> Node:
    """Decode a NodeDef; `start` is its position for error messages."""
    name = op = ""
    inputs: list[str] = []
    raw: dict[str, memoryview] = {}
    for number, wire, value, _ in fields(data):
        if wire != BYTES:
            continue
        if number == 1:
            name = text_of(value)
        elif number == 2:
            op = text_of(value)
        elif number == 3:
            inputs.append(text_of(value))
        elif number == 5:
            key, attr = entry(value)
            raw[key] = attr
    if not name or not op:
        raise ModelError(f"the node at byte {start} has no name or no op")
    return Node(name, op, inputs, LazyAttrs(raw))


def entry(data: memoryview) -> tuple[str, memoryview]:
    """Decode an entry of a map into key and value."""
    key, value = "", data[:0]
    for number, wire, part, _ in fields(data):
        if wire == BYTES and number == 1:
            key = text_of(part)
        elif wire == BYTES and number == 2:
            value = part
    return key, value


@dataclass(frozen=True)
class Function:
    """A function of a graph: nodes that read `arguments` and each other.

    Its inputs are written `argument` or `node:output name:number`; so are the `results`.
    """

    name: str
    arguments: tuple[str, ...]
    nodes: tuple[Node, ...]
    results: tuple[str, ...]

    @property
    def size(self) -> int:
        """The number of nodes, inputs and results."""
        return len(self.results) + sum(1 + len(node.inputs) for node in self.nodes)


def decode_library(data: memoryview) -> Iterator[Function]:
    """Decode the functions of a FunctionDefLibrary."""
    for number, wire, value, start in fields(data):
        if (number, wire) == (1, BYTES):
            yield _function(value, start)


def _function(data: memoryview, start: int) -> Function:
    signature = data[:0]
    nodes: list[Node] = []
    returned: dict[str, str] = {}
    for number, wire, value, _ in fields(data):
        if (number, wire) == (1, BYTES):
            signature = value
        elif (number, wire) == (3, BYTES):
            nodes.append(decode_node(value, start))
        elif (number, wire) == (4, BYTES):
            key, source = entry(value)
            returned[key] = text_of(source)
    name, arguments, outputs = _signature(signature)
    return Function(name, arguments, tuple(nodes), tuple(returned.get(output, output) for output in outputs))


def _signature(data: memoryview) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Decode name, arguments and outputs of an OpDef."""
    name = ""
    arguments: list[str] = []
    outputs: list[str] = []
    for number, wire, value, _ in fields(data):
        if wire != BYTES:
            continue
        if number == 1:
            name = text_of(value)
        elif number in (2, 3):
            (arguments if number == 2 else outputs).append(_argument(value))
    return name, tuple(arguments), tuple(outputs)


def _argument(data: memoryview) -> str:
    return next((text_of(value) for number, wire, value, _ in fields(data) if (number, wire) == (1, BYTES)), "")
