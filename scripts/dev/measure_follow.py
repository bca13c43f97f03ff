"""How good are masks between inferences, and what do they cost?

1. Sequences of DAVIS (../shared/data/davis: frames and one exact mask a frame). The exact masks of every N-th frame
   are carried to the frames between; J is the mean IoU with the exact masks there.
2. Moving scenes with the bundled model on every N-th frame, beside the same model on every frame.
3. Milliseconds of one thread for a carried frame, with five objects.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import cvmask
from cvmask.results.detections import Detections
from cvmask.results.masks import to_frame
from cvmask.scenes import moving_scene
from cvmask.streams.follow import Key, carry, carry_between
from cvmask.streams.motion import Chain, Motion
from cvmask.streams.tracking import match

DAVIS = Path(__file__).resolve().parents[3] / "shared" / "data" / "davis"
DISTANCES = (2, 4, 8)
OBJECTS = 5


def exact(mask: NDArray[np.bool_]) -> Detections:
    """The mask as the network would have given it, at the frame's own resolution."""
    left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
    if not width:
        return replace(Detections.empty(mask.shape), mask_paste="tutorial")
    return Detections(
        # The pixel in which a corner lies belongs to the box.
        xyxy=np.array([[left, top, left + width - 0.01, top + height - 0.01]], np.float32),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=mask[None, top : top + height, left : left + width].astype(np.float32),
        frame_size=mask.shape,
        mask_paste="tutorial",
    )


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    either = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / either if either else 1.0


def found(detections: Detections) -> NDArray[np.bool_]:
    return detections.masks(0.5).any(axis=0)


def one_sequence(folder: Path) -> dict[tuple[str, int], float]:
    frames = [cv2.imread(str(path)) for path in sorted((folder / "frames").iterdir())]
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127 for path in sorted((folder / "masks").iterdir())]
    motion = Motion(masks[0].shape)
    grays = [motion.small(frame) for frame in frames]
    steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
    scores: dict[tuple[str, int], list[float]] = {}
    for every in DISTANCES:
        for start in range(0, (len(frames) - 1) // every * every, every):
            keys = [Key(exact(masks[i]), motion, 0.5) for i in (start, start + every)]
            between = range(start + 1, start + every)
            chain = Chain(motion.size_wh)
            for i in between:
                chain.follow(steps[i - 1].back)
                scores.setdefault(("forward", every), []).append(iou(found(carry(keys[0], chain, 1)), masks[i]))
                scores.setdefault(("held", every), []).append(iou(masks[start], masks[i]))
            both = carry_between(keys[0], keys[1], steps[start : start + every])
            for i, carried in zip(between, both):
                scores.setdefault(("both ways", every), []).append(iou(found(carried), masks[i]))
    return {which: float(np.mean(values)) for which, values in scores.items()}


def davis(folders: Sequence[Path]) -> None:
    rows = {folder.name: one_sequence(folder) for folder in folders}
    columns = [(way, every) for way in ("held", "forward", "both ways") for every in DISTANCES]
    print("| sequence | " + " | ".join(f"{way} N={every}" for way, every in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    rows["mean"] = {column: float(np.mean([row[column] for row in rows.values()])) for column in columns}
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(f"{row[column]:.3f}" for column in columns) + " |")


def truth_score(detections: Detections, scene: cvmask.scenes.Scene, threshold: float | None) -> float:
    """The mean IoU over the objects of a scene, 0 for one that was missed."""
    full = to_frame(detections.box_masks(threshold), detections.frame_size)
    scores = np.zeros((len(scene.masks), len(full)), np.float32)
    for i, j in np.ndindex(*scores.shape):
        if scene.class_id[i] == detections.class_id[j]:
            scores[i, j] = iou(scene.masks[i], full[j])
    rows, columns = match(scores)
    return float(scores[rows, columns].sum() / max(len(scene.masks), 1))


def made_scenes(seeds: Sequence[int], length: int = 33) -> None:
    model = cvmask.load("shapes")
    threshold = model.settings.mask_threshold
    scores: dict[str, list[float]] = {}
    for seed in seeds:
        scenes = list(moving_scene(seed, length, (480, 360), objects=5, overlap=seed % 2 == 0))
        motion = Motion((360, 480))
        grays = [motion.small(scene.image) for scene in scenes]
        steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
        all_found = [model.detect(scene.image) for scene in scenes]
        for every in DISTANCES:
            for start in range(0, length - 1, every):
                keys = [Key(all_found[i], motion, threshold) for i in (start, start + every)]
                for i, carried in enumerate(carry_between(*keys, steps[start : start + every]), start + 1):
                    scores.setdefault(f"N={every} carried", []).append(truth_score(carried, scenes[i], threshold))
                    each = truth_score(all_found[i], scenes[i], threshold)
                    scores.setdefault(f"N={every} every frame", []).append(each)
    print("| made scenes | mean IoU |\n|---|---|")
    for name, values in scores.items():
        print(f"| {name} | {np.mean(values):.4f} |")


def cost(size_wh: tuple[int, int], every: int = 8, rounds: int = 3) -> None:
    cv2.setNumThreads(1)
    scenes = list(moving_scene(3, every + 1, size_wh, objects=OBJECTS, overlap=False))
    motion = Motion((size_wh[1], size_wh[0]))
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        began = time.process_time()
        grays = [motion.small(scene.image) for scene in scenes]
        times.setdefault("grey", []).append((time.process_time() - began) / len(scenes))
        began = time.process_time()
        steps = [motion.step(*pair) for pair in zip(grays, grays[1:])]
        times.setdefault("flow both ways", []).append((time.process_time() - began) / (every - 1))
        began = time.process_time()
        backs = [motion.flow(present, before) for before, present in zip(grays, grays[1:])]
        times.setdefault("flow", []).append((time.process_time() - began) / every)
        keys = [Key(truth(scenes[i]), motion, 0.5) for i in (0, every)]
        began = time.process_time()
        assert len(list(carry_between(keys[0], keys[1], steps))) == every - 1
        times.setdefault("carried both ways", []).append((time.process_time() - began) / (every - 1))
        began = time.process_time()
        chain = Chain(motion.size_wh)
        for flow in backs[:-1]:
            chain.follow(flow)
            carry(keys[0], chain, 1)
        times.setdefault("carried forward", []).append((time.process_time() - began) / (every - 1))
    best = {name: 1000 * min(values) for name, values in times.items()}
    forward = best["grey"] + best["flow"] + best["carried forward"]
    both = best["grey"] + best["flow both ways"] + best["carried both ways"]
    parts = ", ".join(f"{name} {value:.1f}" for name, value in best.items())
    print(f"{size_wh[0]}x{size_wh[1]}: forward {forward:.1f} ms, both ways {both:.1f} ms a carried frame ({parts})")


def truth(scene: cvmask.scenes.Scene) -> Detections:
    each = [exact(mask) for mask in scene.masks]
    side = 28
    resized = [cv2.resize(one.soft_masks[0], (side, side), interpolation=cv2.INTER_AREA) for one in each]
    return Detections(
        xyxy=np.concatenate([one.xyxy for one in each]),
        confidence=np.ones(len(each), np.float32),
        class_id=scene.class_id,
        soft_masks=np.clip(np.array(resized, np.float32), 0, 1),
        frame_size=each[0].frame_size,
        mask_paste="tutorial",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--davis", type=Path, default=DAVIS, help="a folder of sequences (default: %(default)s)")
    parser.add_argument("--only", choices=("davis", "scenes", "cost"), action="append")
    parser.add_argument("--seeds", type=int, default=6)
    args = parser.parse_args()
    wanted = args.only or ["davis", "scenes", "cost"]
    if "davis" in wanted:
        davis(sorted(path for path in args.davis.iterdir() if (path / "masks").is_dir()))
    if "scenes" in wanted:
        made_scenes(range(1, args.seeds + 1))
    if "cost" in wanted:
        for size_wh in ((640, 480), (1920, 1080)):
            cost(size_wh)


if __name__ == "__main__":
    main()
