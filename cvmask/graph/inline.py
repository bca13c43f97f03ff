"""Puts the bodies of functions in place of the loops, branches and calls of TensorFlow 2.

A loop's body stands there once: the Object Detection API loops over the pictures of a batch, and here a
batch is one picture. A branch becomes a Switch and a Merge for each output, as TensorFlow 1 spells it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from cvmask.errors import ModelError
from cvmask.graph.nodes import Node
from cvmask.graph.protobuf import BYTES, fields, text_of
from cvmask.graph.wire_library import Function

_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf")
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_MAX_DEPTH = 20
# Nodes and inputs that bodies may come to, beside twice what the file holds: an export calls each body once.
_MAX_EXTRA = 20_000
_MAX_NAME = 1000
_MAX_DIGITS = 9
# What the outputs of an op are called, where there is more than one: a function's inputs say it by name.
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
    """The nodes with the bodies of what they call.

    A node that calls becomes an IdentityN of its name, which relays what its body gives.

    Raises
    ------
    ModelError
        If a body is missing, calls itself, or does not fit its call, or if there is no end of them.
    """
    todo = list(nodes)
    maker = _Inliner(functions, (node.name for node in todo))
    for node in todo:
        maker.add(node, 0)
    return maker.nodes


class _Inliner:
    """Collects nodes; every method that makes some gives the inputs that read their outputs."""

    def __init__(self, functions: Mapping[str, Function], names: Iterable[str]) -> None:
        self._functions = functions
        self._names = set(names)
        self._clashes: Counter[str] = Counter()
        self._left = _MAX_EXTRA + 2 * sum(function.size for function in functions.values())
        self.nodes: list[Node] = []

    def add(self, node: Node, depth: int) -> None:
        """A node; where it calls, what it calls and an IdentityN."""
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
        """Both bodies; first the one that is not taken where the condition holds."""
        if not data:
            raise ModelError(f"{node.name}: a {node.op} without a condition")
        condition, switches = data[0], [self._switch(node, text, data[0]) for text in data[1:]]
        ways = []
        for taken, key in enumerate(("else_branch", "then_branch")):
            inputs = [f"{switch}:{taken}" for switch in switches]
            results = self._body(node, self._called(node, key), inputs, depth)
            # Once more, for what a body gives whatever comes in: a constant.
            ways.append([f"{self._switch(node, text, condition)}:{taken}" for text in results])
        return [self._new(node, "merge", "Merge", pair) for pair in zip(*ways)]

    def _switch(self, node: Node, text: str, condition: str) -> str:
        return self._new(node, "switch", "Switch", (text, condition))

    def _new(self, node: Node, name: str, op: str, inputs: Iterable[str]) -> str:
        name = self._new_name(f"{node.name}/{name}")
        self.nodes.append(Node(name, op, list(inputs), in_file=False))
        return name

    def _body(self, node: Node, function: Function, data: list[str], depth: int) -> list[str]:
        """The nodes of a function under new names; what its results are called now."""
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
    """The number of an output: 3 of `output:3`; 1 of `indices:0` of a TopKV2."""
    name, _, number = output.partition(":")
    first = _OUTPUTS[op].index(name) if name in _OUTPUTS.get(op, ()) else 0
    return first + (int(number) if number.isdecimal() and len(number) <= _MAX_DIGITS else 0)


def _function_name(data: bytes) -> str:
    """The name in a NameAttrList."""
    found = (text_of(value) for number, wire, value, _ in fields(memoryview(data)) if (number, wire) == (1, BYTES))
    return next(found, "")
