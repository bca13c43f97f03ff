"""From the names and ids of classes, as a user gives them, to ids."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

import numpy as np


def class_ids(classes: Iterable[str | int] | str | int, labels: Sequence[str]) -> tuple[int, ...]:
    """Return the sorted ids of names and ids. ValueError names the first that does not exist.

    A text is looked up as a name before it is read as an id, and selects every class of that name. A single text may
    be a comma-separated list; the longest matches win, so that names may contain commas.
    """
    items = split_names(classes, labels) if isinstance(classes, str) else classes
    items = [items] if isinstance(items, (int, np.integer)) else items
    return tuple(sorted({number for item in items for number in _ids_of(item, labels)}))


def split_names(text: str, labels: Sequence[str]) -> list[str]:
    """Split at commas, except those inside a label."""
    known = {label.strip().casefold() for label in labels if "," in label}
    most = 1 + max((label.count(",") for label in known), default=0)
    parts, names, place = text.split(","), list[str](), 0
    while place < len(parts):
        longer = (",".join(parts[place : place + count]) for count in range(most, 1, -1))
        name = next((one for one in longer if one.strip().casefold() in known), parts[place])
        names.append(name)
        place += 1 + name.count(",")
    return [name for name in names if name.strip()] or [text]


def _ids_of(item: str | int, labels: Sequence[str]) -> list[int]:
    text = str(item).strip()
    named = [number for number, label in enumerate(labels) if label.casefold() == text.casefold()]
    if named:
        return named
    if text.isdecimal() and int(text) < len(labels):
        return [int(text)]
    near = difflib.get_close_matches(text, labels, 1)
    known = ", ".join(labels[:20]) + (", ..." if len(labels) > 20 else "")
    hint = f", did you mean {near[0]!r}?" if near else f": this model has {known} (ids 0 to {len(labels) - 1})"
    raise ValueError(f"there is no class {text!r}{hint}")
