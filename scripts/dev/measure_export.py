"""Does a run of 100,000 frames with 20 objects need more memory than one of 10,000? One process a format."""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cvmask.formats.record import Record
from cvmask.formats.saver import FORMATS, ONE_FILE, Saver, SaveSettings, check_formats
from cvmask.results.detections import Detections

FRAME_SIZE = (1080, 1920)
DIFFERENT_FRAMES = 50
# Where the peak memory is looked at, in percent of the run.
PLACES = (10, 50, 100)


class Figures(NamedTuple):
    """Peak memory of the process at each of `PLACES`, time, size."""

    peaks_mb: list[float]
    seconds: float
    written_mb: float
    files: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--formats", default=",".join(sorted(ONE_FILE)), help=f"of {', '.join(FORMATS)}")
    args = parser.parse_args()
    print(f"{args.frames} frames of 1080p with {args.objects} objects: peak memory of the process, time, size\n")
    places = "".join(f"{f'MB at {place} %':>13}" for place in PLACES)
    print(f"{'format':14}{places}{'ms a frame':>12}{'seconds':>9}{'MB written':>12}{'files':>9}")
    context = multiprocessing.get_context("spawn")
    for name in check_formats(args.formats.split(",")):
        with context.Pool(1) as pool:
            f = pool.apply(measure, (name, args.frames, args.objects))
        peaks = "".join(f"{peak:13.1f}" for peak in f.peaks_mb)
        print(f"{name:14}{peaks}{1000 * f.seconds / args.frames:12.2f}{f.seconds:9.0f}{f.written_mb:12.1f}{f.files:9}",
              flush=True)  # fmt: skip


def measure(name: str, frames: int, objects: int) -> Figures:
    """Write the frames of one long video in one format, into a folder that is removed again."""
    rng = np.random.default_rng(1)
    made = [some_detections(rng, objects) for _ in range(DIFFERENT_FRAMES)]
    picture = np.zeros((*FRAME_SIZE, 3), np.uint8)
    peaks = []
    looks = [max(1, place * frames // 100) for place in PLACES]
    with tempfile.TemporaryDirectory(dir=".") as folder:
        began = time.perf_counter()
        with Saver([name], SaveSettings(Path(folder), [f"class {n}" for n in range(90)])) as saver:
            for index in range(frames):
                saver.write(Record("long.mp4", made[index % len(made)], index, index / 25), picture)
                peaks += [peak_mb()] * looks.count(index + 1)
        # What is written at the end belongs to the last one.
        peaks[-1] = peak_mb()
        seconds = time.perf_counter() - began
        sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
        return Figures(peaks, seconds, sum(sizes) / 1e6, len(sizes))


def some_detections(rng: np.random.Generator, objects: int) -> Detections:
    """Make smooth blobs of 40 to 240 pixels, as a network would find them."""
    height, width = FRAME_SIZE
    center = rng.uniform((120, 120), (width - 120, height - 120), (objects, 2))
    half = rng.uniform(20, 120, (objects, 2))
    y, x = np.mgrid[:15, :15] - 7.0
    soft = np.clip(1.2 - np.hypot(x, y) / 8 + rng.normal(0, 0.05, (objects, 15, 15)), 0, 1)
    return Detections(
        xyxy=np.concatenate([center - half, center + half], axis=1).astype(np.float32),
        confidence=np.sort(rng.random(objects, dtype=np.float32))[::-1].copy(),
        class_id=rng.integers(0, 90, objects, dtype=np.int32),
        soft_masks=soft.astype(np.float32),
        frame_size=FRAME_SIZE,
        tracker_id=np.arange(objects, dtype=np.int32),
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
