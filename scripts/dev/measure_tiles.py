"""Measure tiles on mosaics of made scenes: of the objects that single scenes find, how many are found again.

With --picture, make the one of docs/large-pictures.md instead: the same mosaic without and with tiles.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask import MaskRCNN, draw, load, scenes
from cvmask.results.detections import Detections

SIDE = 320
PICTURE = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "tiles.jpg"
PICTURE_SIDE, JPEG_QUALITY = 560, 80


def hits(found: Detections, scene: scenes.Scene, shift: tuple[int, int] = (0, 0)) -> NDArray[np.intp]:
    """Count, for each true object, what covers it at a mask IoU above 0.5 and has its class."""
    counts = np.zeros(len(scene.masks), np.intp)
    boxes = found.boxes() - np.array(shift * 2)
    near = (boxes[:, :2] < SIDE).all(1) & (boxes[:, 2:] > 0).all(1)
    for row in np.flatnonzero(near).tolist():
        left, top, right, bottom = boxes[row].tolist()
        mask = found[row].box_masks()[0].mask
        inside = mask[max(-top, 0) : SIDE - top, max(-left, 0) : SIDE - left]
        there = scene.masks[:, max(top, 0) : bottom, max(left, 0) : right]
        both = (there & inside).sum((1, 2))
        union = mask.sum() + scene.masks.sum((1, 2)) - both
        counts += (2 * both > union) & (scene.class_id == found.class_id[row])
    return counts


def mosaic(count: int, seed: int) -> tuple[list[scenes.Scene], NDArray[np.uint8]]:
    """Make `count` x `count` scenes and the picture of all."""
    parts = [scenes.make_scene(seed + n, (SIDE, SIDE), objects=8) for n in range(count * count)]
    return parts, np.vstack([np.hstack([s.image for s in parts[row * count :][:count]]) for row in range(count)])


def make_picture(model: MaskRCNN) -> None:
    """Draw what is found in a mosaic without tiles beside what is found with them."""
    _, picture = mosaic(4, seed=1000)
    both = [draw(picture, model.detect(picture, tile=tile), captions=False) for tile in (None, "auto")]
    size_wh = (PICTURE_SIDE, PICTURE_SIDE)
    row = cv2.hconcat([cv2.resize(one, size_wh, interpolation=cv2.INTER_AREA) for one in both])
    cv2.imwrite(str(PICTURE), row, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])


def compare(model: MaskRCNN, count: int, seed: int) -> None:
    """Print the rows of one mosaic of `count` x `count` scenes."""
    parts, picture = mosaic(count, seed)
    places = [((n % count) * SIDE, (n // count) * SIDE) for n in range(count * count)]
    alone = np.concatenate([hits(model.detect(scene.image), scene) for scene in parts])
    for tile in (None, "auto"):
        began = time.perf_counter()
        found = model.detect(picture, tile=tile)
        spent_s = time.perf_counter() - began
        here = np.concatenate([hits(found, scene, place) for scene, place in zip(parts, places)])
        again = np.count_nonzero(here[alone > 0]) / np.count_nonzero(alone)
        twice = np.maximum(here - 1, 0).sum()
        cells = (
            f"{count * count} scenes, {picture.shape[1]}x{picture.shape[0]}", tile or "none", len(here),
            np.count_nonzero(alone), len(found), np.count_nonzero(here), f"{again:.3f}", twice, f"{spent_s:.2f}",
        )  # fmt: skip
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    names = [name for name in sys.argv[1:] if name != "--picture"]
    model = load(names[0] if names else "shapes")
    if "--picture" in sys.argv:
        make_picture(model)
        return
    print("| picture | tiles | objects | right in single scenes | found | right | of single scenes | twice | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for count in (2, 4, 6):
        compare(model, count, seed=1000)


if __name__ == "__main__":
    main()
