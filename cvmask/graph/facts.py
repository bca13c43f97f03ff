"""The numbers that are read from a Mask R-CNN graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Resizer:
    """How a picture is resized before the network sees it.

    Attributes
    ----------
    kind
        "keep_aspect_ratio": the shorter side becomes `min_dimension` unless the longer one would pass
        `max_dimension`. "at_most": the longer side becomes `max_dimension` where it is longer. "at_least": the
        shorter side becomes `min_dimension` where it is shorter. "fixed": every picture becomes `fixed_wh`.
        "none": left as it is.
    min_dimension, max_dimension
        Pixels; 0 if `kind` does not use them.
    fixed_wh
        Width and height in pixels.
    sampling
        Where TensorFlow's kernels take a pixel from. "legacy" (what the model zoo's exports
        do): x * scale. "half_pixel" (what cv2.resize does): (x + 0.5) * scale - 0.5.
        "align_corners": the corner pixels stay where they are.
    method
        "bilinear", "nearest", "bicubic" or "area": TensorFlow's kernel of that name.
    """

    kind: str = "none"
    min_dimension: int = 0
    max_dimension: int = 0
    fixed_wh: tuple[int, int] = (0, 0)
    sampling: str = "legacy"
    method: str = "bilinear"

    def target_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return the width and height to which a picture of `size_wh` is resized.

        Rounded in float32 and half to even, as resize_to_range of the Object Detection API does.
        """
        if self.kind == "fixed":
            return self.fixed_wh
        if self.kind == "none":
            return size_wh
        size = np.array(size_wh, np.float32)
        if self.kind in ("at_most", "at_least"):  # truncated, as resize_to_max_dimension does
            side = size.max() if self.kind == "at_most" else size.min()
            wanted = min(side, self.max_dimension) if self.kind == "at_most" else max(side, self.min_dimension)
            width, height = np.maximum(size * (np.float32(wanted) / side), 1).astype(int).tolist()
            return width, height
        new_size = np.round(size * (np.float32(self.min_dimension) / size.min()))
        if self.max_dimension and new_size.max() > self.max_dimension:
            new_size = np.round(size * (np.float32(self.max_dimension) / size.max()))
        width, height = np.maximum(new_size, 1).astype(int).tolist()
        return width, height

    def __str__(self) -> str:
        if self.kind == "fixed":
            return f"{self.fixed_wh[0]}x{self.fixed_wh[1]}"
        if self.kind == "none":
            return "native size"
        if self.kind == "at_most":
            return f"long side at most {self.max_dimension}"
        if self.kind == "at_least":
            return f"short side at least {self.min_dimension}"
        return f"short side {self.min_dimension}, long side at most {self.max_dimension or 'any'}"


@dataclass(frozen=True)
class Anchors:
    """The anchors of one feature map cell: sizes in pixels of the resized picture, (y, x) order."""

    heights: tuple[float, ...]
    widths: tuple[float, ...]
    stride: tuple[float, float]
    offset: tuple[float, float] = (0.0, 0.0)
    clip: bool = True

    def __len__(self) -> int:
        return len(self.heights)


@dataclass(frozen=True)
class Suppression:
    """One non-maximum suppression: scores and IoU in 0..1, counts of boxes.

    `clip_first` says whether boxes are clipped to the picture before or after it.
    """

    score_threshold: float
    iou_threshold: float
    max_per_class: int
    max_total: int
    clip_first: bool = True


@dataclass(frozen=True)
class GraphFacts:
    """Everything that `convert` reads from a frozen graph.

    `scales` are the box coder's, in the order y, x, height, width.
    """

    backbone: str
    image: str
    classes: int
    mask_size: tuple[int, int]
    class_agnostic_masks: bool
    crop_size: tuple[int, int]
    resizer: Resizer
    anchors: Anchors
    first_stage: Suppression
    second_stage: Suppression
    first_scales: tuple[float, float, float, float]
    second_scales: tuple[float, float, float, float]
    features: str
    outputs: tuple[str, ...] = field(default=())

    @property
    def proposals(self) -> int:
        """The number of boxes that the first stage passes to the second."""
        return min(self.first_stage.max_total, self.first_stage.max_per_class)

    @property
    def max_detections(self) -> int:
        """The largest number of boxes that the second stage gives."""
        return min(self.second_stage.max_total, self.second_stage.max_per_class * self.classes)

    @property
    def max_of_a_class(self) -> int | None:
        """The second stage's limit for one class, None if it is not below the limit for all classes."""
        rule = self.second_stage
        return rule.max_per_class if rule.max_per_class < rule.max_total else None
