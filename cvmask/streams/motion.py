"""Dense optical flow over a video: where each pixel of a frame is in another one, and how sure that is."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Gray = NDArray[np.uint8]

# Flow is computed on pictures of this many pixels, as 192x108: larger ones cost more and give no better masks.
_AREA = 192 * 108
_LEAST_SIDE = 32
# Both limits of a cut: what the flow does not explain, in contrasts, and the distance of the histograms, 0 to 1.
_CUT_ERROR, _CUT_HISTOGRAM = 0.42, 0.14


class Step(NamedTuple):
    """The flow between two consecutive frames, in small pixels.

    Attributes
    ----------
    back, ahead
        Shape (h, w, 2), x and y: from the present frame to the previous one, and from the previous to the present.
    back_agrees, ahead_agrees
        Shape (h, w), 1 where the two flows agree, else 0; of the pixels of the present and of the previous frame.
    cut
        Whether the two frames show different scenes.
    """

    back: Floats
    ahead: Floats
    back_agrees: Floats
    ahead_agrees: Floats
    cut: bool


class Motion:
    """Small grey pictures of a video, and the flow between two of them.

    Parameters
    ----------
    frame_size
        Height and width of the video's frames in pixels.

    Attributes
    ----------
    size_wh
        Width and height of the small pictures.
    scale_xy
        Small pixels in a pixel of the frame, shape (2,).
    """

    def __init__(self, frame_size: tuple[int, ...]) -> None:
        height, width = frame_size[:2]
        self.frame_size = height, width
        scale = min(1.0, (_AREA / (height * width)) ** 0.5)
        self.size_wh = max(_LEAST_SIDE, round(width * scale)), max(_LEAST_SIDE, round(height * scale))
        self.scale_xy = np.array([self.size_wh[0] / width, self.size_wh[1] / height], dtype=np.float32)
        # Without the finest scale, and in the slower presets, the edges of objects are smoothed away.
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(0)

    def small(self, image: NDArray[np.uint8]) -> Gray:
        """Make the small grey picture of a frame, shape (height, width, 3), BGR."""
        # A whole divisor first: it takes a third of the time on a large frame, and moves no edge.
        height, width = image.shape[:2]
        divisor = min(width // (2 * self.size_wh[0]), height // (2 * self.size_wh[1]))
        if divisor >= 2:
            size_wh = width // divisor, height // divisor
            image = cast("Gray", cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA))
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        return cast("Gray", cv2.resize(gray, self.size_wh, interpolation=cv2.INTER_AREA))

    def flow(self, present: Gray, other: Gray) -> Floats:
        """Give where each pixel of the present picture is in the other one: shape (h, w, 2), small pixels."""
        made_new: Any = None
        return cast("Floats", self._flow.calc(present, other, made_new))

    def step(self, previous: Gray, present: Gray) -> Step:
        """Compare two consecutive small pictures, both ways."""
        back, ahead = self.flow(present, previous), self.flow(previous, present)
        return Step(back, ahead, _agreement(back, ahead), _agreement(ahead, back), is_cut(previous, present, back))


class Chain:
    """Where the pixels of the present frame were in a key frame, over any number of steps.

    Displacements are composed and masks are sampled once, so that nothing is blurred step by step.

    Attributes
    ----------
    field
        Shape (h, w, 3): x and y of the displacement to the key frame in small pixels, and its validity, 1 to 0.
    """

    def __init__(self, size_wh: tuple[int, int]) -> None:
        self.field = np.zeros((size_wh[1], size_wh[0], 3), dtype=np.float32)
        self.field[..., 2] = 1

    def follow(self, flow: Floats, agrees: Floats | None = None) -> None:
        """Go one frame on: `flow` is from the new present frame to the one before; None keeps the validity."""
        reached = grid(*flow.shape[1::-1]) + flow
        field = sample(self.field, reached)
        field[..., :2] += flow
        if agrees is not None:
            field[..., 2] *= agrees
        self.field = field

    def reached(self) -> Floats:
        """Give the positions in the key frame, shape (h, w, 2), small pixels."""
        return grid(*self.field.shape[1::-1]) + self.field[..., :2]


@lru_cache(maxsize=8)
def grid(width: int, height: int) -> Floats:
    """Give the position of each pixel, x and y: shape (height, width, 2). It is shared: do not write into it."""
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    positions: Floats = np.dstack([x, y])
    positions.flags.writeable = False
    return positions


def sample(values: NDArray[Any], positions: Floats) -> Any:
    """Read values, shape (h, w) or (h, w, c), between their pixels; beyond the edges the nearest counts."""
    no_second: Any = None
    return cv2.remap(values, positions, no_second, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def is_cut(previous: Gray, present: Gray, back: Floats) -> bool:
    """Return whether a new scene begins: the flow does not explain the picture, and the brightness differs."""
    warped = sample(previous, grid(*back.shape[1::-1]) + back)
    error = np.mean(cv2.absdiff(warped, present)) / (present.std() + 4)
    return bool(error > _CUT_ERROR and np.abs(_histogram(previous) - _histogram(present)).sum() / 2 > _CUT_HISTOGRAM)


def _histogram(gray: Gray) -> NDArray[np.float64]:
    return np.bincount(gray.ravel() >> 3, minlength=32) / gray.size


def _agreement(flow: Floats, other: Floats) -> Floats:
    """Return where going there and back ends near the start: |f + b|^2 < .05 (|f|^2 + |b|^2) + .5 (width / 256)^2."""
    height, width = flow.shape[:2]
    back = sample(other, grid(width, height) + flow)
    gap = flow + back
    apart = gap[..., 0] ** 2 + gap[..., 1] ** 2
    length = flow[..., 0] ** 2 + flow[..., 1] ** 2 + back[..., 0] ** 2 + back[..., 1] ** 2
    agrees: Floats = (apart < 0.05 * length + 0.5 * (width / 256) ** 2).astype(np.float32)
    return agrees


def smooth_inside(field: Floats, inside: Floats, window: int = 9) -> Floats:
    """Average a field, shape (h, w, 2), over the pixels of weight `inside`; where none is near, their mean."""
    weighted = np.dstack([field * inside[..., None], inside])
    sums = cv2.blur(weighted, (window, window))
    total = weighted.sum(axis=(0, 1))
    mean = total[:2] / max(float(total[2]), 1e-6)
    little = 2e-3
    smooth: Floats = (sums[..., :2] + little * mean) / (sums[..., 2:] + little)
    return smooth


def fit_affine(points: Floats, moves: Floats) -> NDArray[np.float64] | None:
    """Fit move = A (x, y, 1) to points, shapes (n, 2): A of shape (2, 3); far ones count little. None for too few.

    Iterated least squares with the weight 1 / (1 + (r / s)^2), where s is 1.5 medians of the residuals r.
    """
    if len(points) < 8:
        return None
    center = points.mean(axis=0)
    rows = np.column_stack([points - center, np.ones(len(points))]).astype(np.float64)
    weights = np.ones(len(points))
    for _ in range(3):
        weighted = rows * weights[:, None]
        # A little toward no turning keeps points on one line from deciding about the rest.
        solution = np.linalg.solve(weighted.T @ rows + np.diag([1e-2, 1e-2, 1e-9]) * weights.sum(), weighted.T @ moves)
        residuals = moves - rows @ solution
        apart = np.sqrt((residuals * residuals).sum(axis=1))
        weights = 1 / (1 + (apart / (1.5 * np.median(apart) + 0.1)) ** 2)
    solution[2] -= center @ solution[:2]
    return cast("NDArray[np.float64]", solution.T)
