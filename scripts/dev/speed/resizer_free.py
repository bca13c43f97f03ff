"""Write the frozen graph with its resizer set to one size, so that nobody resizes; and as ONNX.

    python -m speed.resizer_free FROZEN.pb WIDTHxHEIGHT OUT.pb [OUT.onnx]
"""

from __future__ import annotations

import sys

import numpy as np
import tensorflow as tf

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "detection_masks", "num_detections")


def set_resizer(graph: tf.compat.v1.GraphDef, size_wh: tuple[int, int]) -> int:
    """Put the short and the long side where the graph has its own; how many constants were changed."""
    limits = {}
    for node in graph.node:
        if node.op == "Const" and "Preprocessor" in node.name:
            value = tf.make_ndarray(node.attr["value"].tensor)
            if value.size == 1 and value.max() >= 100:
                limits[node.name] = (node.attr["value"].tensor, value)
    sides = sorted({float(value.max()) for _, value in limits.values()})
    if len(sides) != 2:
        raise SystemExit(f"the resizer's two limits are not among {sides}")
    for tensor, value in limits.values():
        new = sorted(size_wh)[sides.index(float(value.max()))]
        tensor.CopyFrom(tf.make_tensor_proto(np.full(value.shape, new, value.dtype)))
    return len(limits)


def main(frozen: str, size: str, out: str, onnx: str = "") -> None:
    graph = tf.compat.v1.GraphDef()
    with open(frozen, "rb") as file:
        graph.ParseFromString(file.read())
    width, height = map(int, size.split("x"))
    print(f"{set_resizer(graph, (width, height))} constants of the resizer set to {size}")
    with open(out, "wb") as file:
        file.write(graph.SerializeToString())
    if onnx:
        import tf2onnx

        names = [f"{name}:0" for name in OUTPUTS]
        tf2onnx.convert.from_graph_def(
            graph, input_names=["image_tensor:0"], output_names=names, opset=17, output_path=onnx
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
