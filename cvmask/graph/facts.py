"""What a Mask R-CNN graph says about itself, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ResizerFacts:
    """How the model resizes a picture before it looks at it.

    kind: `keep_aspect_ratio` (the short side becomes `min_dimension`, unless the long one would then
    exceed `max_dimension`), `at_most` (the long side becomes `max_dimension` where it is longer), `at_least` (the short
    side becomes `min_dimension` where it is shorter), `fixed_shape` (to `height` by `width`), or `none`. All in pixels.
    """

    kind: str
    min_dimension: int = 0
    max_dimension: int = 0
    height: int = 0
    width: int = 0
    method: str = "bilinear"
    align_corners: bool = False
    half_pixel_centers: bool = False


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
    """Everything that `convert` reads off a frozen graph.

    `scales` are the box coder's, in the order y, x, height, width.
    """

    backbone: str
    image: str
    classes: int
    mask_size: tuple[int, int]
    class_agnostic_masks: bool
    crop_size: tuple[int, int]
    resizer: ResizerFacts
    anchors: Anchors
    first_stage: Suppression
    second_stage: Suppression
    first_scales: tuple[float, float, float, float]
    second_scales: tuple[float, float, float, float]
    features: str
    outputs: tuple[str, ...] = field(default=())

    @property
    def proposals(self) -> int:
        """How many boxes the first stage hands on."""
        return min(self.first_stage.max_total, self.first_stage.max_per_class)

    @property
    def max_detections(self) -> int:
        """How many boxes the second stage gives at most."""
        return min(self.second_stage.max_total, self.second_stage.max_per_class * self.classes)

    @property
    def max_of_a_class(self) -> int | None:
        """How many boxes of each class the second stage gives at most, None where the limit of all goes before it."""
        rule = self.second_stage
        return rule.max_per_class if rule.max_per_class < rule.max_total else None
