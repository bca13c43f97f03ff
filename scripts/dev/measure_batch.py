"""What a batch costs: overhead against a bare loop, many pictures, memory; measure_scaling has the workers.

overhead   one worker of a batch against a bare loop of one thread, seconds a frame
pictures   a run over many small pictures, with the memory of the workers at ten moments of it
estimate   a million pictures and a thousand hours on 8, 64 and 512 cores, from --seconds-a-frame
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq

import cvmask
from cvmask import scenes
from cvmask.runtime.model import MaskRCNN

CORES = (8, 64, 512)
PART_FRAMES = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("overhead", "pictures", "estimate"))
    parser.add_argument("-m", "--model", default="shapes", help="a .pb, for the full-size graph (default: shapes)")
    parser.add_argument("--frames", type=int, default=40, help="pictures of each run (default: 40)")
    parser.add_argument("--size", default="800x600", help="of the pictures, WxH (default: 800x600)")
    parser.add_argument("--rounds", type=int, default=3, help="of overhead; the best counts (default: 3)")
    parser.add_argument("--seconds-a-frame", type=float, default=1.0, help="for estimate: detect_s / frames")
    parser.add_argument("--efficiency", type=float, default=0.9, help="for estimate: the ratio, divided by 2")
    args = parser.parse_args()
    began = time.monotonic()
    {"overhead": overhead, "pictures": pictures, "estimate": estimate}[args.what](args)
    print(f"\nin {time.monotonic() - began:.0f} s")


def overhead(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="cvmask-measure-") as folder:
        work = archive(Path(folder), args)
        model = cvmask.load(args.model)
        batches = min(1 / rate_of(work, model, 1, n) for n in range(args.rounds))
        cv2.setNumThreads(1)
        bare = min(bare_loop(work / "in", model) for _ in range(args.rounds))
    print("| | seconds a frame |\n|---|---|")
    print(f"| bare loop | {bare:.4f} |\n| batch, one worker | {batches:.4f} |")
    print(f"| overhead | {100 * (batches / bare - 1):.1f}% |")


def pictures(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="cvmask-measure-") as folder:
        work = archive(Path(folder), args)
        seen: list[tuple[float, int, float, float]] = []
        began = time.monotonic()

        def look(progress: Any) -> None:
            if progress.done >= (len(seen) + 1) * progress.total / 10:
                seen.append((time.monotonic() - began, progress.frames, *memory_mb()))

        summary = cvmask.batch(work / "in", work / "out", cvmask.load(args.model), on_progress=look)
    print("| s | frames | largest worker MB | all of Ray MB |\n|---|---|---|---|")
    for moment_s, frames, largest, whole in seen:
        print(f"| {moment_s:.0f} | {frames} | {largest:.0f} | {whole:.0f} |")
    print(f"\n{json.dumps(summary['last_run'])}")
    print(f"seconds of a worker a frame: {summary['detect_s'] / summary['frames']:.4f}")


def estimate(args: argparse.Namespace) -> None:
    print("| cores | 1,000,000 pictures | 1,000 hours, 25 frames a second | 1 a second |\n|---|---|---|---|")
    for cores in CORES:
        hours = [args.seconds_a_frame * frames / cores / args.efficiency / 3600 for frames in (1e6, 90e6, 3.6e6)]
        print(f"| {cores} | " + " | ".join(f"{one:,.1f} h" for one in hours) + " |")


def archive(work: Path, args: argparse.Namespace) -> Path:
    """Write the pictures: a hundred different scenes, again and again."""
    width, height = (int(side) for side in args.size.split("x"))
    (work / "in").mkdir()
    made = []
    for seed in range(min(args.frames, 100)):
        image = next(scenes.moving_scene(seed, 1, (width, height), objects=5)).image
        made.append(cv2.imencode(".jpg", image)[1].tobytes())
    for number in range(args.frames):
        (work / "in" / f"{number:06d}.jpg").write_bytes(made[number % len(made)])
    return work


def rate_of(work: Path, model: MaskRCNN, workers: int, number: int, **options: Any) -> float:
    """Frames a second of a batch while its workers work: the sum of what each does from part to part.

    The first part of a worker may have begun at any time, and at the end not all have work: neither counts.
    """
    out = work / f"out-{workers}-{number}"
    cvmask.batch(work / "in", out, model, workers=workers, part_frames=PART_FRAMES, **options)
    written_s: dict[int, list[float]] = defaultdict(list)
    for path in (out / "parts").iterdir():
        note = json.loads(pq.read_schema(path).metadata[b"cvmask"])
        written_s[note["process"]].append(path.stat().st_mtime_ns / 1e9)
    return sum((len(times) - 1) * PART_FRAMES / (max(times) - min(times)) for times in written_s.values())


def bare_loop(folder: Path, model: MaskRCNN) -> float:
    """Seconds a frame of reading, detecting and encoding masks in one thread, without Ray."""
    paths = sorted(folder.iterdir())
    model.detect(cv2.imread(str(paths[0])))
    began = time.perf_counter()
    for path in paths:
        model.detect(cv2.imread(str(path))).rle()
    return (time.perf_counter() - began) / len(paths)


def family_of(pid: int) -> list[int]:
    """Find a process and everything that it started."""
    family = [pid]
    for one in family:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                family += [int(child) for child in task.read_text().split()]
    return family


def memory_mb() -> tuple[float, float]:
    """Memory of the largest worker alone, and of this program with all that it started (shared pages counted once).

    Of a worker without what it shares: the object store's pages count only once it has touched them.
    """
    total, workers = 0.0, [0.0]
    for one in family_of(os.getpid()):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            title = Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue
        sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines[1:]}
        total += sizes["Pss:"]
        if title.startswith(b"ray::MapWorker"):
            workers.append(sizes["Pss_Anon:"])
    return max(workers), total


if __name__ == "__main__":
    main()
