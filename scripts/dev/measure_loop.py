"""How near is the loop to what this machine can do?

1. With a model that finds nothing, frames a second beside OpenCV's own reading and writing, which
   nothing that uses them can beat: both in one thread, and each in a thread of its own.
2. With the bundled model, the time of a run beside the sum of its inference times.
3. With the bundled model, frames a second of 1, 2, 4 ... workers.

Every row of a table is measured in every round, in turns, and its best round counts.
"""

from __future__ import annotations

import argparse
import queue
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

import cvmask
from cvmask import scenes
from cvmask.results.detections import Detections
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sources import Video

SCENE_WH = (480, 270)
DIFFERENT_FRAMES = 25
QUEUE_FRAMES = 4


class Nothing:
    """Finds nothing, at once."""

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        return Detections.empty((frame.shape[0], frame.shape[1]))


class Same:
    """Finds the same round objects in each frame, at once."""

    def __init__(self, count: int, frame_size: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        corner, side = rng.uniform(0, 0.7, (count, 2)), rng.uniform(0.1, 0.3, (count, 2))
        boxes = np.hstack([corner, corner + side]) * (frame_size[::-1] * 2)
        y, x = np.mgrid[-1:1:15j, -1:1:15j]
        masks = np.broadcast_to((1 - np.hypot(x, y)).clip(0, 1), (count, 15, 15))
        classes, scores = rng.integers(0, 90, count), np.full(count, 0.9)
        floats = (boxes.astype(np.float32), scores.astype(np.float32), masks.astype(np.float32))
        self._found = Detections(floats[0], floats[1], classes.astype(np.int32), floats[2], frame_size)

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        return self._found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", help="a video of your own (default: a made one, 1080p, mp4v)")
    parser.add_argument("--frames", type=int, default=300, help="of the made clip")
    parser.add_argument("--model-frames", type=int, default=100, help="of the clip for the bundled model")
    parser.add_argument("--model-wh", default="640x480", help="size of that clip")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", default="1,2,4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = args.clip or made_clip(folder / "clip.mp4", (1920, 1080), args.frames)
        measure_loop(clip, folder, args.rounds)
        print()
        size_wh = tuple(int(side) for side in args.model_wh.split("x"))
        small = made_clip(folder / "small.mp4", size_wh, args.model_frames)
        measure_overlap(small, folder, args.rounds)
        measure_workers(small, folder, [int(count) for count in args.workers.split(",")], args.rounds)


def measure_loop(clip: str, folder: Path, rounds: int) -> None:
    images = [frame.image for frame in Video(clip, end_s=2)][:DIFFERENT_FRAMES]
    count = len(list(Video(clip)))
    width, height = images[0].shape[1::-1]
    out = str(folder / "out.mp4")
    print(f"\n{count} frames of {width}x{height}, {cv2.getNumThreads()} threads, OpenCV {cv2.__version__}")
    many = Same(20, (height, width))
    rows: dict[str, Callable[[], Any]] = {
        "OpenCV reads": lambda: [None for _ in bare_read(clip)],
        "OpenCV writes mp4v": lambda: bare_write(out, (images[i % len(images)] for i in range(count))),
        "OpenCV reads and writes, one thread": lambda: bare_write(out, bare_read(clip)),
        "OpenCV reads and writes, two threads": lambda: bare_write(out, in_a_thread(bare_read(clip))),
        "cvmask, no output": lambda: cvmask.annotate(clip, Nothing()).run(),
        "cvmask, mp4v": lambda: annotate_to(out, clip, use_av=False),
        "cvmask, 20 objects, mp4v": lambda: annotate_to(out, clip, many, use_av=False),
    }
    if has_av():
        rows["cvmask, mp4v (PyAV)"] = lambda: annotate_to(out, clip, codec="mp4v", use_av=True)
        rows["cvmask, H.264 (PyAV)"] = lambda: annotate_to(out, clip, use_av=True)
        rows["cvmask, 20 objects, mp4v (PyAV)"] = lambda: annotate_to(out, clip, many, codec="mp4v", use_av=True)
        rows["cvmask, 20 objects, H.264 (PyAV)"] = lambda: annotate_to(out, clip, many, use_av=True)
    figures = best_of(rows, rounds)
    print(f"{'':38}{'frames/s':>9}{'CPU ms a frame':>16}")
    for name, (wall_s, cpu_s) in figures.items():
        print(f"{name:38}{count / wall_s:9.1f}{1000 * cpu_s / count:16.2f}")
    floors = {"no output": "OpenCV reads", "mp4v": "OpenCV reads and writes, two threads"}
    for ours, floor in floors.items():
        wall, cpu = (figures[f"cvmask, {ours}"][i] / figures[floor][i] for i in (0, 1))
        print(f"cvmask, {ours}: {wall:.2f} times the time of: {floor} ({cpu:.2f} times the CPU time)")


def measure_overlap(clip: str, folder: Path, rounds: int) -> None:
    model = cvmask.load("shapes")
    images = [frame.image for frame in Video(clip)]
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for image in images:
            model.detect(image)
        alone_s = time.perf_counter() - began
        began = time.perf_counter()
        with VideoFile(folder / "out.mp4", use_av=False) as video:
            summary = cvmask.annotate(clip, model, outputs=[video]).run()
        total_s = time.perf_counter() - began
        detect = summary.stages["detect"]
        best = min(best, total_s / detect.total_s)
        alone_ms, run_ms = 1000 * alone_s / len(images), 1000 * detect.mean_s
        print(f"bundled model, {len(images)} frames: total {total_s:.2f} s; inference {run_ms:.1f} ms each, total "
              f"{total_s / detect.total_s:.3f} times their sum; with nothing beside it {alone_ms:.1f} ms, "
              f"{total_s / alone_s:.3f} times")  # fmt: skip
    print(f"total / sum of inference times, best round: {best:.3f} (wanted: at most 1.05)")


def measure_workers(clip: str, folder: Path, counts: list[int], rounds: int) -> None:
    model = cvmask.load("shapes")
    frames = len(list(Video(clip)))
    out = str(folder / "out.mp4")
    cpus = cv2.getNumThreads()
    rows = {
        (count, threads): lambda c=count, t=threads: with_threads(t, lambda: annotate_to(out, clip, model, c))
        for count in counts
        for threads in sorted({cpus, max(1, cpus // count)}, reverse=True)
    }
    print(f"\n{'workers':>8}{'threads of OpenCV':>20}{'frames/s':>10}{'CPU ms a frame':>16}")
    for (count, threads), (wall_s, cpu_s) in best_of(rows, rounds).items():
        print(f"{count:8}{threads:20}{frames / wall_s:10.2f}{1000 * cpu_s / frames:16.2f}")


def with_threads(count: int, work: Callable[[], Any]) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        work()
    finally:
        cv2.setNumThreads(before)


def annotate_to(out: str, clip: str, model: Any = None, workers: int = 1, **kind: Any) -> None:
    source = Video(clip)
    video = VideoFile(out, frame_rate=source.frame_rate, **{"use_av": False, **kind})
    cvmask.annotate(source, model or Nothing(), outputs=[video], workers=workers).run()


def bare_read(clip: str) -> Iterator[NDArray[np.uint8]]:
    capture = cv2.VideoCapture(clip, cv2.CAP_FFMPEG)
    while True:
        found, image = capture.read()
        if not found:
            return
        yield image


def bare_write(out: str, images: Iterator[NDArray[np.uint8]]) -> None:
    writer = None
    for image in images:
        if writer is None:
            code = cv2.VideoWriter.fourcc(*"mp4v")
            writer = cv2.VideoWriter(out, cv2.CAP_FFMPEG, code, 25, (image.shape[1], image.shape[0]))
        writer.write(image)
    if writer is not None:
        writer.release()


def in_a_thread(images: Iterator[Any]) -> Iterator[Any]:
    """Give the same, made ahead in a thread of its own."""
    made: queue.Queue[Any] = queue.Queue(QUEUE_FRAMES)

    def work() -> None:
        for image in images:
            made.put(image)
        made.put(None)

    threading.Thread(target=work).start()
    while (image := made.get()) is not None:
        yield image


def best_of(rows: dict[Any, Callable[[], Any]], rounds: int) -> dict[Any, tuple[float, float]]:
    """Run all in turns; the least wall-clock and the least CPU seconds of each."""
    best = dict.fromkeys(rows, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, work in rows.items():
            wall_s, cpu_s = time.perf_counter(), time.process_time()
            work()
            spent = time.perf_counter() - wall_s, time.process_time() - cpu_s
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
    return best


def made_clip(path: Path, size_wh: tuple[int, int], frames: int) -> str:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, size_wh)
    for scene in scenes.moving_scene(3, frames, SCENE_WH, objects=6):
        writer.write(cv2.resize(scene.image, size_wh, interpolation=cv2.INTER_LINEAR))
    writer.release()
    return str(path)


if __name__ == "__main__":
    main()
