"""Runs every program side by side, in turns, and writes the table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from . import costs

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared" / "graphs"
GRAPH, TEXT = "mask_rcnn_inception_v2_2018_07", "mask_rcnn_inception_v2_coco_2018_01_28.pbtxt"
SIZES = "320x320,640x480,800x800,1066x800,1365x768"
BOXES = "1,5,20,100"
OTHERS = ("tensorflow", "openvino", "onnxruntime")
# The networks of `cvmask models export`, run by these; on OpenCV 5 alone.
NETWORKS = ("networks:opencv", "networks:onnxruntime", "networks:openvino")


class Program:
    """One program in a process of its own, started once for each size."""

    def __init__(self, name: str, python: str, settings: dict[str, Any], log: Path) -> None:
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": str(settings["threads"]), "TF_CPP_MIN_LOG_LEVEL": "3"}
        module, _, engine = name.partition(":")
        command = [python, "-m", f"speed.run_{module}", json.dumps({**settings, "engine": engine})]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": log.open("ab")}
        self.process = subprocess.Popen(command, text=True, env=environment, cwd=ROOT, **pipes)
        if self._answer("") != "ready":
            raise RuntimeError(f"{name} does not start: see {log}")

    def run_ms(self, boxes: int) -> float:
        return float(self._answer(f"{boxes}\n"))

    def save(self, path: Path) -> None:
        self._answer(f"save {path}\n")

    def finish(self) -> float:
        """End it; its peak memory in MB."""
        self.process.stdin.close()
        peak = self.process.stdout.read().split()
        self.process.wait()
        return float(peak[-1]) if peak else 0.0

    def _answer(self, line: str) -> str:
        self.process.stdin.write(line)
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        if not answer:
            raise RuntimeError(f"{self.name} ended")
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--sizes", default=SIZES, help=f"(default: {SIZES})")
    parser.add_argument("--rounds", type=int, default=7, help="of which the median counts (default: 7)")
    parser.add_argument("--boxes", default=BOXES, help=f"kept by cvmask; with 5 others are compared (default: {BOXES})")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall",
                        help="cpu: seconds of CPU, for a machine that is busy; use one thread with it")  # fmt: skip
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--without", default="", help=f"of {','.join(('whole', *OTHERS, *NETWORKS))}")
    parser.add_argument("--graph", type=Path, help="a frozen graph (default: the one of ../shared, filled)")
    parser.add_argument("--text", type=Path, default=SHARED / TEXT)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "out" / "benchmark")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    args.boxes = [int(n) for n in args.boxes.split(",")]
    graph = args.graph or filled(args.output)
    report = {"machine": machine(), "threads": args.threads, "rounds": args.rounds, "clock": args.clock, "sizes": {}}
    for size in args.sizes.split(","):
        report["sizes"][size] = compare(size, graph, args)
        save(report, args.output)
    report["costs"] = costs.measure(graph, args.text, args.rounds, args.threads)
    save(report, args.output)
    print((args.output / "table.md").read_text())


def filled(folder: Path) -> Path:
    """The full-size graph with its seeded random weights."""
    path = folder / f"{GRAPH}.pb"
    if not path.exists():
        script, skeleton = SHARED / "weights.py", SHARED / f"{GRAPH}.skeleton.pb"
        subprocess.run([sys.executable, script, "fill", skeleton, path], check=True)
    return path


def machine() -> dict[str, str]:
    """What all this ran on."""
    model = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return {"cpu": model, "cpus": str(os.cpu_count()), "opencv": cv2.__version__, "load_at_start": load}


def compare(size: str, graph: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All programs at one size, in turns; a program that cannot run says why in its log."""
    without = args.without.split(",")
    names = ["cvmask", *(name for name in ("whole", *OTHERS, *NETWORKS) if name not in without)]
    log = args.output / "programs.log"
    settings = {
        "size_wh": [int(n) for n in size.split("x")], "threads": args.threads, "clock": args.clock,
        "graph": str(graph),
        "text": str(args.text), **prepared(size, graph, names, args.output, log),
    }  # fmt: skip
    programs = {}
    for name in names:
        try:
            programs[name] = Program(name, python_of(name), settings, log)
        except (RuntimeError, OSError) as error:
            print(f"{size}: {error}", flush=True)
    spent = rounds(programs, args.rounds, args.boxes)
    result: dict[str, Any] = {"ms": {key: round(statistics.median(times), 1) for key, times in spent.items()}}
    result["quartiles_ms"] = {key: [round(q, 1) for q in statistics.quantiles(times)] for key, times in spent.items()}
    result["bits_equal"] = {
        boxes: bits_equal(programs, boxes, args.output) for boxes in args.boxes if "whole" in programs
    }
    result["peak_memory_mb"] = {name: program.finish() for name, program in programs.items()}
    print(size, result, flush=True)
    return result


def prepared(size: str, graph: Path, names: list[str], folder: Path, log: Path) -> dict[str, str]:
    """The graph without a resizer, for those that would resize; made where TensorFlow is."""
    if not set(names) & set(OTHERS):
        return {}
    frozen, onnx = folder / f"{graph.stem}_{size}.pb", folder / f"{graph.stem}_{size}.onnx"
    paths = {"frozen": str(frozen), "onnx": str(onnx)}
    if frozen.exists() and (onnx.exists() or "onnxruntime" not in names):
        return paths
    arguments = [graph, size, frozen, *([onnx] if "onnxruntime" in names else [])]
    command = [python_of("tensorflow"), "-m", "speed.resizer_free", *map(str, arguments)]
    with log.open("ab") as stream:
        subprocess.run(command, stdout=stream, stderr=stream, cwd=ROOT)
    return paths


def python_of(name: str) -> str:
    own = os.environ.get(f"PYTHON_{name.upper()}")
    path = ROOT / f".venv-benchmark-{name}" / "bin" / "python"
    return own or (str(path) if name in OTHERS else sys.executable)


def rounds(programs: dict[str, Program], count: int, counts: list[int]) -> dict[str, list[float]]:
    """Times of every program in every round; the first does not count."""
    spent: dict[str, list[float]] = {}
    for number in range(-1, count):
        for name, program in list(programs.items()):
            takes_boxes = name == "cvmask" or name in NETWORKS
            for boxes in counts if takes_boxes else (100,):
                key = f"{name}, {boxes} boxes" if takes_boxes else name
                try:
                    # For cvmask every run has another count of boxes: the mask head lays its memory out anew.
                    time_ms = program.run_ms(boxes)
                except (RuntimeError, BrokenPipeError) as error:
                    print(error, flush=True)
                    programs.pop(name, None)
                    break
                if number >= 0:
                    spent.setdefault(key, []).append(time_ms)
    return spent


def bits_equal(programs: dict[str, Program], boxes: int, folder: Path) -> bool:
    """Whether cvmask gives what the whole graph gives, bit for bit."""
    results = []
    for name in ("cvmask", "whole"):
        path = folder / f"{name}.npz"
        programs[name].run_ms(boxes)
        programs[name].save(path)
        results.append(dict(np.load(path)))
    ours, whole = results
    return ours.keys() == whole.keys() and all(np.array_equal(ours[key], whole[key]) for key in ours)


def save(report: dict[str, Any], folder: Path) -> None:
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "table.md").write_text("\n".join(table(report)) + "\n")


def table(report: dict[str, Any]) -> list[str]:
    """Seconds a picture, and how many times longer others take than cvmask with 5 boxes."""
    keys = list(dict.fromkeys(key for size in report["sizes"].values() for key in size["ms"]))
    titles = [f"{key} (times longer)" if not key.startswith("cvmask") else key for key in keys]
    lines = ["| input | " + " | ".join(titles) + " |", "|---" * (len(keys) + 1) + "|"]
    for size, result in report["sizes"].items():
        ours = result["ms"].get("cvmask, 5 boxes") or next(iter(result["ms"].values()))
        cells = []
        for key in keys:
            ms = result["ms"].get(key)
            text = "-" if ms is None else f"{ms / 1000:.2f}"
            cells.append(text if ms is None or "cvmask" in key else f"{text} ({ms / ours:.2f})")
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return lines


if __name__ == "__main__":
    main()
