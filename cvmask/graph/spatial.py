"""Height and width of what a layer gives, behind a crop: there, sizes do not depend on the picture."""

from __future__ import annotations

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.nodes import Node
from cvmask.graph.numeric import Numeric

_WINDOWED = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool")


class Spatial:
    """Sizes in cells, (height, width)."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._known: dict[str, tuple[int, int]] = {}

    def size(self, ref: Ref) -> tuple[int, int]:
        """The size of an output.

        Raises
        ------
        ModelError
            If it depends on the picture, or on an op that is not known here.
        """
        flow = self._flow
        for node in flow.order([ref], self._needs):
            self._known[node.name] = self._size(node)
        return self._known[flow.origin(ref)[0]]

    def _needs(self, node: Node) -> list[Ref]:
        if node.op == "CropAndResize" or node.name in self._known:
            return []
        if node.op in ("ResizeBilinear", "ResizeNearestNeighbor") and not self._flow.varies(
            self._flow.inputs(node)[1]
        ):
            return []
        index = 2 if node.op == "Conv2DBackpropInput" else 0
        varying = [ref for ref in self._flow.inputs(node)[index:] if self._flow.varies(ref)]
        if not varying:
            raise ModelError(f"{node.name}: its size depends on the picture")
        return varying[:1]

    def _size(self, node: Node) -> tuple[int, int]:
        flow = self._flow
        if node.op == "CropAndResize":
            return self._pair(node, flow.inputs(node)[3])
        if node.op in ("ResizeBilinear", "ResizeNearestNeighbor"):
            return self._pair(node, flow.inputs(node)[1])
        height, width = self._known[self._needs(node)[0][0]]
        if node.op == "Conv2DBackpropInput":
            _, down, right, _ = node.ints("strides", (1, 1, 1, 1))
            return self._deconvolved(node, (height, width), (down, right))
        if node.op in _WINDOWED:
            return self._windowed(node, (height, width))
        if node.op == "Pad":
            pads = Numeric(flow).value(flow.inputs(node)[1])
            return height + int(pads[1].sum()), width + int(pads[2].sum())
        return height, width

    def _pair(self, node: Node, ref: Ref) -> tuple[int, int]:
        given = Numeric(self._flow, shape_of=self._shape_of).value(ref).reshape(-1)
        if given.size != 2:
            raise ModelError(f"{node.name}: needed a height and a width, got {given.tolist()}")
        return int(given[0]), int(given[1])

    def _shape_of(self, name: str) -> tuple[int, ...] | None:
        return (1, *self._known[name], 1) if name in self._known else None

    def _kernel(self, node: Node) -> tuple[int, int]:
        if node.op in ("MaxPool", "AvgPool"):
            _, height, width, _ = node.ints("ksize", (1, 1, 1, 1))
        else:
            height, width, *_ = Numeric(self._flow).value(self._flow.inputs(node)[1]).shape
        return int(height), int(width)

    def _windowed(self, node: Node, size: tuple[int, int]) -> tuple[int, int]:
        _, *steps, _ = node.ints("strides", (1, 1, 1, 1))
        _, *holes, _ = node.ints("dilations", (1, 1, 1, 1))
        if node.text("padding") == "SAME":
            return -(-size[0] // steps[0]), -(-size[1] // steps[1])
        reach = [(k - 1) * d for k, d in zip(self._kernel(node), holes)]
        return (size[0] - reach[0] - 1) // steps[0] + 1, (size[1] - reach[1] - 1) // steps[1] + 1

    def _deconvolved(self, node: Node, size: tuple[int, int], steps: tuple[int, int]) -> tuple[int, int]:
        output = self._flow.inputs(node)[0]
        if not self._flow.varies(output):
            shape = Numeric(self._flow).value(output).reshape(-1)
            return int(shape[1]), int(shape[2])
        height, width = self._kernel(node) if node.text("padding") == "VALID" else steps
        return size[0] * steps[0] + max(height - steps[0], 0), size[1] * steps[1] + max(width - steps[1], 0)
