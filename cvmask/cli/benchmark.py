"""cvmask benchmark: time a model on this machine, stage by stage and with several workers."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.cli import loading, options
from cvmask.cli.options import ModelOptions, take
from cvmask.cli.progress import say
from cvmask.cli.run_stream import threads_shared_by
from cvmask.drawing.draw import draw
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sources.image_source import read_image

SCENE_WH = (1280, 720)
STAGES = ("resize", "detector", "mask head", "decode", "draw", "encode")

EPILOG = """\
examples:
  cvmask benchmark -m shapes
  cvmask benchmark street.jpg --size 640 --workers 1,2 --json > report.json
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "benchmark",
        EPILOG,
        help="time a model on this machine",
        description="Time a model on this machine: its stages, frames a second, memory.",
    )
    parser.add_argument("picture", nargs="?", metavar="PICTURE",
                        help="the picture, since time depends on its objects (default: a generated scene)")  # fmt: skip
    parser.add_argument("--runs", type=options.positive, default=10, metavar="N",
                        help="number of frames; the report gives medians (default: 10)")  # fmt: skip
    parser.add_argument("--workers", type=_counts, metavar="N,N", help="(default: 1,2,4 ... up to the CPUs)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options.add_model_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    report = benchmark(take(ModelOptions, args), args.picture, args.runs, args.workers)
    say(*(json.dumps(report, indent=1).split("\n") if args.json else table(report)))
    return 0


def benchmark(wanted: ModelOptions, picture: str | None, runs: int, workers: Sequence[int] | None) -> dict[str, Any]:
    """Time a model on a picture, or on a generated scene, with each of these numbers of workers."""
    began = time.perf_counter()
    model = loading.load_model(wanted)
    load_s = time.perf_counter() - began
    frame = scenes.make_scene(7, SCENE_WH, objects=8).image if picture is None else read_image(picture)[0]
    report = setup_of(model, frame, wanted.model)
    report["load_s"] = round(load_s, 3)
    report["stages_ms"], report["objects"] = time_stages(model, frame, runs)
    report["frames_per_s"] = {
        str(count): round(time_workers(model, frame, count, runs), 3)
        for count in workers or usual_counts(os.cpu_count() or 1)
    }
    report["peak_memory_mb"] = peak_memory_mb()
    return report


def setup_of(model: MaskRCNN, frame: NDArray[np.uint8], name: str) -> dict[str, Any]:
    """Describe what is timed, and on what."""
    height, width = frame.shape[:2]
    return {
        # Reports are made to be shared, and a path may be personal.
        "model": os.path.basename(os.path.abspath(name)),
        "opencv": cv2.__version__,
        "threads": cv2.getNumThreads(),
        "target": model.target.effective,
        "device": model.target.device,
        "engine": model.target.engine,
        "frame_wh": [width, height],
        "network_wh": list(model.resizer.target_wh((width, height))),
    }


def time_stages(model: MaskRCNN, frame: NDArray[np.uint8], runs: int) -> tuple[dict[str, float], int]:
    """Return the median milliseconds of each stage, after a warm-up, and the number of objects."""
    spent: dict[str, list[float]] = {stage: [] for stage in STAGES}
    style: dict[str, Any] = {"labels": model.labels, "mask_threshold": model.settings.mask_threshold}
    found = 0
    for number in range(runs + 1):
        detections, spent_ms = model.detect_timed(frame)
        spent_ms["draw"], annotated = _timed(lambda d=detections: draw(frame, d, **style))
        spent_ms["encode"], _ = _timed(lambda image=annotated: cv2.imencode(".jpg", image))
        found = len(detections)
        for stage in STAGES if number else ():
            spent[stage].append(spent_ms[stage])
    return {stage: round(statistics.median(values), 2) for stage, values in spent.items()}, found


def time_workers(model: MaskRCNN, frame: NDArray[np.uint8], count: int, runs: int) -> float:
    """Return the frames per second of `count` clones, each in a thread; they share the CPUs."""
    models = [model, *(model.clone() for _ in range(count - 1))]
    with threads_shared_by(count):
        for one in models:
            one.detect(frame)
        began = time.perf_counter()
        crew = [threading.Thread(target=_detect_often, args=(one, frame, runs)) for one in models]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        return count * runs / (time.perf_counter() - began)


def usual_counts(cpus: int) -> list[int]:
    """Return 1, 2, 4 ... up to the number of CPUs."""
    return [2**power for power in range(cpus.bit_length()) if 2**power <= cpus]


def peak_memory_mb() -> float | None:
    """Return the peak memory of this process in 10^6 bytes; None on Windows."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * (1 if sys.platform == "darwin" else 1024) / 1e6, 1)


def table(report: dict[str, Any]) -> list[str]:
    """Format the report as a table."""
    (width, height), (net_width, net_height) = report["frame_wh"], report["network_wh"]
    total = sum(report["stages_ms"].values())
    lines = [
        f"{report['model']} on {report['target']} ({report['device']}), OpenCV {report['opencv']}, "
        f"{report['engine']}, {report['threads']} threads",
        f"{width}x{height} frame, {net_width}x{net_height} for the network, {report['objects']} objects",
        "",
        f"{'stage':12}{'ms':>10}{'share':>8}",
        *(f"{name:12}{ms:10.1f}{ms / total:8.0%}" for name, ms in report["stages_ms"].items()),
        f"{'all':12}{total:10.1f}",
        "",
        f"{'workers':12}{'frames/s':>10}",
        *(f"{count:12}{rate:10.2f}" for count, rate in report["frames_per_s"].items()),
        "",
        f"load {report['load_s']:.2f} s",
    ]
    memory = report["peak_memory_mb"]
    return lines if memory is None else [*lines, f"peak memory {memory:.0f} MB"]


def _timed(work: Any) -> tuple[float, Any]:
    began = time.perf_counter()
    result = work()
    return 1000 * (time.perf_counter() - began), result


def _detect_often(model: MaskRCNN, frame: NDArray[np.uint8], runs: int) -> None:
    for _ in range(runs):
        model.detect(frame)


def _counts(text: str) -> list[int]:
    return [options.positive(part) for part in text.split(",")]
