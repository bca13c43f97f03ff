"""Where objects go: none hidden by more than half, none mostly outside."""

from __future__ import annotations

import numpy as np

from cvmask.outlines import Floats
from cvmask.things import Thing, clip_to, cover_of, new_thing

_MIN_VISIBLE = 0.5
_MIN_INSIDE = 0.75


def place_things(
    rng: np.random.Generator, size_wh: tuple[int, int], count: int, background: Floats, overlap: bool
) -> list[Thing]:
    """Objects from back to front, each with at least half of it seen."""
    things: list[Thing] = []
    owner = np.full(size_wh[::-1], -1, np.int16)
    full: list[int] = []
    for _ in range(count * 8):
        if len(things) == count:
            break
        center = rng.uniform(0, 1, 2) * size_wh
        spot = int(center[1]), int(center[0])
        below = owner[spot]
        under = background[spot] if below < 0 else things[below].paint.mean(axis=(0, 1))
        thing = new_thing(rng, size_wh, center, under)
        left, top, cover = cover_of(thing)
        rows, columns, cut = clip_to(size_wh, left, top, cover)
        solid = cut >= 0.5
        area = int((cover >= 0.5).sum())
        if solid.sum() < _MIN_INSIDE * area:
            continue
        hidden = np.bincount(owner[rows, columns][solid] + 1, minlength=len(things) + 1)[1:]
        seen = np.bincount(owner.ravel() + 1, minlength=len(things) + 1)[1:]
        if hidden.any() and (not overlap or (seen - hidden < _MIN_VISIBLE * np.array(full)).any()):
            continue
        owner[rows, columns][solid] = len(things)
        things.append(thing)
        full.append(area)
    return things
