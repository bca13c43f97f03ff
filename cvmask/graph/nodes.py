"""Nodes, constants and attributes of a graph, from either file format."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError

# Numbers and names of tensorflow.DataType, and what NumPy calls the ones that hold numbers.
DTYPE_NAMES = {
    0: "DT_INVALID", 1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8",
    7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16", 17: "DT_UINT16",
    18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
NUMPY_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1", 17: "<u2", 19: "<f2",
    22: "<u4", 23: "<u8",
}  # fmt: skip
FLOAT, DOUBLE, INT32, UINT8, STRING, BOOL = 1, 2, 3, 4, 7, 10
# The most elements of a tensor given value by value, so that a damaged shape cannot allocate more.
_MAX_SPELLED = 1 << 24

_MAX_STAGES = 16  # a Mask R-CNN has two

Bytes = Union[bytes, memoryview]


@dataclass(frozen=True)
class Tensor:
    """A constant as it stands in the file; `content` is a slice of it, never a copy.

    `values` are the ones spelled one by one; the last one stands for all that follow it.
    """

    dtype: int
    shape: tuple[int, ...]
    content: Bytes = b""
    values: Sequence[Any] = ()

    @property
    def size(self) -> int:
        """The number of elements of the shape."""
        size = 1
        for dim in self.shape:
            size *= dim
        return size

    @property
    def is_empty(self) -> bool:
        """True if the shape has elements but the file holds none: stripped weights."""
        return self.size > 0 and not len(self.content) and not len(self.values)

    def array(self) -> npt.NDArray[Any]:
        """Return the elements, read-only if they are a view of the file.

        Raises
        ------
        ModelError
            If the element count and the shape do not fit, or the elements are not numbers.
        """
        name = NUMPY_DTYPES.get(self.dtype)
        if name is None or any(dim < 0 for dim in self.shape):
            kind = DTYPE_NAMES.get(self.dtype, self.dtype)
            raise ModelError(f"a tensor of type {kind} and shape {list(self.shape)} has no numbers to read")
        try:
            return self._numbers(np.dtype(name))
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise ModelError(f"a damaged tensor of shape {list(self.shape)}: {error}") from None

    def _numbers(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if len(self.content):
            return np.frombuffer(self.content, dtype).reshape(self.shape)
        if len(self.values) <= 1:
            value = np.asarray(self.values[0] if self.values else 0).astype(dtype)
            return np.broadcast_to(value, self.shape)
        if not len(self.values) <= self.size <= _MAX_SPELLED:
            raise ValueError(f"{len(self.values)} values")
        flat = np.empty(self.size, dtype)
        flat[: len(self.values)] = self.values
        flat[len(self.values) :] = flat[len(self.values) - 1]
        return flat.reshape(self.shape)


class Attr(NamedTuple):
    """One attribute: its kind is the field of AttrValue that was set.

    ======  =================================================================
    kind    value
    ======  =================================================================
    s       bytes
    i       int
    f       float
    b       bool
    type    int, a key of DTYPE_NAMES
    shape   tuple of int (-1 is unknown), or None where the rank is unknown
    tensor  Tensor
    list    Attr, whose kind is that of the items and whose value is a tuple of them
    func    bytes: functions are carried, not read
    none    None: an attribute without a value, or a placeholder
    ======  =================================================================
    """

    kind: str
    value: Any


@dataclass
class Node:
    """One operation. `inputs` are spelled as in the file: `name`, `name:1` or, for control, `^name`.

    `in_file` is False for a node from a function's body: OpenCV cannot find it by its name.
    """

    name: str
    op: str
    inputs: list[str] = field(default_factory=list)
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    in_file: bool = True

    def sources(self) -> list[str]:
        """Return the names of the nodes whose data this node reads, without output numbers or control inputs."""
        return [source_name(text) if ":" in text else text for text in self.inputs if text[:1] != "^"]

    def get(self, key: str, kind: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default` if the node has none.

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
        """Return the integers of a list attribute."""
        items = self.get(key, "list", Attr("i", tuple(default)))
        return tuple(items.value) if items.kind == "i" else tuple(default)

    def text(self, key: str, default: str = "") -> str:
        """Return a string attribute."""
        return bytes(self.get(key, "s", default.encode())).decode("utf-8", "replace")

    def array(self) -> npt.NDArray[Any]:
        """Return the numbers of a Const."""
        tensor = self.get("value", "tensor")
        if tensor is None:
            raise ModelError(f"{self.name}: a {self.op} node holds no constant")
        try:
            return np.asarray(tensor.array())
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}") from None


def source_name(text: str) -> str:
    """Return `name` for `name`, `name:1` or `^name`."""
    return text.lstrip("^").rsplit(":", 1)[0] if ":" in text else text.lstrip("^")


class Graph:
    """Nodes in the order of the file, and by name."""

    def __init__(self, nodes: Iterable[Node], origin: str = "graph") -> None:
        self.nodes = list(nodes)
        self.origin = origin
        self.by_name = {node.name: node for node in self.nodes}
        if len(self.by_name) != len(self.nodes):
            counts = Counter(node.name for node in self.nodes)
            twice = next(name for name, count in counts.items() if count > 1)
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
        """Return these nodes and all whose data reach them, without going past the names in `stop`.

        Names that the graph does not hold are skipped: the weights of a text graph are in its `.pb`.
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

    def descendants(self, names: Iterable[str]) -> set[str]:
        """Return these nodes and all nodes that their data reach."""
        found: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(node.name for node in self.consumers.get(name, ()))
        return found

    def in_data_order(self, nodes: Sequence[Node]) -> list[Node]:
        """Sort these nodes so that each comes after those whose data reach it.

        Raises
        ------
        ModelError
            If there are more nodes than a network has stages: sorting would take too long.
        """
        if len(nodes) > _MAX_STAGES:
            raise ModelError(f"{self.origin}: {len(nodes)} {nodes[0].op} nodes, needed {_MAX_STAGES} or fewer")
        names = {node.name for node in nodes}
        return sorted(nodes, key=lambda node: len(names & self.ancestors([node.name])))

    @functools.cached_property
    def _sources(self) -> dict[str, list[str]]:
        return {node.name: node.sources() for node in self.nodes}

    @functools.cached_property
    def consumers(self) -> Mapping[str, list[Node]]:
        """For each node, the nodes that read its data; computed once."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.sources()):
                readers.setdefault(name, []).append(node)
        return readers


class RefusedError(ModelError):
    """The frozen graph was understood, but would give wrong results with any text graph."""


EXPORT_AGAIN = "export it again with export_inference_graph.py"
# What code for well-formed graphs raises when an input, an attribute or a number is missing.
_UNFORESEEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


@contextmanager
def understood(origin: str, cure: str = EXPORT_AGAIN) -> Iterator[None]:
    """Translate errors of the block, which reads the graph called `origin`, into ModelErrors.

    Raises
    ------
    ModelError
        Instead of the error that a malformed graph has caused.
    """
    try:
        yield
    except ModelError:
        raise
    except _UNFORESEEN as error:
        what = " ".join(f"{type(error).__name__} {error}".split())
        raise ModelError(
            f"{origin}: damaged, or not put together as the Object Detection API does it ({what}); {cure}"
        ) from error
