"""What the sliders of the page say, and the picture that follows from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.draw import draw
from cvmask.drawing.effects import EFFECTS, remove_background, replace_background
from cvmask.models.load import class_ids
from cvmask.results.detections import Detections

NO_EFFECT, REMOVE = "none", "remove-background"
EFFECT_NAMES = (NO_EFFECT, *EFFECTS)
COLOR_MODES = ("class", "instance")
_GREEN = (0, 255, 0)
_SHARES = ("score_threshold", "mask_threshold", "opacity")


@dataclass(frozen=True)
class Controls:
    """How a picture is looked at.

    Attributes
    ----------
    score_threshold, mask_threshold, opacity
        From 0 to 1.
    classes
        Ids to show; None for all.
    color_by
        Of `COLOR_MODES`.
    effect
        Of `EFFECT_NAMES`.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    score_threshold: float = 0.5
    mask_threshold: float = 0.3
    opacity: float = 0.45
    classes: tuple[int, ...] | None = None
    color_by: str = "class"
    effect: str = NO_EFFECT

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")
        for name, choices in (("color_by", COLOR_MODES), ("effect", EFFECT_NAMES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")

    def changed(self, fields: Mapping[str, Any], labels: Sequence[str]) -> Controls:
        """Give these with some values replaced; `classes` are names or ids. ValueError names what is wrong."""
        known = {field.name for field in dataclasses.fields(self)}
        if not set(fields) <= known:
            raise ValueError(f"there is no control {sorted(set(fields) - known)[0]!r}")
        fields = dict(fields)
        wanted = fields.get("classes")
        if wanted is not None:
            if not isinstance(wanted, (list, tuple)):
                raise ValueError(f"classes must be a list of names or ids, got {wanted!r}")
            fields["classes"] = class_ids(wanted, labels)
        return dataclasses.replace(self, **fields)

    def keep(self, detections: Detections) -> Detections:
        """Give the detections that are to be shown."""
        wanted = detections.confidence > self.score_threshold
        if self.classes is not None:
            wanted &= np.isin(detections.class_id, self.classes)
        return detections[wanted]


def paint(
    image: NDArray[np.uint8], shown: Detections, controls: Controls, labels: Sequence[str], transparent: bool = False
) -> NDArray[np.uint8]:
    """Make the picture of what `Controls.keep` gave.

    Returns
    -------
    Shape (height, width, 3), BGR. Without a background it is green there; BGRA where `transparent`.
    """
    threshold = controls.mask_threshold
    if controls.effect == REMOVE:
        if transparent:
            return remove_background(image, shown, mask_threshold=threshold)
        return replace_background(image, shown, _GREEN, mask_threshold=threshold)
    if controls.effect != NO_EFFECT:
        return EFFECTS[controls.effect](image, shown, mask_threshold=threshold)
    if not len(shown):
        return image
    if controls.color_by == "class":
        shown = dataclasses.replace(shown, tracker_id=None)
    return draw(
        image,
        shown,
        labels=labels,
        color_by=controls.color_by,
        opacity=controls.opacity,
        mask_threshold=threshold,
    )
