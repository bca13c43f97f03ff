"""The network in PyTorch, layer by layer what export.py writes as a TensorFlow graph.

The crop is tf.image.crop_and_resize, the mask's enlargement is
resize_bilinear with align_corners: places where the two frameworks differ by default.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import config as c


class ConvBN(nn.Module):
    """Convolution that keeps its size (or halves it), batch normalisation, ReLU unless told otherwise."""

    def __init__(
        self, inp: int, out: int, kernel: int, stride: int = 1, dilation: int = 1, relu: bool = True, beyond: int = 0
    ):
        super().__init__()
        self.conv = nn.Conv2d(inp, out, kernel, stride, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3, momentum=0.03)
        self.relu, self.beyond = relu, beyond

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(pad_same(x, self.conv, self.beyond)))
        return F.relu(x) if self.relu else x


def pad_same(x: Tensor, conv: nn.Conv2d, beyond: int = 0) -> Tensor:
    """Zeros around x, as many on each side, and so many more at the right and the bottom.

    For stride 1 that is TensorFlow's SAME. For stride 2 it is not: SAME would put the odd zero at the
    right and the bottom of even sizes only, and so move the features against the boxes by some pixels
    from one picture size to another. The ResNets of the API pad their strided convolutions like this too.
    """
    side = conv.dilation[0] * (conv.kernel_size[0] - 1) // 2
    return F.pad(x, [side, side + beyond] * 2) if side else x


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 with a shortcut."""

    def __init__(self, depth: int, inner: int, dilation: int = 1):
        super().__init__()
        self.reduce = ConvBN(depth, inner, 1)
        self.conv = ConvBN(inner, inner, 3, dilation=dilation)
        self.expand = ConvBN(inner, depth, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.expand(self.conv(self.reduce(x))))


class ShapesNet(nn.Module):
    """A two-stage Mask R-CNN on one feature map of stride 8.

    Images go in as float32 (b, 3, h, w) RGB in -1..1. Boxes are normalised (y1, x1, y2, x2).
    """

    def __init__(self) -> None:
        super().__init__()
        first, second = c.STEM
        # crop_and_resize takes 0..1 for the first to the last cell. One more column and row, and the last cell
        # lies on the picture's edge: 41 cells, 8 pixels apart, for 320 pixels. Crops are then where boxes are.
        self.stem = nn.Sequential(
            ConvBN(3, first, 3, 2, beyond=1),
            ConvBN(first, second, 3, 2),
            ConvBN(second, second, 3),
            ConvBN(second, c.TRUNK, 3, 2),
        )
        self.trunk = nn.Sequential(*(Bottleneck(c.TRUNK, c.BOTTLENECK, d) for d in c.DILATIONS))
        self.rpn = ConvBN(c.TRUNK, c.RPN_DEPTH, 3)
        self.rpn_boxes = nn.Conv2d(c.RPN_DEPTH, 4 * len(c.ANCHOR_SIDES), 1)
        self.rpn_scores = nn.Conv2d(c.RPN_DEPTH, 2 * len(c.ANCHOR_SIDES), 1)
        self.second = nn.Sequential(
            Bottleneck(c.TRUNK, c.BOTTLENECK),
            Bottleneck(c.TRUNK, c.BOTTLENECK),
            ConvBN(c.TRUNK, c.SECOND_DEPTH, 1),
        )
        self.box_scores = nn.Linear(c.SECOND_DEPTH, c.NUM_CLASSES + 1)
        self.box_encodings = nn.Linear(c.SECOND_DEPTH, 4 * c.NUM_CLASSES)
        depths = [c.SECOND_DEPTH] + [c.MASK_DEPTH] * c.MASK_CONVS
        self.mask_convs = nn.Sequential(*(ConvBN(a, b, 3) for a, b in zip(depths, depths[1:])))
        self.mask_logits = nn.Conv2d(c.MASK_DEPTH, c.NUM_CLASSES, 3)

    def features(self, images: Tensor) -> Tensor:
        return self.trunk(self.stem(images))

    def propose(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Box encodings (b, h * w * anchors, 4) and logits (b, h * w * anchors, 2), rows first."""
        hidden = self.rpn(features)
        return _rows(self.rpn_boxes(hidden), 4), _rows(self.rpn_scores(hidden), 2)

    def roi_features(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        """Second-stage features (n, depth, 7, 7) of all boxes of all images in turn."""
        crops = torch.cat([crop_and_resize(f, b, c.CROP_SIZE) for f, b in zip(features, boxes)])
        return self.second(F.max_pool2d(crops, c.POOL, c.POOL))

    def classify(self, roi: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (n, classes + 1), background first, and encodings (n, classes, 4)."""
        pooled = roi.mean(dim=(2, 3))
        return self.box_scores(pooled), self.box_encodings(pooled).view(-1, c.NUM_CLASSES, 4)

    def mask(self, roi: Tensor) -> Tensor:
        """Mask logits (n, classes, 15, 15)."""
        x = F.interpolate(roi, (c.MASK_SIZE, c.MASK_SIZE), mode="bilinear", align_corners=True)
        x = self.mask_convs(x)
        return self.mask_logits(pad_same(x, self.mask_logits))


def _rows(x: Tensor, last: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last)


def crop_and_resize(feature: Tensor, boxes: Tensor, size: int) -> Tensor:
    """tf.image.crop_and_resize of one feature map (c, h, w): (n, c, size, size)."""
    steps = torch.linspace(0, 1, size, dtype=boxes.dtype)
    y = boxes[:, 0:1] + steps * (boxes[:, 2:3] - boxes[:, 0:1])
    x = boxes[:, 1:2] + steps * (boxes[:, 3:4] - boxes[:, 1:2])
    n = len(boxes)
    grid = (
        torch.stack([x[:, None, :].expand(n, size, size), y[:, :, None].expand(n, size, size)], dim=-1) * 2
        - 1
    )
    flat = grid.reshape(1, n * size, size, 2)
    crops = F.grid_sample(feature[None], flat, mode="bilinear", padding_mode="zeros", align_corners=True)
    return crops[0].view(feature.shape[0], n, size, size).transpose(0, 1).contiguous()
