"""COCO's run-length encoding of masks, in NumPy; the bytes are those of pycocotools.

Runs go down the columns, from left to right, and alternate between off and on; the first one is off
and may be 0. The compressed form writes each run (from the fourth on: its difference to the run two
places before) as a signed number in groups of five bits, lowest first, one printable byte a group.
"""

from __future__ import annotations

from typing import TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.results.masks import BoxMask


class Rle(TypedDict):
    """COCO's compressed form: ``size`` is [height, width]."""

    size: list[int]
    counts: str


def encode(mask: BoxMask, frame_size: tuple[int, int]) -> Rle:
    """Encode a mask as the frame would be, without making the frame."""
    return {"size": list(frame_size), "counts": compress(count_runs(mask, frame_size))}


def decode(rle: Rle) -> NDArray[np.bool_]:
    """Decode a compressed mask.

    Returns
    -------
    Shape (height, width).

    Raises
    ------
    ValueError
        If the runs do not add up to the size.
    """
    return expand_runs(decompress(rle["counts"]), (rle["size"][0], rle["size"][1]))


def count_runs(mask: BoxMask, frame_size: tuple[int, int]) -> NDArray[np.int64]:
    """Count the runs of a mask in its frame: COCO's uncompressed ``counts``."""
    frame_height, frame_width = frame_size
    height, width = mask.mask.shape
    # One off pixel before everything and one below each column, so that no run leaves its column.
    padded = np.zeros(1 + width * (height + 1), dtype=np.uint8)
    columns = padded[1:].reshape(width, height + 1)
    columns[:, :height] = cv2.transpose(mask.mask.view(np.uint8))
    column, row = np.divmod(np.flatnonzero(padded[1:] != padded[:-1]), height + 1)
    edges = (column + mask.left) * frame_height + (row + mask.top)
    # A run that reaches the frame's last row goes on in the next column's first.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    if len(edges) and edges[-1] == frame_height * frame_width:
        edges = edges[:-1]
    counts: NDArray[np.int64] = np.diff(edges, prepend=0, append=frame_height * frame_width)
    return counts


def expand_runs(counts: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Paint runs into a mask of (height, width); ValueError if they do not add up to it."""
    height, width = size
    if counts.sum() != height * width or (counts < 0).any():
        raise ValueError(f"RLE runs must add up to {height} x {width} = {height * width}, got {counts.sum()}")
    columns = np.repeat(np.arange(len(counts), dtype=np.uint8) & 1, counts).reshape(width, height)
    return np.ascontiguousarray(columns.T).view(np.bool_)


def compress(counts: NDArray[np.int64]) -> str:
    """Write runs as COCO's printable string."""
    rest = counts.astype(np.int64)
    rest[3:] -= counts[1:-2]
    groups = []
    unfinished = np.ones(len(rest), dtype=np.bool_)
    while unfinished.any():
        low = rest & 31
        rest = rest >> 5
        more = unfinished & (rest != np.where(low & 16, -1, 0))
        groups.append(np.where(unfinished, (low | more << 5) + 48, 0).astype(np.uint8))
        unfinished = more
    text = np.stack(groups, axis=1).ravel() if groups else np.zeros(0, dtype=np.uint8)
    return text[text > 0].tobytes().decode("ascii")


def decompress(text: str) -> NDArray[np.int64]:
    """Read runs from COCO's printable string; ValueError if it is cut short."""
    groups = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    last = np.flatnonzero((groups & 32) == 0)
    if len(groups) and (not len(last) or last[-1] != len(groups) - 1):
        raise ValueError("the RLE string ends inside a number: it was cut short")
    if not len(groups):
        return groups
    first = np.concatenate([[0], last[:-1] + 1])
    shift = 5 * (np.arange(len(groups)) - np.repeat(first, last - first + 1))
    counts = np.add.reduceat((groups & 31) << shift, first)
    counts -= np.where(groups[last] & 16, np.int64(1) << (shift[last] + 5), 0)
    counts[1::2] = counts[1::2].cumsum()
    counts[2::2] = counts[2::2].cumsum()
    return counts
