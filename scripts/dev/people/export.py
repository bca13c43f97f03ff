"""Write models/people out of a checkpoint: the frozen graph, its text graph, labels and pipeline.config.

Weights are stored in half precision and cast when the graph is loaded: half the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf
import torch
from shapes import export as api
from shapes.write import write
from torch import nn

from . import config as c
from .backbone import Conv
from .network import PeopleNet

tf1 = tf.compat.v1
HALF_FROM = 256  # smaller constants stay in single precision


def features(net: PeopleNet, x: tf.Tensor) -> tf.Tensor:
    """Trunk and pyramid, as `PeopleNet.features`."""
    found = []
    x = conv(x, f"{c.FIRST}/Conv", net.trunk.stem)
    for i, block in enumerate(net.trunk.blocks):
        name = f"{c.FIRST}/expanded_conv_{i}"
        y = x if isinstance(block.expand, nn.Identity) else conv(x, f"{name}/expand", block.expand)
        y = conv(conv(y, f"{name}/depthwise", block.depthwise), f"{name}/project", block.project)
        x = tf1.add(x, y, name=f"{name}/add") if block.shortcut else y
        found.append(x)
    maps = {s: api.conv(found[i], f"{c.FIRST}/lateral_{s}", net.lateral[str(s)]) for s, (i, _) in c.LEVELS.items()}
    x = maps[32]
    for stride in (16, 8):
        size = [c.SIZE // stride + 1] * 2
        x = tf1.image.resize_bilinear(x, size, align_corners=True, name=f"{c.FIRST}/enlarged_{stride}")
        x = tf1.add(x, maps[stride], name=f"{c.FIRST}/merged_{stride}")
        x = api.conv(x, f"{c.FIRST}/smooth_{stride}", net.smooth[str(stride)], "Relu")
    return x


def conv(x: tf.Tensor, name: str, layer: Conv) -> tf.Tensor:
    """A layer of the trunk."""
    stride, side = layer.conv.stride[0], layer.conv.kernel_size[0] // 2
    padding = "SAME"
    if stride > 1:
        sides, padding = [side, side + layer.beyond], "VALID"
        x = tf1.pad(x, [[0, 0], sides, sides, [0, 0]], name=f"{name}/Pad")
    depthwise = layer.conv.groups > 1
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    weights = api.variable(f"{name}/weights", layer.conv.weight.detach().numpy().transpose(order))
    operation = tf1.nn.depthwise_conv2d if depthwise else tf1.nn.conv2d
    x = operation(x, weights, [1, stride, stride, 1], padding, name=f"{name}/{'depthwise' if depthwise else 'Conv2D'}")
    x = tf1.nn.bias_add(x, api.variable(f"{name}/biases", layer.conv.bias.detach().numpy()), name=f"{name}/BiasAdd")
    return tf.nn.relu6(x, name=f"{name}/Relu6") if layer.relu6 else x


def halve_(graph: tf1.GraphDef) -> None:
    """Store large constants in half precision; the Identity behind each becomes a Cast."""
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        stored = nodes.get(node.input[0]) if node.op == "Identity" else None
        if stored is None or stored.op != "Const":
            continue
        value = tf.make_ndarray(stored.attr["value"].tensor)
        if value.dtype != np.float32 or value.size < HALF_FROM:
            continue
        stored.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value.astype(np.float16)))
        stored.attr["dtype"].type = tf.float16.as_datatype_enum
        node.op = "Cast"
        node.ClearField("attr")
        node.attr["SrcT"].type = tf.float16.as_datatype_enum
        node.attr["DstT"].type = tf.float32.as_datatype_enum


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what training wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("models/people"))
    args = parser.parse_args()
    net = PeopleNet()
    net.load_state_dict(torch.load(args.checkpoint, weights_only=True, map_location="cpu")["mean"])
    with torch.no_grad():
        net.box_scores.bias[1] += c.SCORE_LOGIT_SHIFT
    graph = api.frozen_graph(c, net, features)
    halve_(graph)
    write(c, graph, args.output)


if __name__ == "__main__":
    main()
