"""How much less do masks flicker with --smooth, and does it cost accuracy?

Moving scenes with noise, seen by the bundled model. Flicker is 1 minus the IoU of an object's masks in neighbouring
frames, the earlier one moved onto the later by the exact motion; that of the exact masks is the least there can be.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

import cvmask
from cvmask import scenes
from cvmask.streams.smooth import Smoother
from cvmask.streams.tracking import Tracker

Mask = NDArray[np.bool_]
Pose = tuple[NDArray[np.float32], float]


def iou(first: Mask, second: Mask) -> float:
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 1.0


def moved(mask: Mask, before: Pose, now: Pose) -> Mask:
    """The mask, moved as the object moved."""
    turn = scenes.rotated(np.eye(2, dtype=np.float32), now[1] - before[1]).T
    shift = now[0] - turn @ before[0]
    matrix = np.column_stack([turn, shift]).astype(np.float64)
    return np.asarray(cv2.warpAffine(mask.astype(np.uint8) * 255, matrix, mask.shape[::-1]) > 127)


def one_scene(model: cvmask.MaskRCNN, seed: int, frames: int, noise: float) -> dict[str, list[list[float]]]:
    rng = np.random.default_rng(seed)
    background, things = scenes._compose(seed, (320, 320), 4, True)
    tracker, smoother = Tracker(), Smoother()
    figures: dict[str, list[list[float]]] = {name: [[], []] for name in ("exact", "of each frame", "smoothed")}
    spent_ms: list[float] = []
    before: dict[str, dict[int, Mask]] = {}
    poses_before: dict[int, Pose] = {}
    for _ in range(frames):
        scene = scenes.render(things, background)
        image = np.clip(scene.image + rng.normal(0, noise, scene.image.shape), 0, 255).astype(np.uint8)
        ids = scene.instance_id.tolist()
        poses: dict[int, Pose] = {i: (things[i].center.copy(), things[i].angle) for i in ids}
        truth = dict(zip(ids, scene.masks))
        plain = tracker.update(model.detect(image))
        began = time.perf_counter()
        smooth = smoother.update(image, plain)
        spent_ms.append(1000 * (time.perf_counter() - began))
        now: dict[str, dict[int, Mask]] = {"exact": truth, "of each frame": {}, "smoothed": {}}
        for name, found in (("of each frame", plain), ("smoothed", smooth)):
            for mask in found.masks(0.5):
                best = max(truth, key=lambda i, mask=mask: iou(truth[i], mask))  # type: ignore[misc]
                if iou(truth[best], mask) > 0.5:
                    now[name][best] = mask
        for name, masks in now.items():
            shared = masks.keys() & now["of each frame"].keys() & now["smoothed"].keys()
            figures[name][1] += [iou(masks[i], truth[i]) for i in shared]
            for i in shared & before.get(name, {}).keys() & poses_before.keys():
                figures[name][0].append(1 - iou(masks[i], moved(before[name][i], poses_before[i], poses[i])))
        before, poses_before = now, poses
        for thing in things:
            scenes.move_(thing, 1 / 25, (320, 320))
    figures["ms"] = [spent_ms, []]
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--noise", type=float, default=20, help="standard deviation, in grey levels")
    args = parser.parse_args(arguments)
    model = cvmask.load("shapes")
    runs = [one_scene(model, seed, args.frames, args.noise) for seed in (1, 2, 3)]
    print("| masks | flicker | mean IoU |\n|---|---|---|")
    for name in ("exact", "of each frame", "smoothed"):
        flicker, exact = (np.mean(np.concatenate([run[name][part] for run in runs])) for part in (0, 1))
        print(f"| {name} | {flicker:.3f} | {exact:.3f} |")
    print(f"{np.mean(np.concatenate([run['ms'][0] for run in runs])):.1f} ms a frame")


if __name__ == "__main__":
    main()
