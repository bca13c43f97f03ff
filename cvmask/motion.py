"""How objects of a moving scene move."""

from __future__ import annotations

import numpy as np

from cvmask.things import Thing, reach


def move_(thing: Thing, seconds: float, size_wh: tuple[int, int]) -> None:
    """Move an object on; at the borders it turns back."""
    thing.center = thing.center + thing.velocity * seconds
    thing.angle += thing.spin * seconds
    margin = np.minimum(reach(thing), np.array(size_wh) / 2 - 1)
    too_low, too_high = thing.center < margin, thing.center > np.array(size_wh) - margin
    thing.velocity = np.where(too_low, np.abs(thing.velocity), thing.velocity)
    thing.velocity = np.where(too_high, -np.abs(thing.velocity), thing.velocity)


def bounce_apart_(things: list[Thing]) -> None:
    """Send objects that come near each other on their ways again."""
    for i, first in enumerate(things):
        for second in things[:i]:
            apart = first.center - second.center
            distance = float(np.linalg.norm(apart)) or 1.0
            if distance < reach(first) + reach(second) + 6:
                toward = apart / distance
                first.velocity = toward * np.linalg.norm(first.velocity)
                second.velocity = -toward * np.linalg.norm(second.velocity)
