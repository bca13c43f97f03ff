"""The part of a frozen graph that a text graph reads.

OpenCV takes constants from it and nothing else, but decodes every node: of thousands it needs a few hundred.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError
from cvmask.graph.nodes import Graph
from cvmask.graph.protobuf import BYTES, fields, text_of
from cvmask.graph.wire_nodes import decode_node

Places = Mapping[str, tuple[int, int, memoryview]]
_NAME = 1 << 3 | BYTES  # how that field begins; its length follows
_CONSTANTS = ("Const", "Dequantize")  # what OpenCV takes as one


def node_places(frozen: NDArray[np.uint8], origin: str) -> Places:
    """For each node of a binary GraphDef, shape (n,), where it begins and ends, and what is in it.

    Raises
    ------
    ModelError
        If the bytes are no GraphDef.
    """
    try:
        found = [(number == 1 and wire == BYTES, value, at) for number, wire, value, at in fields(frozen.data)]
        ends = [start for _, _, start in found[1:]] + [frozen.size]
        return {_name(value): (start, end, value) for (is_node, value, start), end in zip(found, ends) if is_node}
    except ModelError as error:
        raise ModelError(f"{origin}: not a readable GraphDef: {error}; download or copy it again") from None


def needed_part(frozen: NDArray[np.uint8], places: Places, text: Graph) -> NDArray[np.uint8]:
    """The constants of `frozen` that a text graph reads, as a GraphDef of their own, shape (m,).

    Names that it does not hold are left out. All of it where the text reads none: OpenCV takes no empty graph.
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
    """The name is the first field, unless another program wrote the node."""
    if len(node) > 1 and node[0] == _NAME and node[1] < min(0x80, len(node) - 1):
        return text_of(node[2 : 2 + node[1]])
    return decode_node(node, 0).name
