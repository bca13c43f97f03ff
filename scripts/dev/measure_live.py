"""What do masks between inferences bring with a network of full size? Wall time, on all cores, in one run.

1. Clips: frames a second with the network on every frame, and on every N-th, in turns; reading, carrying both ways,
   drawing and writing included.
2. A camera of 30 frames a second (frames that come when they are due): how many are shown, whether one is shown
   twice, and the longest time without a new one.

Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import cvmask
from cvmask.errors import SourceError
from cvmask.runtime.model import MaskRCNN
from cvmask.scenes import moving_scene
from cvmask.streams.sources import Newest
from cvmask.streams.sources.live import Camera

SIZES = ((640, 480), (1920, 1080))
RATE = 30


def pictures(size_wh: tuple[int, int], count: int) -> list[NDArray[np.uint8]]:
    """Frames of a moving scene with five objects."""
    return [scene.image for scene in moving_scene(3, count, size_wh, objects=5)]


def clip_of(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def rate_of(model: MaskRCNN, clip: Path, every: int, out: Path) -> float:
    """Frames a second, from opening the clip to the finished file."""
    began = time.perf_counter()
    summary = cvmask.annotate(str(clip), model, outputs=str(out), detect_every=every).run()
    return summary.written / (time.perf_counter() - began)


def clips(model: MaskRCNN, every: int, count: int, rounds: int) -> None:
    for size_wh in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            short = clip_of(Path(folder, "short.mp4"), pictures(size_wh, count))
            long = clip_of(Path(folder, "long.mp4"), pictures(size_wh, count * every))
            out = Path(folder, "out.mp4")
            pairs = [(rate_of(model, short, 1, out), rate_of(model, long, every, out)) for _ in range(rounds)]
        plain, carried = (statistics.median(rates) for rates in zip(*pairs))
        ratios = ", ".join(f"{fast / slow:.2f}" for slow, fast in pairs)
        size = f"{size_wh[0]}x{size_wh[1]}"
        print(f"| {size} | {plain:.2f} | {carried:.2f} | {carried / plain:.2f} ({ratios}) |", flush=True)


class Cam:
    """What `cv2.VideoCapture` does for a camera of 30 frames a second that is unplugged at the end."""

    def __init__(self, frames: list[NDArray[np.uint8]], seconds: float) -> None:
        self._frames, self._left, self._due_s = frames, round(seconds * RATE), 0.0

    def __call__(self, device: int) -> Cam:
        return self

    def isOpened(self) -> bool:
        return True

    def get(self, name: int) -> float:
        return 0.0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if not self._left:
            return False, None
        self._left -= 1
        self._due_s = (self._due_s or time.monotonic()) + 1 / RATE
        time.sleep(max(0.0, self._due_s - time.monotonic()))
        return True, self._frames[self._left % len(self._frames)].copy()

    def release(self) -> None:
        """There is nothing to let go of."""


def camera(model: MaskRCNN, size_wh: tuple[int, int], seconds: float) -> None:
    there_and_back = pictures(size_wh, 60)
    there_and_back += there_and_back[::-1]
    run = cvmask.annotate(Newest(Camera(0, Cam(there_and_back, seconds))), model, detect_every="auto")
    shown: list[tuple[float, int]] = []
    try:
        for result in run:
            shown.append((time.perf_counter(), result.frame.index))
    except SourceError:  # unplugged
        pass
    times, numbers = zip(*shown)
    rate, twice = (len(times) - 1) / (times[-1] - times[0]), len(numbers) - len(set(numbers))
    print(
        f"camera {size_wh[0]}x{size_wh[1]}: {rate:.1f} of {RATE} frames a second shown, {twice} twice; longest gap "
        f"{np.diff(times).max():.2f} s; the network saw {run.summary.stages['detect'].count} frames"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graph", type=Path, metavar="PB", help="of full size, with weights")
    parser.add_argument("--every", type=int, default=5, metavar="N")
    parser.add_argument("--keys", type=int, default=8, help="frames that the network sees in each clip, about")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10, help="of camera")
    args = parser.parse_args()
    model = cvmask.load(args.graph, score_threshold=0.0, max_detections=5)
    print(f"| size | every frame | every {args.every}th | ratio |\n|---|---|---|---|")
    clips(model, args.every, args.keys, args.rounds)
    for size_wh in SIZES:
        camera(model, size_wh, args.seconds)


if __name__ == "__main__":
    main()
