"""Reads and prints the text form of a graph, the `.pbtxt` that goes with a `.pb` in OpenCV."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable

from cvmask.errors import ModelError
from cvmask.graph.files import open_regular
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.tensors import DTYPE_NAMES, Attr, Tensor
from cvmask.graph.text_fields import Message, Word, parse_fields
from cvmask.graph.text_print import print_node

_MAX_BYTES = 64 << 20  # a text graph has no weights: the largest known ones are under one MB
_DTYPES = {name: number for number, name in DTYPE_NAMES.items()}
_IGNORED = ("library", "versions", "version", "debug_info")


def read_text(path: str | os.PathLike[str]) -> Graph:
    """The graph in a `.pbtxt` file.

    Raises
    ------
    ModelError
        If the file cannot be opened, or is not a graph in text form.
    """
    with open_regular(path) as file:
        raw = file.read(_MAX_BYTES + 1)
    if len(raw) > _MAX_BYTES:
        raise ModelError(f"{path}: too large for a text graph (more than {_MAX_BYTES >> 20} MB)")
    return parse_text(raw.decode("utf-8", "surrogateescape"), Path(path).name)


def parse_text(text: str, origin: str = "text graph") -> Graph:
    """The graph in a text.

    Raises
    ------
    ModelError
        If the text is not a graph, or one without nodes; the message names the line.
    """
    nodes = []
    try:
        for name, value, line in parse_fields(text).fields:
            if name == "node":
                nodes.append(_node(_message(value, line), line))
            elif name not in _IGNORED:
                raise ModelError(f"line {line}: a graph has no field {name!r}")
    except ModelError as error:
        raise ModelError(f"{origin}: {error}") from None
    if not nodes:
        raise ModelError(f"{origin}: a text graph without a single node")
    return Graph(nodes, origin)


def print_text(nodes: Iterable[Node]) -> str:
    """The canonical text form: two spaces an indent, attributes in the order of their names."""
    return "".join(line + "\n" for node in nodes for line in print_node(node))


def _message(value: Word | Message, line: int) -> Message:
    if not isinstance(value, Message):
        raise ModelError(f"line {line}: expected {{ ... }}, got {value.text[:40]!r}")
    return value


def _word(value: Word | Message, line: int) -> Word:
    if not isinstance(value, Word):
        raise ModelError(f"line {line}: expected a value, got {{ ... }}")
    return value


def _name(value: Word | Message, line: int) -> str:
    return _word(value, line).raw().decode("utf-8", "surrogateescape")


def _node(message: Message, line: int) -> Node:
    node = Node("", "", [], {})
    attrs: dict[str, Attr] = {}
    for name, value, at in message.fields:
        if name == "name":
            node.name = _name(value, at)
        elif name == "op":
            node.op = _name(value, at)
        elif name == "input":
            node.inputs.append(_name(value, at))
        elif name == "attr":
            key, attr = _entry(_message(value, at))
            attrs[key] = attr
        elif name not in ("device", "experimental_debug_info"):
            raise ModelError(f"line {at}: a node has no field {name!r}")
    if not node.name or not node.op:
        raise ModelError(f"line {line}: a node without a name or an op")
    node.attrs = attrs
    return node


def _entry(message: Message) -> tuple[str, Attr]:
    key, attr = "", Attr("none", None)
    for name, value, line in message.fields:
        if name == "key":
            key = _name(value, line)
        elif name == "value":
            attr = _attr(_message(value, line))
        else:
            raise ModelError(f"line {line}: an attribute has no field {name!r}")
    return key, attr


def _attr(message: Message) -> Attr:
    attr = Attr("none", None)
    for name, value, line in message.fields:
        if name == "list":
            attr = Attr("list", _list(_message(value, line)))
        elif name in _SCALARS:
            attr = Attr(name, _SCALARS[name](value, line))
        elif name not in ("placeholder", "func"):
            raise ModelError(f"line {line}: an attribute value has no field {name!r}")
    return attr


def _list(message: Message) -> Attr:
    kind, items = "none", []
    for name, value, line in message.fields:
        if name not in _SCALARS:
            raise ModelError(f"line {line}: a list has no field {name!r}")
        kind = name
        items.append(_SCALARS[name](value, line))
    return Attr(kind, tuple(items))


def _shape(value: Word | Message, line: int) -> tuple[int, ...] | None:
    dims = []
    for name, inner, at in _message(value, line).fields:
        if name == "unknown_rank":
            if _word(inner, at).truth():
                return None
        elif name == "dim":
            sizes = [_word(v, n).integer() for k, v, n in _message(inner, at).fields if k == "size"]
            dims.append(sizes[-1] if sizes else 0)
        else:
            raise ModelError(f"line {at}: a shape has no field {name!r}")
    return tuple(dims)


def _dtype(value: Word | Message, line: int) -> int:
    word = _word(value, line)
    if word.text in _DTYPES:
        return _DTYPES[word.text]
    return word.integer()


def _tensor(value: Word | Message, line: int) -> Tensor:
    dtype, content = 0, b""
    shape: tuple[int, ...] = ()
    values: list[Any] = []
    for name, inner, at in _message(value, line).fields:
        if name == "dtype":
            dtype = _dtype(inner, at)
        elif name == "tensor_shape":
            shape = _shape(inner, at) or ()
        elif name == "tensor_content":
            content = _word(inner, at).raw()
        elif name in _ELEMENTS:
            values.append(_ELEMENTS[name](_word(inner, at)))
        elif name != "version_number":
            raise ModelError(f"line {at}: a tensor has no field {name!r}")
    return Tensor(dtype, shape, content, values)


_ELEMENTS: dict[str, Callable[[Word], Any]] = {
    "float_val": Word.real, "double_val": Word.real, "int_val": Word.integer, "int64_val": Word.integer,
    "bool_val": Word.truth, "string_val": Word.raw, "uint32_val": Word.integer, "uint64_val": Word.integer,
}  # fmt: skip
_SCALARS: dict[str, Callable[[Word | Message, int], Any]] = {
    "s": lambda value, line: _word(value, line).raw(),
    "i": lambda value, line: _word(value, line).integer(),
    "f": lambda value, line: _word(value, line).real(),
    "b": lambda value, line: _word(value, line).truth(),
    "type": _dtype,
    "shape": _shape,
    "tensor": _tensor,
}
