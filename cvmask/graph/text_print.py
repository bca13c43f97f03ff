"""Prints nodes in the text form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.nodes import Node
from cvmask.graph.tensors import BOOL, DOUBLE, DTYPE_NAMES, FLOAT, STRING, Attr, Tensor

# The field that holds the elements of each type, spelled one by one.
_ELEMENTS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 7: "string_val",
    9: "int64_val", 10: "bool_val", 17: "int_val", 22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
_MAX_BYTES = 1 << 22  # weights belong into the .pb


def print_node(node: Node) -> Iterator[str]:
    """The lines of one node."""
    yield "node {"
    yield f"  name: {_quote(node.name.encode('utf-8', 'surrogateescape'))}"
    yield f"  op: {_quote(node.op.encode('utf-8', 'surrogateescape'))}"
    for name in node.inputs:
        yield f"  input: {_quote(name.encode('utf-8', 'surrogateescape'))}"
    for key in sorted(node.attrs):
        yield "  attr {"
        yield f"    key: {_quote(key.encode('utf-8', 'surrogateescape'))}"
        yield from _block("value", _attr(node.attrs[key]), "    ")
        yield "  }"
    yield "}"


def _block(name: str, lines: Iterator[str], indent: str) -> Iterator[str]:
    yield f"{indent}{name} {{"
    for line in lines:
        yield f"{indent}  {line}"
    yield indent + "}"


def _attr(attr: Attr) -> Iterator[str]:
    if attr.kind == "list":
        items = attr.value
        yield from _block("list", (x for v in items.value for x in _attr(Attr(items.kind, v))), "")
    elif attr.kind == "shape":
        yield from _block("shape", _shape(attr.value), "")
    elif attr.kind == "tensor":
        yield from _block("tensor", _tensor(attr.value), "")
    elif attr.kind not in ("none", "func"):
        yield f"{attr.kind}: {_scalar(attr.kind, attr.value)}"


def _scalar(kind: str, value: Any) -> str:
    if kind == "s":
        return _quote(bytes(value))
    if kind == "b":
        return "true" if value else "false"
    if kind == "type":
        return DTYPE_NAMES.get(value, str(value))
    return _real(value) if kind == "f" else str(int(value))


def _real(value: float) -> str:
    """The shortest decimal that reads back as the same 32-bit float."""
    with np.errstate(over="ignore"):
        return str(np.float32(value))


def _shape(shape: tuple[int, ...] | None) -> Iterator[str]:
    if shape is None:
        yield "unknown_rank: true"
        return
    for size in shape:
        yield from _block("dim", iter([f"size: {size}"]), "")


def _tensor(tensor: Tensor) -> Iterator[str]:
    yield f"dtype: {DTYPE_NAMES.get(tensor.dtype, str(tensor.dtype))}"
    yield from _block("tensor_shape", _shape(tensor.shape), "")
    if tensor.dtype == STRING:
        for value in tensor.values:
            if not isinstance(value, bytes):
                raise ModelError(f"a constant of strings holds {value!r}")
            yield f"string_val: {_quote(value)}"
        return
    if len(tensor.content) > _MAX_BYTES:
        raise ModelError(f"a constant of {len(tensor.content)} bytes is too large for a text graph")
    if len(tensor.content):
        yield f"tensor_content: {_quote(bytes(tensor.content))}"
    try:
        for value in tensor.values if tensor.dtype in _ELEMENTS else ():
            yield f"{_ELEMENTS[tensor.dtype]}: {_element(tensor.dtype, value)}"
    except (TypeError, ValueError, OverflowError):
        raise ModelError(f"a constant of type {tensor.dtype} holds {value!r}") from None


def _element(dtype: int, value: Any) -> str:
    if dtype == BOOL:
        return _scalar("b", value)
    if dtype == FLOAT:
        return _real(value)
    return repr(float(value)) if dtype == DOUBLE else str(int(value))


def _quote(raw: bytes) -> str:
    return '"' + "".join(_ESCAPED[byte] for byte in raw) + '"'


_ESCAPED = [chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in range(256)]
_ESCAPED[ord('"')], _ESCAPED[ord("\\")], _ESCAPED[10] = '\\"', "\\\\", "\\n"
