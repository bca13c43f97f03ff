"""A checkpoint to go on training from, out of an exported graph.

Export folds batch normalisation into the convolutions. Here it is put back: the mean and the variance of
what each convolution gives are measured on training scenes, the weights are scaled to a variance of one,
and the layer's scale and offset undo both. The network answers the same as before.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cvmask.graph.graph_def import read_graph

from . import boxes as bx
from . import config as c
from .config import FIRST, PREDICTOR, SECOND
from .network import Bottleneck, ConvBN, ShapesNet
from .targets import Samples
from .train import SIZE_WH, losses


def named_layers(net: ShapesNet) -> dict[str, ConvBN | nn.Conv2d | nn.Linear]:
    """Every layer with weights, by the scope of its variables."""
    layers: dict[str, Any] = {f"{FIRST}/stem_{i}": layer for i, layer in enumerate(net.stem, 1)}
    for scope, blocks in ((FIRST, net.trunk), (f"{SECOND}/Shapes", list(net.second)[:-1])):
        for i, block in enumerate(blocks, 1):
            layers.update(_bottleneck(f"{scope}/unit_{i}", block))
    layers |= {
        f"{SECOND}/Shapes/out": net.second[-1],
        "Conv": net.rpn,
        "FirstStageBoxPredictor/BoxEncodingPredictor": net.rpn_boxes,
        "FirstStageBoxPredictor/ClassPredictor": net.rpn_scores,
        f"{PREDICTOR}/BoxEncodingPredictor": net.box_encodings,
        f"{PREDICTOR}/ClassPredictor": net.box_scores,
    }
    names = ["Conv"] + [f"Conv_{i}" for i in range(1, c.MASK_CONVS + 1)]
    return layers | {f"{PREDICTOR}/{n}": m for n, m in zip(names, [*net.mask_convs, net.mask_logits])}


def _bottleneck(scope: str, block: Bottleneck) -> dict[str, ConvBN]:
    return {f"{scope}/conv1": block.reduce, f"{scope}/conv2": block.conv, f"{scope}/conv3": block.expand}


def load_folded(net: ShapesNet, path: Path) -> None:
    """Fill the layers with the graph's weights; normalisation becomes the bias alone."""
    nodes = {node.name: node for node in read_graph(path)}
    for scope, layer in named_layers(net).items():
        weights, biases = (
            torch.from_numpy(np.array(nodes[f"{scope}/{part}"].array()))
            for part in ("weights", "biases")
        )
        if isinstance(layer, ConvBN):
            layer.bn.running_var.fill_(1 - layer.bn.eps)
            layer.conv.weight.data.copy_(weights.permute(3, 2, 0, 1))
            layer.bn.bias.data.copy_(biases)
            continue
        layer.weight.data.copy_(weights.T if isinstance(layer, nn.Linear) else weights.permute(3, 2, 0, 1))
        layer.bias.data.copy_(biases)
    net.mask_logits.bias.data -= c.MASK_LOGIT_SHIFT


def measure(net: ShapesNet, batches: int = 8) -> dict[ConvBN, tuple[Tensor, Tensor]]:
    """Mean and variance of every channel that a normalised convolution gives, over training scenes."""
    sums: dict[ConvBN, list[Tensor]] = {}

    def note(bn: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        sums.setdefault(owner[bn], []).append(torch.stack([x.mean((0, 2, 3)), (x * x).mean((0, 2, 3))]))

    owner = {layer.bn: layer for layer in named_layers(net).values() if isinstance(layer, ConvBN)}
    hooks = [bn.register_forward_pre_hook(note) for bn in owner]
    anchors = bx.anchors(SIZE_WH)
    data, rng = Samples(900_000, 8 * batches, SIZE_WH), np.random.default_rng(0)
    with torch.no_grad():
        for i in range(batches):
            losses(net.eval(), [data[8 * i + k] for k in range(8)], anchors, rng)
    for hook in hooks:
        hook.remove()
    means = {layer: torch.stack(parts).mean(0) for layer, parts in sums.items()}
    return {layer: (mean, square - mean * mean) for layer, (mean, square) in means.items()}


def unfold(layer: ConvBN, mean: Tensor, variance: Tensor) -> None:
    """Put normalisation back: the same answer, from weights whose output has a variance of one."""
    deviation = torch.sqrt(variance + layer.bn.eps)
    layer.conv.weight.data /= deviation[:, None, None, None]
    layer.bn.weight.data.copy_(deviation)
    layer.bn.bias.data.add_(mean)
    layer.bn.running_mean.copy_(mean / deviation)
    layer.bn.running_var.fill_(1 - layer.bn.eps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path, nargs="?", default=Path("models/shapes/frozen_inference_graph.pb"))
    parser.add_argument("-o", "--output", type=Path, default=Path("out/shapes.pt"), help="checkpoint to write")
    args = parser.parse_args()
    net = ShapesNet()
    load_folded(net, args.graph)
    for layer, (mean, variance) in measure(net).items():
        unfold(layer, mean.float(), variance.float())
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"net": net.state_dict(), "step": 0}, args.output)


if __name__ == "__main__":
    main()
