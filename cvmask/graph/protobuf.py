"""The outermost layer of the protobuf encoding: a message is a row of numbered fields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cvmask.errors import ModelError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned integer of up to 64 bits and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ModelError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ModelError(f"a number of more than ten bytes before byte {at}")


def signed(value: int) -> int:
    """Two's complement: how protobuf writes negative int32 and int64 values."""
    return value - (1 << 64) if value >> 63 else value


def fields(data: memoryview) -> Iterator[tuple[int, int, Any, int]]:
    """Field number, wire type, value, and the position of the field, for each field of a message.

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
            raise ModelError(f"truncated: {size} bytes are promised at byte {start}, {end - at} are left")
        yield number, wire, data[at : at + size], start
        at += size


def text_of(data: memoryview) -> str:
    """A name."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise ModelError(f"a name that is not UTF-8: {bytes(data[:40])!r}") from None
