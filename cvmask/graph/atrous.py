"""Convolutions with holes: what TensorFlow spells as SpaceToBatchND, Conv2D, BatchToSpaceND."""

from __future__ import annotations

import numpy as np

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow
from cvmask.graph.nodes import Node
from cvmask.graph.numeric import Numeric

Pair = tuple[int, int]


def dilation(flow: Flow, node: Node) -> tuple[Pair, Pair]:
    """The rate of a convolution with holes, (1, 1) for one without; and its padding on each side.

    Both are (vertical, horizontal), in cells.

    Raises
    ------
    ModelError
        If the paddings are not the same on both sides, or depend on the size of the feature map.
    """
    before = flow.node(flow.inputs(node)[0])
    kernel = Numeric(flow).value(flow.inputs(node)[1]).shape[:2]
    if before.op == "SpaceToBatchND":
        return _split_dilation(flow, node, before, (int(kernel[0]), int(kernel[1])))
    _, *rate, _ = node.ints("dilations", (1, 1, 1, 1))
    if rate == [1, 1]:
        return (1, 1), (0, 0)
    reach = [(int(k) - 1) * r for k, r in zip(kernel, rate)]
    pads = [total // 2 if node.text("padding") == "SAME" else 0 for total in reach]
    if node.ints("strides") != (1, 1, 1, 1) or any(total % 2 for total in reach):
        raise ModelError(f"{node.name}: dilations {rate} with kernel {kernel} and strides are not supported")
    return (rate[0], rate[1]), (pads[0], pads[1])


def _split_dilation(flow: Flow, node: Node, before: Node, kernel: Pair) -> tuple[Pair, Pair]:
    """Rate and padding of a convolution between SpaceToBatchND and BatchToSpaceND.

    The paddings and crops are computed for two sizes of the feature map. What is padded and not
    cropped again is the convolution's own padding.
    """
    after = [reader for reader in flow.readers.get(node.name, ()) if reader.op == "BatchToSpaceND"]
    rate = [int(value) for value in Numeric(flow).value(flow.inputs(before)[1])]
    if len(after) != 1 or len(rate) != 2:
        raise ModelError(f"{node.name}: SpaceToBatchND without a BatchToSpaceND of two dimensions")
    found = {_own_padding(flow, before, after[0], size) for size in ((32, 40), (33, 47))}
    (top, bottom), (left, right) = next(iter(found))
    if kernel == (1, 1) and found == {((0, 0), (0, 0))}:
        return (1, 1), (0, 0)  # nothing lies between its holes
    if len(found) > 1 or top != bottom or left != right:
        raise ModelError(
            f"{node.name}: an atrous {kernel} convolution with paddings {found} is not supported"
        )
    return (rate[0], rate[1]), (top, left)


def _own_padding(flow: Flow, before: Node, after: Node, size: Pair) -> tuple[Pair, Pair]:
    image = np.broadcast_to(np.float32(0), (1, *size, 1))
    numeric = Numeric(flow, {flow.inputs(before)[0][0]: image})
    pads = numeric.value(flow.inputs(before)[2]) - numeric.value(flow.inputs(after)[2])
    (top, bottom), (left, right) = pads.tolist()
    return (int(top), int(bottom)), (int(left), int(right))
