"""Effects with masks: pure functions of a frame and its detections that return a new frame.

Filter the detections first: ``blur_objects(frame, found[found.class_id == 0])``. The functions take
`feather_px`, the width of the soft edge (default: by the size of the frame; 0 for a hard edge), and
`mask_threshold` (default: that of the detections' paste); blocks have no soft edge. Functions that keep the objects
and change the background align the edges of masks with those of the frame, unless `refine` is False. All raise
TypeError or ValueError if the frame is not a picture or has another size than the detections, or an option is out of
range.
Frames are BGR, shape (height, width, 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Callable, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.arrays import Picture, check_frame, check_frame_of, check_range, whole_number
from cvmask.results.detections import Detections
from cvmask.results.masks import BoxMask
from cvmask.system.interrupts import raise_if_stopped

# Three bytes as one thing: NumPy moves such pixels several times as fast as rows of three.
_PIXEL = np.dtype((np.void, 3))


def union_mask(detections: Detections, mask_threshold: float | None = None) -> NDArray[np.uint8]:
    """Join all masks; shape (height, width), 0 or 255."""
    return _union(detections.each_box_mask(mask_threshold), detections.frame_size)


def _union(box_masks: Iterable[BoxMask], frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    union = np.zeros(frame_size, dtype=np.uint8)
    for box_mask in box_masks:
        raise_if_stopped()
        place = union[box_mask.window]
        cv2.bitwise_or(place, box_mask.mask * np.uint8(255), dst=place)
    return union


def hiding_mask(detections: Detections, mask_threshold: float | None = None) -> NDArray[np.uint8]:
    """Join all masks to hide what they cover; shape (height, width), 0 or 255.

    If a box is thinner than a pixel, or its mask has no pixel, the whole box is hidden: something was found there, and
    no part of it may stay visible.
    """
    thin = np.any(detections.xyxy[:, 2:] - detections.xyxy[:, :2] < 1, axis=1)
    hiding = (
        one._replace(mask=np.ones_like(one.mask)) if is_thin or not one.mask.any() else one
        for one, is_thin in zip(detections.each_box_mask(mask_threshold), thin.tolist())
    )
    return _union(hiding, detections.frame_size)


def feather(mask: NDArray[np.uint8], width_px: float) -> NDArray[np.uint8]:
    """Make the edge of a mask soft over this width, half of it on either side; 0 leaves it as it is."""
    if width_px <= 0:
        return mask
    # A wide blur of a large picture takes long, and looks the same when made on a small one.
    shrink = max(1, min(int(width_px / 3), *mask.shape))
    soft = cv2.GaussianBlur(_shrink(mask, shrink), (0, 0), width_px / shrink / 4)
    return _enlarge(cast("NDArray[np.uint8]", soft), shrink, mask.shape[:2])


def lay_over_(under: NDArray[np.uint8], over: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> None:
    """Blend one frame over another, in place: under = over * alpha + under * (1 - alpha).

    Both are contiguous, of shape (height, width, 3); `alpha` (height, width) from 0 to 255.
    """
    # A reshaped view of anything else would be a copy, and the soft edge would be lost.
    assert under.flags.c_contiguous
    cv2.copyTo(over, (alpha == 255).view(np.uint8), under)
    # Only the soft edge needs arithmetic, and it is a small part of the frame.
    edge = np.flatnonzero(alpha - np.uint8(1) < np.uint8(254))
    share = alpha.ravel().take(edge).astype(np.uint16)[:, None]
    pixels = under.reshape(-1, 3)
    below, above = pixels.take(edge, axis=0), over.reshape(-1, 3).take(edge, axis=0)
    # Rounded: no multiple of 1/255 lies between two numbers.
    mixed = ((above * share + below * (255 - share) + 127) // 255).astype(np.uint8)
    np.put(pixels.view(_PIXEL), edge, mixed.view(_PIXEL))


def window_of(mask: NDArray[np.uint8], margin_px: int = 0, step_px: int = 1) -> tuple[slice, slice]:
    """Return the smallest rows and columns that hold all non-zero pixels and a margin, within the picture.

    They start and end at multiples of `step_px`, or at the picture's edge.
    """
    left, top, width, height = cv2.boundingRect(mask)
    spans = ((top, height, mask.shape[0]), (left, width, mask.shape[1]))
    rows, columns = (
        slice(
            max(0, start - margin_px) // step_px * step_px,
            min(limit, -(-(start + length + margin_px) // step_px) * step_px),
        )
        if length
        else slice(0, 0)
        for start, length, limit in spans
    )
    return rows, columns


def blur(frame: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Blur a frame; `radius_px` is the standard deviation in its pixels."""
    shrink = shrink_of(radius_px, frame.shape)
    small = cv2.GaussianBlur(_shrink(frame, shrink), (0, 0), radius_px / shrink)
    return _enlarge(cast("NDArray[np.uint8]", small), shrink, frame.shape[:2])


def blur_outside(frame: NDArray[np.uint8], alpha: NDArray[np.uint8], radius_px: float) -> NDArray[np.uint8]:
    """Blur a frame using only pixels where `alpha` is low, so that objects do not bleed.

    Parameters
    ----------
    frame
        Shape (height, width, 3).
    alpha
        Shape (height, width), 0 to 255.
    radius_px
        Standard deviation of the blur in pixels of the frame.
    """
    shrink = shrink_of(radius_px, frame.shape)
    sigma = radius_px / shrink
    # A small weight for all pixels, for places with no background within reach.
    share = np.float32(255.5) - _shrink(alpha, shrink)
    colors = cv2.GaussianBlur(_shrink(frame, shrink) * share[..., None], (0, 0), sigma)
    blurred = colors / cv2.GaussianBlur(share, (0, 0), sigma)[..., None]
    small = np.clip(np.rint(blurred), 0, 255).astype(np.uint8)
    return _enlarge(small, shrink, alpha.shape[:2])


def shrink_of(radius_px: float, shape: tuple[int, ...]) -> int:
    """Choose by how much to shrink a picture for a blur; never to less than one pixel."""
    return max(1, min(int(radius_px / 2), *shape[:2]))


def _shrink(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of factor x factor; incomplete blocks at the right and the bottom are dropped."""
    if factor == 1:
        return picture
    height, width = picture.shape[0] // factor, picture.shape[1] // factor
    # Only whole blocks: OpenCV takes many times as long for any other ratio. It is fastest at halving.
    blocks: NDArray[np.uint8] = picture[: height * factor, : width * factor]
    while factor % 2 == 0 and factor > 2:
        factor //= 2
        halved = cv2.resize(blocks, (width * factor, height * factor), interpolation=cv2.INTER_AREA)
        blocks = cast("NDArray[np.uint8]", halved)
    return cast("NDArray[np.uint8]", cv2.resize(blocks, (width, height), interpolation=cv2.INTER_AREA))


def _enlarge(small: NDArray[np.uint8], factor: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Undo `_shrink` to (height, width); the last column and row fill the dropped part."""
    if factor == 1:
        return small
    height, width = small.shape[0] * factor, small.shape[1] * factor
    whole = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if (height, width) != size:
        missing = (0, size[0] - height, 0, size[1] - width)
        whole = cv2.copyMakeBorder(whole, *missing, cv2.BORDER_REPLICATE)
    return cast("NDArray[np.uint8]", whole)


def fit_over(picture: NDArray[np.uint8], frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Scale a picture until it covers a frame of (height, width), and crop it around its centre."""
    height, width = frame_size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    size_wh = (max(width, round(picture.shape[1] * scale)), max(height, round(picture.shape[0] * scale)))
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = cv2.resize(picture, size_wh, interpolation=kind)
    top, left = (size_wh[1] - height) // 2, (size_wh[0] - width) // 2
    cut = np.ascontiguousarray(scaled[top : top + height, left : left + width])
    return cast("NDArray[np.uint8]", cut)


_LEAST_STRENGTH = 1e-3


def blur_background(
    frame: Picture,
    detections: Detections,
    *,
    strength: float = 1.0,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
    refine: bool = True,
) -> NDArray[np.uint8]:
    """Blur all but the objects, like a lens wide open; the objects' colours do not bleed into the blur.

    `strength`, more than 0: 1 is a standard deviation of a fiftieth of the short side.
    """
    check_range("strength", strength, _LEAST_STRENGTH)
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold, refine)
    radius = max(0.5, strength * min(detections.frame_size) / 50)
    result = blur_outside(frame, alpha, radius)
    lay_over_(result, frame, alpha)
    return result


def remove_background(
    frame: Picture,
    detections: Detections,
    *,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
    refine: bool = True,
) -> NDArray[np.uint8]:
    """Make all but the objects transparent; returns BGRA, shape (height, width, 4).

    Fully transparent pixels are black, so that no editor can restore them.
    """
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold, refine)
    bgra = np.zeros((*alpha.shape, 4), dtype=np.uint8)
    cv2.copyTo(cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA), alpha, bgra)
    cv2.insertChannel(alpha, bgra, 3)
    return bgra


def replace_background(
    frame: Picture,
    detections: Detections,
    background: Picture | Sequence[int],
    *,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
    refine: bool = True,
) -> NDArray[np.uint8]:
    """Put the objects on another picture, scaled to cover the frame, or on one colour: b, g, r."""
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold, refine)
    if isinstance(background, str):
        raise TypeError(f"a background is a picture or b, g, r, got {background!r}: read a file with cv2.imread first")
    picture = _one_color(background) if isinstance(background, (tuple, list)) else check_frame(background)
    result = fit_over(picture, detections.frame_size)
    lay_over_(result, frame, alpha)
    return result


def grey_background(
    frame: Picture,
    detections: Detections,
    *,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
) -> NDArray[np.uint8]:
    """Turn all but the objects grey."""
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    grey = cv2.cvtColor(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    result = cast("NDArray[np.uint8]", grey)
    lay_over_(result, frame, alpha)
    return result


def spotlight(
    frame: Picture,
    detections: Detections,
    *,
    darkness: float = 0.7,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
) -> NDArray[np.uint8]:
    """Darken all but the objects, with a wide soft edge; `darkness`, 0 to 1: 1 is black."""
    check_range("darkness", darkness, 0, 1)
    frame = _check(frame, detections)
    if feather_px is None:
        feather_px = min(detections.frame_size) / 20
    frame, alpha = _prepare(frame, detections, feather_px, mask_threshold)
    light = cv2.convertScaleAbs(alpha, alpha=darkness, beta=255 * (1 - darkness))
    return cast("NDArray[np.uint8]", cv2.multiply(frame, cv2.merge([light] * 3), scale=1 / 255))


def blur_objects(
    frame: Picture,
    detections: Detections,
    *,
    strength: float = 1.0,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Blur the objects beyond recognition; the soft edge lies outside the mask.

    `strength`, more than 0: 1 is a standard deviation of a thirtieth of the short side. `margin`, 0 to 1: by how much
    of the short side the masks are widened.
    """
    check_range("strength", strength, _LEAST_STRENGTH)
    frame = _check(frame, detections)
    width = _width(detections, feather_px)
    union = _widened(hiding_mask(detections, mask_threshold), margin)
    # Twice as wide and twice as strong: opaque up to the edge of the mask, fading outside it.
    soft = union if width <= 0 else cv2.convertScaleAbs(feather(union, 2 * width), alpha=2)
    alpha = cast("NDArray[np.uint8]", soft)
    radius = max(0.5, strength * min(detections.frame_size) / 30)
    result: NDArray[np.uint8] = frame.copy()
    # On the grid of the whole frame, so that the blur does not move with the objects.
    window = window_of(alpha, margin_px=int(3 * radius), step_px=shrink_of(radius, frame.shape))
    if frame[window].size:
        blurred = blur(frame[window], radius)
        lay_over_(blurred, frame[window], 255 - alpha[window])
        result[window] = blurred
    return result


def pixelate_objects(
    frame: Picture,
    detections: Detections,
    *,
    block_px: int | None = None,
    mask_threshold: float | None = None,
    margin: float = 0.0,
) -> NDArray[np.uint8]:
    """Turn the objects into square blocks; each block that holds a pixel of a mask is one colour.

    Parameters
    ----------
    block_px
        Side of a block, 1 or more; default a fortieth of the frame's short side.
    margin
        By how much of the short side the masks are widened, 0 to 1.
    """
    frame = _check(frame, detections)
    height, width = detections.frame_size
    block = max(2, round(min(height, width) / 40)) if block_px is None else whole_number("block_px", block_px)
    block = min(block, max(height, width))
    result: NDArray[np.uint8] = frame.copy()
    union = _widened(hiding_mask(detections, mask_threshold), margin)
    # The grid is that of the whole frame, so that blocks stand still while objects move.
    window = window_of(union, step_px=block)
    if union[window].size:
        _pixelate_(result[window], union[window], block)
    return result


def _widened(mask: NDArray[np.uint8], margin: float) -> NDArray[np.uint8]:
    check_range("margin", margin, 0, 1)
    side = 2 * round(margin * min(mask.shape)) + 1
    if side == 1:
        return mask
    return np.asarray(cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))), dtype=np.uint8)


def _pixelate_(canvas: NDArray[np.uint8], mask: NDArray[np.uint8], block: int) -> None:
    height, width = mask.shape
    size_wh = (_round_up(width, block), _round_up(height, block))
    rows, columns = size_wh[1] // block, size_wh[0] // block
    margin = (0, size_wh[1] - height, 0, size_wh[0] - width)
    whole = cv2.copyMakeBorder(canvas, *margin, cv2.BORDER_REPLICATE)
    mean = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    # cv2's own mean would lose a single pixel of the mask in a large block.
    padded = np.asarray(cv2.copyMakeBorder(mask, *margin, cv2.BORDER_CONSTANT))
    touched = padded.reshape(rows, block, -1).max(axis=1).reshape(rows, columns, block).max(axis=2)
    blocks = cv2.resize(mean, size_wh, interpolation=cv2.INTER_NEAREST)[:height, :width]
    where = cv2.resize(touched, size_wh, interpolation=cv2.INTER_NEAREST)[:height, :width]
    cv2.copyTo(blocks, where, canvas)


def _round_up(length: int, block: int) -> int:
    return -(-length // block) * block


class Effect(Protocol):
    """A function of a frame and its detections; options by name."""

    def __call__(
        self, frame: Picture, detections: Detections, /, *, mask_threshold: float | None = None
    ) -> NDArray[np.uint8]: ...


EFFECTS: Mapping[str, Effect] = MappingProxyType(
    {
        "blur-background": blur_background,
        "remove-background": remove_background,
        "blur-objects": blur_objects,
        "pixelate-objects": pixelate_objects,
        "grey-background": grey_background,
        "spotlight": spotlight,
    }
)


REPLACE, REMOVE = "replace-background", "remove-background"
EFFECT_NAMES = (*EFFECTS, REPLACE)
REFINED = ("blur-background", REMOVE, REPLACE)  # those that align the edges of masks with those of the frame
"""The names that `make_effect` takes; `EFFECTS` lacks the one that needs a background."""
GREEN = (0, 255, 0)
HIDING = ("blur-objects", "pixelate-objects")
"""The effects that hide objects: a missed part of an object stays visible."""
HIDING_MARGIN = 0.01
"""The margin of `edit` and of clips on the page: 5 pixels of 480."""


def make_effect(
    name: str,
    *,
    background: Picture | Sequence[int] | None = None,
    feather_px: float | None = None,
    mask_threshold: float | None = None,
    alpha: bool = True,
    refine: bool = True,
    margin: float = 0.0,
) -> Callable[[Picture, Detections], NDArray[np.uint8]]:
    """Give a function of a frame and its detections that applies the effect of this name.

    Parameters
    ----------
    background
        Required by `replace_background`; only for that.
    feather_px
        Width of the soft edge in pixels; None: that of the effect.
    alpha
        Whether `remove_background` may give BGRA; otherwise its background is green.
    refine
        False leaves the edges of masks unchanged, for the effects that align them with those of the frame.
    margin
        By how much of the short side the masks of `HIDING` effects are widened, 0 to 1; other effects ignore it.

    Raises
    ------
    ValueError
        If there is no such effect, or an option is missing or does not apply to it.
    """
    if name not in EFFECT_NAMES:
        raise ValueError(f"there is no effect {name!r}: choose from {', '.join(EFFECT_NAMES)}")
    if (background is not None) != (name == REPLACE):
        raise ValueError(f"a background is for {REPLACE} and for no other effect, got {name} with {background!r:.60}")
    given: dict[str, Any] = {"mask_threshold": mask_threshold}
    if name in HIDING:
        given["margin"] = margin
    if feather_px is not None:
        if name == "pixelate-objects":
            raise ValueError(f"{name} has no soft edge: leave out the feather")
        given["feather_px"] = feather_px
    if not refine:
        if name not in REFINED:
            raise ValueError(f"{name} refines no edges, {', '.join(REFINED)} do: leave it out")
        given["refine"] = False
    if name == REMOVE and not alpha:
        background = GREEN
    if background is not None:
        return partial(replace_background, background=background, **given)
    return partial(EFFECTS[name], **given)


def needs_alpha(name: str) -> bool:
    """Tell whether the pictures of an effect have transparency."""
    return name == REMOVE


def _check(frame: object, detections: object) -> NDArray[np.uint8]:
    """Return the frame; TypeError or ValueError unless it fits the detections."""
    if not isinstance(detections, Detections):
        raise TypeError(f"detections must be cvmask.Detections, as detect gives them, got {type(detections).__name__}")
    return check_frame_of(frame, detections.frame_size)


def _prepare(
    frame: Picture,
    detections: Detections,
    feather_px: float | None,
    mask_threshold: float | None,
    refine: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    checked: NDArray[np.uint8] = np.ascontiguousarray(_check(frame, detections))
    detections = detections.refined(checked) if refine else detections
    return checked, feather(union_mask(detections, mask_threshold), _width(detections, feather_px))


def _width(detections: Detections, feather_px: float | None) -> float:
    if feather_px is None:
        return max(1.0, min(detections.frame_size) / 150)
    check_range("feather_px", feather_px, 0)
    return feather_px


def _one_color(color: Sequence[int]) -> NDArray[np.uint8]:
    """A picture of one pixel."""
    if len(color) != 3 or not all(isinstance(part, (int, np.integer)) and 0 <= part <= 255 for part in color):
        raise ValueError(f"a background is a picture or b, g, r from 0 to 255, got {color!r}")
    return np.array([[color]], dtype=np.uint8)
