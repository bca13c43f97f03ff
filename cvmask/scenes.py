"""Made-up scenes of eight shapes with exact ground truth, still or moving.

The bundled model is trained on them, `cvmask demo` shows them, and the tests take their truth from
them. The same seed gives the same scene on every machine with the same NumPy and OpenCV.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cvmask.motion import bounce_apart_, move_
from cvmask.outlines import LABELS, Floats
from cvmask.paint import make_background
from cvmask.placing import place_things
from cvmask.rendered import Scene, render
from cvmask.things import MAX_SIDE, MIN_SIDE, Thing

__all__ = ["LABELS", "MAX_SIDE", "MIN_SIDE", "Scene", "make_scene", "moving_scene"]



def make_scene(
    seed: int, size_wh: tuple[int, int] = (320, 320), objects: int | None = None, overlap: bool = True
) -> Scene:
    """A still scene.

    Parameters
    ----------
    seed
        The same seed and arguments give the same scene.
    size_wh
        Width and height in pixels, at least 32 each.
    objects
        How many to place; 1 to 8 at random if None. Fewer are placed where there is no room.
    overlap
        Whether objects may hide parts of each other (never more than half).

    Raises
    ------
    ValueError
        If a side is below 32 pixels.
    """
    background, things = _compose(seed, size_wh, objects, overlap)
    return render(things, background)


def moving_scene(
    seed: int,
    frames: int,
    size_wh: tuple[int, int] = (320, 320),
    objects: int | None = None,
    frame_rate: float = 25.0,
    overlap: bool = True,
) -> Iterator[Scene]:
    """The frames of a scene whose objects drift, turn and bounce off the borders.

    Parameters are those of `make_scene`; frame_rate is in frames a second. With overlap=False the
    objects bounce off each other's circles as well, so that none ever hides another.
    """
    background, things = _compose(seed, size_wh, objects, overlap)
    for _ in range(frames):
        yield render(things, background)
        if not overlap:
            bounce_apart_(things)
        for thing in things:
            move_(thing, 1 / frame_rate, size_wh)


def _compose(
    seed: int, size_wh: tuple[int, int], objects: int | None, overlap: bool
) -> tuple[Floats, list[Thing]]:
    if min(size_wh) < 32:
        raise ValueError(f"size_wh must be at least 32 x 32, got {size_wh[0]} x {size_wh[1]}")
    rng = np.random.default_rng(seed)
    background = make_background(rng, size_wh[1], size_wh[0])
    count = int(rng.integers(1, 9)) if objects is None else objects
    return background, place_things(rng, size_wh, count, background, overlap)
