"""Attribute values, tensors and shapes in the protobuf encoding."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, signed, varint
from cvmask.graph.tensors import Attr, Tensor

_MAX_RANK = 32  # NumPy's own limit in the releases that are supported

# Field numbers of TensorProto's value lists: wire type of one item, and its little-endian NumPy type.
_FIXED_VALUES = {5: (FIXED32, "<f4"), 6: (FIXED64, "<f8")}
_VARINT_VALUES = {7: "int", 10: "int64", 11: "bool", 13: "half", 16: "uint32", 17: "uint64"}


def decode_attr(data: memoryview) -> Attr:
    """One AttrValue: the field that stands last wins, as in protobuf."""
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
    """The items of one kind; where a damaged list mixes kinds, those of the last one."""
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
            items = [*items, *more] if found == kind else more
            kind = found
    return Attr(kind, tuple(items))


def decode_shape(data: memoryview) -> tuple[int, ...] | None:
    """The dimensions, -1 for unknown ones; None where even their number is unknown."""
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
    """A TensorProto. Its bytes stay where they are."""
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
