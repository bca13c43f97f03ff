"""PAM, the netpbm format with alpha; OpenCV reads some forms of it, with the channels of others changed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER = re.compile(rb"P7\n((?:[^\n]{0,1000}\n){0,100}?)ENDHDR\n")
_FIELD = re.compile(rb"^(WIDTH|HEIGHT|DEPTH|MAXVAL)\s+(\d{1,10})\s*$", re.MULTILINE)


def pam_fields(data: bytes) -> tuple[int, int, int, int, int] | None:
    """Read width, height, channels, the value of white, and where the pixels begin; None if one is missing."""
    head = _HEADER.match(data)
    told = {name: int(number) for name, number in _FIELD.findall(head[1])} if head else {}
    if head is None or len(told) < 4 or not 1 <= told[b"DEPTH"] <= 4 or not 1 <= told[b"MAXVAL"] <= 0xFFFF:
        return None
    return told[b"WIDTH"], told[b"HEIGHT"], told[b"DEPTH"], told[b"MAXVAL"], head.end()


def decode_pam(data: bytes) -> NDArray[Any] | None:
    """Decode a PAM.

    Returns
    -------
    Shape (height, width, 3), BGR, or with alpha (height, width, 4), BGRA, 8 bits a value; None if it is damaged.
    """
    if (fields := pam_fields(data)) is None:
        return None
    width, height, depth, most, place = fields
    form = np.dtype("u1" if most < 256 else ">u2")
    if len(data) - place < width * height * depth * form.itemsize:
        return None
    values = np.frombuffer(data, form, width * height * depth, place).reshape(height, width, depth)
    table = ((np.minimum(np.arange(1 << 8 * form.itemsize), most) * 255 + most // 2) // most).astype(np.uint8)
    return table[values[..., {1: [0, 0, 0], 2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[depth]]]
