"""Which layers OpenCV's TensorFlow importer reads from a text graph."""

from __future__ import annotations

from collections.abc import Iterable

from cvmask.graph.nodes import Graph, Node

OPENCV_VERSIONS = "4.8 to 5.0"
# Those that Mask R-CNNs are made of; each is read by every one of these versions, which a test tries.
_READ = """
    Abs Add AddN AddV2 AvgPool BatchToSpaceND BiasAdd ClipByValue Concat ConcatV2 Const Conv2D
    Conv2DBackpropInput CropAndResize DepthwiseConv2dNative DetectionOutput Elu Exp ExpandDims Flatten
    FusedBatchNorm FusedBatchNormV3 Identity LeakyRelu MatMul MaxPool Mean Mul Pack Pad Placeholder PriorBox
    RealDiv Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Sigmoid Slice Softmax SpaceToBatchND
    Split Squeeze StridedSlice Sub Sum Tanh Transpose
"""
READ = frozenset(_READ.split())


def unread(graph: Iterable[Node]) -> list[Node]:
    """The layers that OpenCV is not known to read."""
    return [node for node in graph if node.op not in READ]


def support_notes(text: Graph) -> list[str]:
    """What may keep a text graph from running, whichever version of OpenCV it is given to."""
    nodes = unread(text)
    if not nodes:
        return []
    ops = ", ".join(sorted({node.op for node in nodes}))
    return [
        f"{text.origin}: OpenCV is not known to have a layer for {ops} (node {nodes[0].name!r}); "
        "if it refuses the model, leave this file out, and a fitting one is made from the frozen graph"
    ]


def has_clipped_anchors(text: Graph) -> bool:
    """Whether OpenCL needs its anchors clipped by layers of their own."""
    return any(node.op == "PriorBox" and node.get("clip", "b", False) for node in text)
