"""Reads a binary GraphDef without TensorFlow and without protobuf.

Weights stay slices of the bytes, attributes are decoded when asked for. The file is read and not mapped:
whoever cut it short meanwhile would end the process. The encoding is that of
https://protobuf.dev/programming-guides/encoding/, the fields are those of graph.proto, node_def.proto,
attr_value.proto, tensor.proto and tensor_shape.proto in TensorFlow.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.files import open_regular
from cvmask.graph.inline import inline
from cvmask.graph.nodes import Graph, Node
from cvmask.graph.protobuf import BYTES, fields
from cvmask.graph.tensors import Bytes
from cvmask.graph.wire_library import Function, decode_library
from cvmask.graph.wire_nodes import decode_node

_GRAPH_FIELDS = {1: BYTES, 2: BYTES, 3: 0, 4: BYTES, 5: BYTES}  # node, library, version, versions, debug_info


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph in a `.pb` file.

    Raises
    ------
    ModelError
        If the file cannot be opened, or is no GraphDef.
    """
    with open_regular(path) as file:
        try:
            data = np.fromfile(file, np.uint8)
        except (OSError, MemoryError) as error:
            raise ModelError(f"{path}: cannot be read into memory: {error}") from None
    return parse_graph(data, Path(path).name)


def parse_graph(data: Bytes | bytearray | Any, origin: str = "graph") -> Graph:
    """The graph in a buffer of bytes, which has to outlive it and stay unchanged.

    Loops, branches and calls of TensorFlow 2 are replaced by their bodies, see `cvmask.graph.inline`.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef, or one without nodes, or with calls that cannot be replaced.
    """
    try:
        nodes, functions = _parts(memoryview(data).cast("B"))
    except ModelError as error:
        raise ModelError(f"{origin}: not a readable GraphDef: {error}; download or copy it again") from None
    if not nodes:
        raise ModelError(f"{origin}: a GraphDef without a single node")
    try:
        nodes = inline(nodes, functions)
    except ModelError as error:
        cure = "export it again after tf.compat.v1.disable_v2_behavior()"
        raise ModelError(f"{origin}: {error}; {cure}") from None
    return Graph(nodes, origin)


def _parts(data: memoryview) -> tuple[list[Node], dict[str, Function]]:
    """The nodes, and the functions by name."""
    nodes: list[Node] = []
    functions: dict[str, Function] = {}
    for number, wire, value, start in fields(data):
        if _GRAPH_FIELDS.get(number) != wire:
            raise ModelError(f"a graph has no field {number} of wire type {wire} (byte {start})")
        if number == 1:
            nodes.append(decode_node(value, start))
        elif number == 2:
            functions.update((function.name, function) for function in decode_library(value))
    return nodes, functions
