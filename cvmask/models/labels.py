"""Class names: one a line, or the label maps of the Object Detection API."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cvmask.errors import CvmaskError, ModelError
from cvmask.graph.model_files import open_regular
from cvmask.system.files import read_text

_ITEM = re.compile(r"item\s*\{(.*?)\}", re.DOTALL)
_MAX_BYTES = 16 << 20
_MAX_ID = 100_000
_FIELD = re.compile(r"""\b(id|name|display_name)\s*:\s*(?:(\d+)|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)')""")


def _read(path: Path) -> str:
    with open_regular(path) as file:
        return file.read(_MAX_BYTES).decode("utf-8-sig", "replace")


def read_label_map(path: Path) -> list[str]:
    """Read names in the order of their ids: line i (from 0) names id i + 1.

    An id that the map leaves out is called "class i". display_name goes before name.

    Raises
    ------
    ModelError
        If an item has no id from 1 to 100000 or no name, two share an id, or there are none.
    """
    text = re.sub(r"(?m)#[^\n\"']*$", "", _read(path))
    names: dict[int, str] = {}
    for body in _ITEM.findall(text):
        fields = {key: number or double or single for key, number, double, single in _FIELD.findall(body)}
        name = fields.get("display_name") or fields.get("name")
        digits = fields.get("id", "")
        number = int(digits[:20]) if digits.isdecimal() else 0
        if not 1 <= number <= _MAX_ID or not name:
            got = " ".join(body.split())[:80]
            raise ModelError(f"{path}: each item needs an id from 1 to {_MAX_ID} and a name, got {got!r}")
        if number in names:
            raise ModelError(f"{path}: two items have the id {number}")
        names[number] = name
    if not names:
        raise ModelError(f"{path}: a label map needs items such as item {{ id: 1 name: 'cat' }}, found none")
    return [names.get(number, f"class {number - 1}") for number in range(1, max(names) + 1)]


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """Read class names, one a line: line i (from 0) names class_id i.

    Raises
    ------
    CvmaskError
        If the file cannot be read, is empty, or has an empty line between names.
    """
    lines = [line.strip() for line in read_text(path).rstrip().splitlines()]
    if not lines:
        raise CvmaskError(f"{path}: a labels file needs one class name a line, got an empty file")
    if "" in lines:
        raise CvmaskError(f"{path}: line {lines.index('') + 1} is empty, but every line must name one class")
    return lines
