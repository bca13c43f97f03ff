"""Reads a binary GraphDef without TensorFlow and without protobuf.

Weights stay slices of the bytes, attributes are decoded when asked for. The file is read, not memory-mapped:
truncating a mapped file would kill the process. The encoding is that of
https://protobuf.dev/programming-guides/encoding/, the fields are those of graph.proto, node_def.proto,
attr_value.proto, tensor.proto and tensor_shape.proto in TensorFlow.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError
from cvmask.graph.model_files import GraphFile
from cvmask.graph.nodes import Bytes, Graph, Node
from cvmask.graph.protobuf import BYTES, Function, decode_library, decode_node, fields, text_of

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 20
# Limit of the nodes and inputs of inlined bodies, on top of twice the file's: an export calls each body once.
_MAX_EXTRA = 20_000
_MAX_NAME = 1000
_MAX_DIGITS = 9
# The names of an op's outputs if there are several: inputs in a function refer to outputs by name.
_OUTPUTS = {
    "CombinedNonMaxSuppression": ("nmsed_boxes", "nmsed_scores", "nmsed_classes", "valid_detections"),
    "Merge": ("output", "value_index"),
    "NonMaxSuppressionV4": ("selected_indices", "valid_outputs"),
    "NonMaxSuppressionV5": ("selected_indices", "selected_scores", "valid_outputs"),
    "Switch": ("output_false", "output_true"),
    "TensorArrayV3": ("handle", "flow"),
    "TopK": ("values", "indices"),
    "TopKV2": ("values", "indices"),
    "Unique": ("y", "idx"),
    "UniqueWithCounts": ("y", "idx", "count"),
}


def inline(nodes: Iterable[Node], functions: Mapping[str, Function]) -> list[Node]:
    """Replace calls of functions by the functions' bodies.

    A calling node becomes an IdentityN of the same name, which relays the results of its body.

    Raises
    ------
    ModelError
        If a body is missing, calls itself, or does not fit its call, or if there are too many.
    """
    todo = list(nodes)
    maker = _Inliner(functions, (node.name for node in todo))
    for node in todo:
        maker.add(node, 0)
    return maker.nodes


class _Inliner:
    """Collects nodes; methods that add some return the inputs by which other nodes read them."""

    def __init__(self, functions: Mapping[str, Function], names: Iterable[str]) -> None:
        self._functions = functions
        self._names = set(names)
        self._clashes: Counter[str] = Counter()
        self._left = _MAX_EXTRA + 2 * sum(function.size for function in functions.values())
        self.nodes: list[Node] = []

    def add(self, node: Node, depth: int) -> None:
        """Add a node; for a call, the nodes of the called body and an IdentityN."""
        data = [text for text in node.inputs if not text.startswith("^")]
        if node.op in _LOOPS:
            outputs = self._body(node, self._called(node, "body"), data, depth)
        elif node.op in _BRANCHES:
            outputs = self._branches(node, data, depth)
        elif node.op in _CALLS:
            outputs = self._body(node, self._called(node, "f"), data, depth)
        elif node.op in self._functions:
            outputs = self._body(node, self._functions[node.op], data, depth)
        else:
            self.nodes.append(node)
            return
        self.nodes.append(Node(node.name, "IdentityN", outputs, in_file=False))

    def _called(self, node: Node, key: str) -> Function:
        name = _function_name(node.get(key, "func", b""))
        if name not in self._functions:
            raise ModelError(f"{node.name}: a {node.op} whose {key} {name!r} is not in the file")
        return self._functions[name]

    def _branches(self, node: Node, data: list[str], depth: int) -> list[str]:
        """Add both branches; first the one for a false condition."""
        if not data:
            raise ModelError(f"{node.name}: a {node.op} without a condition")
        condition, switches = data[0], [self._switch(node, text, data[0]) for text in data[1:]]
        ways = []
        for taken, key in enumerate(("else_branch", "then_branch")):
            inputs = [f"{switch}:{taken}" for switch in switches]
            results = self._body(node, self._called(node, key), inputs, depth)
            # A second Switch after the body, for results that do not depend on its inputs: constants.
            ways.append([f"{self._switch(node, text, condition)}:{taken}" for text in results])
        return [self._new(node, "merge", "Merge", pair) for pair in zip(*ways)]

    def _switch(self, node: Node, text: str, condition: str) -> str:
        return self._new(node, "switch", "Switch", (text, condition))

    def _new(self, node: Node, name: str, op: str, inputs: Iterable[str]) -> str:
        name = self._new_name(f"{node.name}/{name}")
        self.nodes.append(Node(name, op, list(inputs), in_file=False))
        return name

    def _body(self, node: Node, function: Function, data: list[str], depth: int) -> list[str]:
        """Add the nodes of a function under new names; return the new names of its results."""
        self._left -= function.size
        if depth >= _MAX_DEPTH or self._left < 0:
            raise ModelError(f"{node.name}: {function.name!r} calls too many functions, or itself")
        if len(function.arguments) != len(data):
            raise ModelError(
                f"{node.name}: {function.name!r} takes {len(function.arguments)} inputs, got {len(data)}"
            )
        known = dict(zip(function.arguments, data))
        names = {inner.name: self._new_name(f"{node.name}/{inner.name}") for inner in function.nodes}
        ops = {inner.name: inner.op for inner in function.nodes}

        def outside(text: str) -> str:
            if text in known:
                return known[text]
            name, _, output = text.partition(":")
            if name not in names:
                raise ModelError(f"{function.name}: no node or argument is named {name!r}")
            known[text] = f"{names[name]}:{_number(ops[name], output)}"
            return known[text]

        for inner in function.nodes:
            inputs = [outside(text) for text in inner.inputs if not text.startswith("^")]
            self.add(Node(names[inner.name], inner.op, inputs, inner.attrs, in_file=False), depth + 1)
        return [outside(text) for text in function.results]

    def _new_name(self, name: str) -> str:
        if len(name) > _MAX_NAME:
            raise ModelError(f"{name[:40]}...: a name of {len(name)} letters")
        candidate = name
        while candidate in self._names:
            self._clashes[name] += 1
            candidate = f"{name}_{self._clashes[name]}"
        self._names.add(candidate)
        return candidate


def _number(op: str, output: str) -> int:
    """Return the index of an output: 3 for `output:3`, 1 for `indices:0` of a TopKV2."""
    name, _, number = output.partition(":")
    first = _OUTPUTS[op].index(name) if name in _OUTPUTS.get(op, ()) else 0
    return first + (int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else 0)


def _function_name(data: bytes) -> str:
    """Return the name in a NameAttrList."""
    found = (text_of(value) for number, wire, value, _ in fields(memoryview(data)) if (number, wire) == (1, BYTES))
    return next(found, "")


_GRAPH_FIELDS = {1: BYTES, 2: BYTES, 3: 0, 4: BYTES, 5: BYTES}  # node, library, version, versions, debug_info


def read_graph(path: str | os.PathLike[str]) -> Graph:
    """Read the graph in a `.pb` file.

    Raises
    ------
    ModelError
        If the file cannot be opened, or is not a GraphDef.
    """
    return parse_graph(GraphFile(path).read(), Path(path).name)


def parse_graph(data: Bytes | bytearray | Any, origin: str = "graph") -> Graph:
    """Parse a graph from a buffer, which has to outlive the graph and stay unchanged.

    Loops, branches and calls of TensorFlow 2 are replaced by their bodies, see `cvmask.graph.graph_def`.

    Raises
    ------
    ModelError
        If the bytes are not a GraphDef, or one without nodes, or with calls that cannot be replaced.
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
    """Return the nodes, and the functions by name."""
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


Places = Mapping[str, tuple[int, int, memoryview]]
_NAME = 1 << 3 | BYTES  # the tag of that field; its length follows
_CONSTANTS = ("Const", "Dequantize")  # what OpenCV accepts as an empty graph


def node_places(frozen: NDArray[np.uint8], origin: str) -> Places:
    """Return where each node of a binary GraphDef, shape (n,), begins and ends, and its decoded form.

    Raises
    ------
    ModelError
        If the bytes are not a GraphDef.
    """
    try:
        found = [(number == 1 and wire == BYTES, value, at) for number, wire, value, at in fields(frozen.data)]
        ends = [start for _, _, start in found[1:]] + [frozen.size]
        return {_name(value): (start, end, value) for (is_node, value, start), end in zip(found, ends) if is_node}
    except ModelError as error:
        raise ModelError(f"{origin}: not a readable GraphDef: {error}; download or copy it again") from None


def needed_part(frozen: NDArray[np.uint8], places: Places, text: Graph) -> NDArray[np.uint8]:
    """Return the constants of `frozen` that a text graph reads, as a GraphDef of their own, shape (m,).

    Names that `frozen` does not hold are skipped. If the text graph reads no constant, returns all of `frozen`,
    because OpenCV refuses an empty graph.
    """
    wanted: set[tuple[int, int]] = set()
    todo = {name for node in text for name in node.sources() if name in places}
    while todo:
        start, end, value = places[todo.pop()]
        node = decode_node(value, start)
        if node.op in _CONSTANTS and (start, end) not in wanted:
            wanted.add((start, end))
            todo.update(name for name in node.sources() if name in places)
    pieces = [frozen[start:end] for start, end in sorted(wanted)]
    return np.concatenate(pieces) if pieces else frozen


def _name(node: memoryview) -> str:
    """Return the name of a node: its first field, unless an unusual program wrote it."""
    if len(node) > 1 and node[0] == _NAME and node[1] < min(0x80, len(node) - 1):
        return text_of(node[2 : 2 + node[1]])
    return decode_node(node, 0).name
