"""Reads a binary GraphDef without TensorFlow and without protobuf.

The file is mapped, not read: weights stay slices of it, attributes are decoded when asked for. The
encoding is that of https://protobuf.dev/programming-guides/encoding/, the fields are those of
graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto in TensorFlow.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cvmask.errors import ModelError
from cvmask.graph.files import open_regular
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.tensors import Attr, Bytes
from cvmask.graph.wire_fields import BYTES, fields, text_of
from cvmask.graph.wire_values import decode_attr

_GRAPH_FIELDS = {1: BYTES, 2: BYTES, 3: 0, 4: BYTES, 5: BYTES}  # node, library, version, versions, debug_info


class LazyAttrs(Mapping[str, Attr]):
    """The attributes of one node, each decoded when it is first asked for."""

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


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph in a `.pb` file.

    Raises
    ------
    ModelError
        If the file cannot be opened, or is no GraphDef.
    """
    with open_regular(path) as file:
        try:
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError, OverflowError) as error:
            raise ModelError(f"{path}: cannot be mapped into memory: {error}") from None
    return parse_graph(view, Path(path).name)


def parse_graph(data: Bytes | bytearray | Any, origin: str = "graph") -> Graph:
    """The graph in a buffer of bytes, which has to outlive it and stay unchanged.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef, or one without nodes.
    """
    try:
        nodes = list(_nodes(memoryview(data).cast("B")))
    except ModelError as error:
        raise ModelError(f"{origin}: not a readable GraphDef: {error}; download or copy it again") from None
    if not nodes:
        raise ModelError(f"{origin}: a GraphDef without a single node")
    return Graph(nodes, origin)


def _nodes(data: memoryview) -> Iterator[Node]:
    for number, wire, value, start in fields(data):
        if _GRAPH_FIELDS.get(number) != wire:
            raise ModelError(f"a graph has no field {number} of wire type {wire} (byte {start})")
        if number == 1:
            yield _node(value, start)


def _node(data: memoryview, start: int) -> Node:
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
            key, attr = _entry(value)
            raw[key] = attr
    if not name or not op:
        raise ModelError(f"the node at byte {start} has no name or no op")
    return Node(name, op, inputs, LazyAttrs(raw))


def _entry(data: memoryview) -> tuple[str, memoryview]:
    key, attr = "", data[:0]
    for number, wire, value, _ in fields(data):
        if wire == BYTES and number == 1:
            key = text_of(value)
        elif wire == BYTES and number == 2:
            attr = value
    return key, attr
