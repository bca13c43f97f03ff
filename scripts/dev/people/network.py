"""The network in PyTorch, layer by layer what export.py writes as a TensorFlow graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from shapes.network import Bottleneck, ConvBN, crop_and_resize, pad_same
from torch import Tensor, nn

from . import config as c
from .backbone import Trunk


class PeopleNet(nn.Module):
    """A two-stage Mask R-CNN on MoveNet's trunk and a pyramid down to one map of stride 8.

    Images go in as float32 (b, 3, h, w) RGB in -1..1. Boxes are normalised (y1, x1, y2, x2).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.lateral = nn.ModuleDict({str(s): nn.Conv2d(depth, c.PYRAMID, 1) for s, (_, depth) in c.LEVELS.items()})
        self.smooth = nn.ModuleDict({s: ConvBN(c.PYRAMID, c.PYRAMID, 3) for s in ("16", "8")})
        self.rpn = ConvBN(c.PYRAMID, c.RPN_DEPTH, 3)
        self.rpn_boxes = nn.Conv2d(c.RPN_DEPTH, 4 * len(c.ANCHOR_SIZES_HW), 1)
        self.rpn_scores = nn.Conv2d(c.RPN_DEPTH, 2 * len(c.ANCHOR_SIZES_HW), 1)
        self.second = nn.Sequential(
            Bottleneck(c.PYRAMID, c.BOTTLENECK),
            Bottleneck(c.PYRAMID, c.BOTTLENECK),
            ConvBN(c.PYRAMID, c.SECOND_DEPTH, 1),
        )
        self.box_scores = nn.Linear(c.SECOND_DEPTH, c.NUM_CLASSES + 1)
        self.box_encodings = nn.Linear(c.SECOND_DEPTH, 4 * c.NUM_CLASSES)
        depths = [c.SECOND_DEPTH] + [c.MASK_DEPTH] * c.MASK_CONVS
        self.mask_convs = nn.Sequential(*(ConvBN(a, b, 3) for a, b in zip(depths, depths[1:])))
        self.mask_logits = nn.Conv2d(c.MASK_DEPTH, c.NUM_CLASSES, 3)

    def features(self, images: Tensor) -> Tensor:
        """One map (b, PYRAMID, h / 8 + 1, w / 8 + 1)."""
        found = self.trunk(images)
        maps = {s: self.lateral[str(s)](found[block]) for s, (block, _) in c.LEVELS.items()}
        x = self.smooth["16"](enlarge(maps[32], maps[16]) + maps[16])
        return self.smooth["8"](enlarge(x, maps[8]) + maps[8])

    def propose(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Box encodings (b, h * w * anchors, 4) and logits (b, h * w * anchors, 2), rows first."""
        hidden = self.rpn(features)
        return _rows(self.rpn_boxes(hidden), 4), _rows(self.rpn_scores(hidden), 2)

    def roi_features(self, features: Tensor, boxes: list[Tensor]) -> Tensor:
        """Second-stage features (n, depth, 10, 10) of all boxes of all images in turn."""
        crops = torch.cat([crop_and_resize(f, b, c.CROP_SIZE) for f, b in zip(features, boxes)])
        return self.second(F.max_pool2d(crops, c.POOL, c.POOL))

    def classify(self, roi: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, 2) of background and person, and box encodings (n, 4)."""
        pooled = roi.mean(dim=(2, 3))
        return self.box_scores(pooled), self.box_encodings(pooled)

    def mask(self, roi: Tensor) -> Tensor:
        """Mask logits (n, MASK_SIZE, MASK_SIZE)."""
        x = F.interpolate(roi, (c.MASK_SIZE, c.MASK_SIZE), mode="bilinear", align_corners=True)
        x = self.mask_convs(x)
        return self.mask_logits(pad_same(x, self.mask_logits))[:, 0]


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)


def _rows(x: Tensor, last: int) -> Tensor:
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last)
