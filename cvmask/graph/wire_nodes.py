"""One node in the protobuf encoding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cvmask.errors import ModelError
from cvmask.graph.nodes import Node
from cvmask.graph.protobuf import BYTES, fields, text_of
from cvmask.graph.tensors import Attr
from cvmask.graph.wire_values import decode_attr


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


def decode_node(data: memoryview, start: int) -> Node:
    """A NodeDef; `start` is where messages say that it stands."""
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
    """Key and value of an item of a map."""
    key, value = "", data[:0]
    for number, wire, part, _ in fields(data):
        if wire == BYTES and number == 1:
            key = text_of(part)
        elif wire == BYTES and number == 2:
            value = part
    return key, value
