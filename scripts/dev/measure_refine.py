"""How near do masks come to the edges of real objects? Ways to paste and `refine`, on ideal masks of DAVIS.

    scripts/run measure_refine [DAVIS]      (default: ../shared/data/davis; folders with frames and masks)

Each object's true mask is sampled as the Object Detection API samples it in training, 15x15 from edge to edge of a box
that is off by 3 % a side; what each way makes of that is held against the truth. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cvmask.results.detections import Detections

SIDE, OFF, OBJECTS, LEAST_PX = 15, 0.03, 119, 400
_REACH = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))  # two pixels


def objects(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The picture and the true mask of each object, of every third frame."""
    for masks in sorted(folder.glob("*/masks")):
        for path in sorted(masks.iterdir())[::3]:
            labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            labels = labels.max(axis=2) if labels.ndim == 3 else labels
            picture = cv2.imread(str(next(masks.parent.glob(f"frames/{path.stem}.*"))))
            for value in np.unique(labels)[1:]:
                if (labels == value).sum() >= LEAST_PX:
                    yield picture, labels == value


def ideal(mask: np.ndarray, rng: np.random.Generator) -> Detections:
    """What a network would give that answers as it was trained, in a box that is a little off."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)
    height, width = mask.shape
    box += rng.normal(0, OFF, 4) * np.tile(box[2:] - box[:2], 2)
    box = np.clip(box, 0, [width, height, width, height]).astype(np.float32)
    steps = np.linspace(0, 1, SIDE)
    x, y = ((box[k] + steps * (box[k + 2] - box[k])) * (side - 1) / side for k, side in enumerate((width, height)))
    grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    soft = np.clip(cv2.remap(mask.astype(np.float32), *grid, cv2.INTER_LINEAR), 0, 1)
    one = np.ones(1, np.float32)
    return Detections(box[None], one, np.zeros(1, np.int32), soft[None], (height, width))


def score(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """IoU, and the F of their boundaries within two pixels."""
    mine, other = (mask & ~cv2.erode(mask.astype(np.uint8), np.ones((3, 3))).astype(bool) for mask in (found, truth))
    near = [cv2.dilate(edge.astype(np.uint8), _REACH).astype(bool) for edge in (mine, other)]
    precision, recall = (mine & near[1]).sum() / max(mine.sum(), 1), (other & near[0]).sum() / max(other.sum(), 1)
    boundary = 2 * precision * recall / max(precision + recall, 1e-9)
    return (found & truth).sum() / (found | truth).sum(), boundary


def milliseconds() -> tuple[float, float]:
    """An object of 400x400 pixels, as it is and refined: the best of 30."""
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (480, 640, 3), np.uint8)
    found = Detections(
        np.array([[50, 40, 449, 439]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        rng.random((1, SIDE, SIDE), np.float32),
        (480, 640),
    )
    best = []
    for one in (found, found.refined(frame)):
        spent = []
        for _ in range(30):
            began = time.perf_counter()
            one.box_masks()
            spent.append(1000 * (time.perf_counter() - began))
        best.append(min(spent))
    return best[0], best[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("davis", type=Path, nargs="?", default=Path("../shared/data/davis"))
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    scores: dict[str, list[tuple[float, float]]] = {}
    for picture, truth in list(objects(args.davis))[:OBJECTS]:
        found = ideal(truth, rng)
        ways = {
            "tutorial": dataclasses.replace(found, mask_paste="tutorial"),
            "tensorflow": found,
            "tensorflow, refined": found.refined(picture),
        }
        for name, one in ways.items():
            scores.setdefault(name, []).append(score(one.masks()[0], truth))
    print("| masks | IoU | boundary F (2 px) |\n|---|---|---|")
    for name, rows in scores.items():
        overlap, boundary = np.mean(rows, axis=0)
        print(f"| {name} | {overlap:.3f} | {boundary:.3f} |")
    plain, refined = milliseconds()
    print(f"\n{len(rows)} objects. One of 400x400 pixels takes {refined:.1f} ms refined, {plain:.1f} ms as it is.")


if __name__ == "__main__":
    main()
