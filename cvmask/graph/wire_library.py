"""The functions of a GraphDef: bodies of TensorFlow 2's loops and branches.

The fields are those of function.proto and op_def.proto in TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cvmask.graph.nodes import Node
from cvmask.graph.protobuf import BYTES, fields, text_of
from cvmask.graph.wire_nodes import decode_node, entry


@dataclass(frozen=True)
class Function:
    """A graph of its own, whose nodes read `arguments` and each other.

    In it an input is spelled `argument` or `node:output name:number`; `results` are such inputs.
    """

    name: str
    arguments: tuple[str, ...]
    nodes: tuple[Node, ...]
    results: tuple[str, ...]

    @property
    def size(self) -> int:
        """How many nodes, inputs and results it has."""
        return len(self.results) + sum(1 + len(node.inputs) for node in self.nodes)


def decode_library(data: memoryview) -> Iterator[Function]:
    """The functions of a FunctionDefLibrary."""
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
    """Name, arguments and outputs of an OpDef."""
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
