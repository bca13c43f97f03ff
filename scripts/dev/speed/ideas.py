"""Ways to be faster that were thought of, each beside what is done now, in turns, in one process.

    PYTHONPATH=scripts/dev python -m speed.ideas GRAPH.pb TEXT.pbtxt [--size 1066x800] [--rounds 7]

Prints, for each: milliseconds, the ratio to what it would replace, and whether the results are the same bits.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np

from cvmask.graph import split as split_module
from cvmask.graph.nodes import Graph
from cvmask.graph.split import _input, final_detections, split
from cvmask.graph.text import print_text, read_text
from cvmask.runtime.net import Net

from .program import picture

Run = Callable[[], "list[np.ndarray]"]


def second_stage(detector: Graph) -> tuple[Graph, Graph, list[str]]:
    """The detector cut at its own CropAndResize: both halves, and what the first hands to the second."""
    final = final_detections(detector).name
    crop = next(node for node in detector if node.op == "CropAndResize")
    back = {name for name in detector.ancestors([final]) if crop.name in detector.ancestors([name])}
    front = {node.name for node in detector} - back
    handed = sorted({name for n in back for name in detector[n].sources() if name in front})
    handed = [name for name in handed if detector[name].op != "Const"]
    rank = {name: 3 if detector[name].op == "Reshape" else 4 for name in handed}
    inputs = [_input(name, (-1,) * rank[name]) for name in handed]
    consts = [node for node in detector if node.op == "Const" and node.name in front]
    rest = [node for node in detector if node.name in back]
    needed = {name for node in rest for name in node.sources()}
    return (
        Graph([node for node in detector if node.name in front], "front"),
        Graph([*inputs, *(node for node in consts if node.name in needed), *rest], "back"),
        handed,
    )


def profile(net: Any) -> dict[str, float]:
    """Milliseconds of each layer in the last run, by OpenCV's own clock."""
    ticks = np.ravel(net.getPerfProfile()[1])
    return {name: 1000 * float(tick) / cv2.getTickFrequency() for name, tick in zip(net.getLayerNames(), ticks)}


def race(runs: dict[str, Run], rounds: int) -> tuple[dict[str, list[float]], dict[str, list[np.ndarray]]]:
    """Every run in every round, in turns; the first round does not count."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    results: dict[str, list[np.ndarray]] = {}
    for number in range(rounds + 1):
        for name, run in runs.items():
            began = time.perf_counter()
            results[name] = run()
            if number:
                spent[name].append(1000 * (time.perf_counter() - began))
    return spent, results


def report(title: str, runs: dict[str, Run], rounds: int) -> None:
    """One line for each run; the first is what is done now."""
    spent, results = race(runs, rounds)
    first = next(iter(runs))
    middle = statistics.median(spent[first])
    for name, times in spent.items():
        same = all(np.array_equal(a, b) for a, b in zip(results[first], results[name]))
        gap = max(float(np.abs(a - b).max()) for a, b in zip(results[first], results[name]))
        ms = statistics.median(times)
        bits = "same bits" if same else f"differs by {gap:.1e}"
        print(f"| {title} | {name} | {ms:.1f} | {ms / middle:.3f} | {bits} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--size", default="1066x800")
    parser.add_argument("--boxes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    size_wh = [int(n) for n in args.size.split("x")]
    buffer = np.fromfile(args.graph, np.uint8)
    parts = split(split_module.set_score_floor(read_text(args.text), 0.0))
    image = np.ascontiguousarray(picture(size_wh)[:, :, ::-1])
    blob = cv2.dnn.blobFromImage(image, swapRB=True, crop=False)

    def net(graph: Graph, outputs: list[str], winograd: bool = True) -> Net:
        made = Net(buffer, print_text(graph), outputs, "idea")
        made.cv.enableWinograd(winograd)
        return made

    detector_outputs = [parts.detections, parts.features]
    detector, plain = (net(parts.detector, detector_outputs, on) for on in (True, False))
    front_graph, back_graph, handed = second_stage(parts.detector)
    front = net(front_graph, handed)
    backs = {on: net(back_graph, [parts.detections], on) for on in (True, False)}
    print("handed over:", handed)
    print("| idea | run | ms | ratio | result |\n|---|---|---|---|---|")

    def cut(winograd: bool) -> list[np.ndarray]:
        between = dict(zip(handed, front.forward({parts.image: blob})))
        return backs[winograd].forward(between)

    report(
        "a third cut",
        {
            "one detector": lambda: detector.forward({parts.image: blob})[:1],
            "no Winograd anywhere": lambda: plain.forward({parts.image: blob})[:1],
            "two nets": lambda: cut(True),
            "two nets, no Winograd in the second": lambda: cut(False),
        },
        args.rounds,
    )
    between = dict(zip(handed, front.forward({parts.image: blob})))

    def single(run: Run) -> list[np.ndarray]:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            return run()
        finally:
            cv2.setNumThreads(threads)

    report(
        "the second stage alone",
        {
            "as it is": lambda: backs[True].forward(between),
            "no Winograd": lambda: backs[False].forward(between),
            "one thread": lambda: single(lambda: backs[True].forward(between)),
        },
        args.rounds,
    )
    rows, features = detector.forward({parts.image: blob})
    kept = np.ascontiguousarray(rows[:, :, : args.boxes])
    heads = {on: net(parts.mask_head, [parts.masks], on) for on in (True, False)}
    inputs = {parts.features: features, parts.detections: kept}
    report(
        f"the mask head, {args.boxes} boxes",
        {
            "as it is": lambda: heads[True].forward(inputs),
            "no Winograd": lambda: heads[False].forward(inputs),
            "one box at a time": lambda: [
                np.concatenate([
                    heads[True].forward({**inputs, parts.detections: np.ascontiguousarray(kept[:, :, i : i + 1])})[0]
                    for i in range(args.boxes)
                ])
            ],
        },
        args.rounds,
    )  # fmt: skip
    heads[True].forward(inputs)
    for title, one in (("mask head", heads[True]), ("detector", detector)):
        shares = profile(one.cv)
        whole = sum(shares.values())
        slowest = sorted(shares.items(), key=lambda item: -item[1])[:8]
        crops = sum(ms for name, ms in shares.items() if "CropAndResize" in name)
        print(f"{title}: {whole:.0f} ms in layers; the crop {crops:.1f} ms;",
              "; ".join(f"{name} {ms:.1f}" for name, ms in slowest))  # fmt: skip
    copies(blob, features, args.rounds)
    in_flight(buffer, parts, blob, kept, args.rounds)


def copies(blob: np.ndarray, features: np.ndarray, rounds: int) -> None:
    """What the copies of the blob, into the net, and of the features, out and in, cost at most."""
    runs: dict[str, Run] = {
        "the blob": lambda: [blob.copy()],
        "the features": lambda: [features.copy(), features.copy()],
    }
    for name, times in race(runs, rounds)[0].items():
        print(f"| copies | {name} | {statistics.median(times):.1f} | | |", flush=True)


def in_flight(buffer: np.ndarray, parts: Any, blob: np.ndarray, kept: np.ndarray, rounds: int) -> None:
    """Two frames one after the other on all threads, or at the same time."""

    def pair() -> Callable[[], list[np.ndarray]]:
        detector = Net(buffer, parts.detector_text, [parts.detections, parts.features], "a")
        head = Net(buffer, parts.mask_head_text, [parts.masks], "a")

        def run() -> list[np.ndarray]:
            _, features = detector.forward({parts.image: blob})
            return head.forward({parts.features: features, parts.detections: kept})

        return run

    first, second = pair(), pair()

    def together() -> list[np.ndarray]:
        other: list[list[np.ndarray]] = []
        thread = threading.Thread(target=lambda: other.append(second()))
        thread.start()
        result = first()
        thread.join()
        return [*result, *other[0]]

    report("two frames in flight", {"in turns": lambda: [*first(), *second()], "together": together}, rounds)


if __name__ == "__main__":
    main()
