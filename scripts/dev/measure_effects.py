"""How long does each effect take? Milliseconds a frame, median and best, wall clock and processor."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Callable

import cv2
import numpy as np

from cvmask import scenes
from cvmask.drawing.effects import EFFECTS, replace_background
from cvmask.results.detections import Detections

SIZE_WH = (1920, 1080)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--threads", type=int, help="of OpenCV (default: its own choice)")
    args = parser.parse_args()
    if args.threads is not None:
        cv2.setNumThreads(args.threads)
    frame = scenes.make_scene(3, SIZE_WH, objects=8).image
    found = blobs(args.objects)
    share = found.masks().any(axis=0).mean()
    print(f"1920x1080, {args.objects} objects, {share:.0%} of the frame, {cv2.getNumThreads()} threads")
    sky = scenes.make_scene(4, (1280, 800), objects=0).image
    functions: dict[str, Callable[..., Any]] = {
        **EFFECTS,
        "replace-background": partial(replace_background, background=sky),
    }
    print(f"\n{'effect':20}{'median ms':>11}{'best ms':>9}{'processor ms':>14}")
    for name, function in functions.items():
        wall, cpu = np.array(list(rounds(partial(function, frame, found), args.rounds))).T * 1000
        print(f"{name:20}{np.median(wall):11.1f}{wall.min():9.1f}{np.median(cpu):14.1f}")


def rounds(run: Callable[[], Any], count: int) -> Iterator[tuple[float, float]]:
    for _ in range(3):
        run()
    for _ in range(count):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        yield time.perf_counter() - wall, time.process_time() - cpu


def blobs(count: int) -> Detections:
    """Make persons as a camera in a room sees them: 350 pixels wide, 700 high."""
    y, x = np.mgrid[:15, :15] / 7 - 1.0
    soft = np.clip(1.1 - np.hypot(x * (1 + 0.4 * y), y) ** 3, 0, 1).astype(np.float32)
    left = np.linspace(20, SIZE_WH[0] - 370, count)
    boxes = np.stack([left, np.full(count, 250), left + 350, np.full(count, 950)], axis=1)
    return Detections(
        xyxy=boxes.astype(np.float32),
        confidence=np.ones(count, np.float32),
        class_id=np.zeros(count, np.int32),
        soft_masks=np.repeat(soft[None], count, axis=0),
        frame_size=SIZE_WH[::-1],
    )


if __name__ == "__main__":
    main()
