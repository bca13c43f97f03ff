"""Measure tiles on mosaics of made scenes: of the objects that single scenes find, how many are found again."""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray

from cvmask import MaskRCNN, load, scenes
from cvmask.results.detections import Detections

SIDE = 320


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


def compare(model: MaskRCNN, count: int, seed: int) -> None:
    """Print the rows of one mosaic of `count` x `count` scenes."""
    parts = [scenes.make_scene(seed + n, (SIDE, SIDE), objects=8) for n in range(count * count)]
    picture = np.vstack([np.hstack([s.image for s in parts[row * count :][:count]]) for row in range(count)])
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


if __name__ == "__main__":
    print("| picture | tiles | objects | right in single scenes | found | right | of single scenes | twice | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    model = load(sys.argv[1] if len(sys.argv) > 1 else "shapes")
    for count in (2, 4, 6):
        compare(model, count, seed=1000)
