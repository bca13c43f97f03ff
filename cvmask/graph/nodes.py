"""What a graph is made of, whichever file it came from: nodes, and who reads whom."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError
from cvmask.graph.tensors import Attr


@dataclass
class Node:
    """One operation. `inputs` are spelled as in the file: `name`, `name:1` or, for control, `^name`.

    `in_file` is False for one out of a function's body: OpenCV does not find it by its name.
    """

    name: str
    op: str
    inputs: list[str] = field(default_factory=list)
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    in_file: bool = True

    def sources(self) -> list[str]:
        """The names of the nodes whose data this one reads, without output numbers or control inputs."""
        return [source_name(text) if ":" in text else text for text in self.inputs if text[:1] != "^"]

    def get(self, key: str, kind: str, default: Any = None) -> Any:
        """The value of an attribute, or `default` where the node has none.

        Raises
        ------
        ModelError
            If the attribute is of another kind.
        """
        if key not in self.attrs:
            return default
        attr = self.attrs[key]
        if attr.kind != kind:
            raise ModelError(f"{self.name}: attribute {key} is of kind {attr.kind!r}, needed {kind!r}")
        return attr.value

    def ints(self, key: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """The integers of a list attribute."""
        items = self.get(key, "list", Attr("i", tuple(default)))
        return tuple(items.value) if items.kind == "i" else tuple(default)

    def text(self, key: str, default: str = "") -> str:
        """A string attribute."""
        return bytes(self.get(key, "s", default.encode())).decode("utf-8", "replace")

    def array(self) -> npt.NDArray[Any]:
        """The numbers of a Const."""
        tensor = self.get("value", "tensor")
        if tensor is None:
            raise ModelError(f"{self.name}: a {self.op} node holds no constant")
        try:
            return np.asarray(tensor.array())
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}") from None


def source_name(text: str) -> str:
    """`name` out of `name`, `name:1` or `^name`."""
    return text.lstrip("^").rsplit(":", 1)[0] if ":" in text else text.lstrip("^")


class Graph:
    """Nodes in the order of the file, and by name."""

    def __init__(self, nodes: Iterable[Node], origin: str = "graph") -> None:
        self.nodes = list(nodes)
        self.origin = origin
        self.by_name = {node.name: node for node in self.nodes}
        if len(self.by_name) != len(self.nodes):
            names = [node.name for node in self.nodes]
            twice = next(name for name in names if names.count(name) > 1)
            raise ModelError(f"{origin}: two nodes are named {twice!r}")

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def __getitem__(self, name: str) -> Node:
        try:
            return self.by_name[source_name(name)]
        except KeyError:
            raise ModelError(f"{self.origin}: no node is named {name!r}") from None

    def ancestors(self, names: Iterable[str], stop: Iterable[str] = ()) -> set[str]:
        """These nodes and all whose data reach them, not walking on through the names in `stop`.

        Names that the graph does not hold are left out: a text graph's weights live in its `.pb`.
        """
        found: set[str] = set()
        halt = set(stop)
        todo = [source_name(name) for name in names]
        while todo:
            name = todo.pop()
            if name in found or name not in self.by_name:
                continue
            found.add(name)
            if name not in halt:
                todo.extend(self._sources[name])
        return found

    @functools.cached_property
    def _sources(self) -> dict[str, list[str]]:
        return {node.name: node.sources() for node in self.nodes}

    def consumers(self) -> dict[str, list[Node]]:
        """For each node that is read, the nodes that read its data."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.sources()):
                readers.setdefault(name, []).append(node)
        return readers
