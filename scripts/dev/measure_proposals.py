"""What does --proposals N cost and gain? Prints the table of docs/models.md, or with --write puts it there.

Accuracy and time are those of the bundled model on held-out scenes. Where graphs with weights are given,
the time of one picture of 1066x800 is measured on each of them too.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import cv2
from shapes.evaluate import result_rows, score, to_coco, truth_rows

import cvmask
from cvmask import scenes

PAGE = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- proposals: scripts/run measure_proposals -->", "<!-- end -->"
WIDE = (1066, 800)


def accuracy(count: int, how_many: int) -> tuple[float, float, float]:
    """Box AP50, mask AP and milliseconds a picture of the bundled model with `count` proposals."""
    model = cvmask.load("shapes", score_threshold=0.02, proposals=count)
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    spent_s = []
    for number in range(how_many):
        scene = scenes.make_scene(number)
        began = time.perf_counter()
        found = model.detect(scene.image)
        spent_s.append(time.perf_counter() - began)
        truth += truth_rows(number, scene)
        results += result_rows(number, found, None)
    reference = to_coco(truth, how_many)
    boxes, masks = (score(reference, results, kind) for kind in ("bbox", "segm"))
    return boxes["AP50"], masks["AP"], 1000 * statistics.median(spent_s)


def full_size_s(path: Path, count: int | None, rounds: int) -> float:
    """Seconds for a picture on a graph of full size."""
    model = cvmask.load(path, proposals=count, size="x".join(map(str, WIDE)), score_threshold=0.5)
    picture = scenes.make_scene(3, WIDE, objects=8).image
    spent_s = []
    for _ in range(rounds):
        began = time.perf_counter()
        model.detect(picture)
        spent_s.append(time.perf_counter() - began)
    return statistics.median(spent_s)


def table(args: argparse.Namespace) -> list[str]:
    head = ["proposals", "box AP50", "mask AP", "time, `shapes`", *(f"time, `{path.stem}`" for path in args.graphs)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for count in args.proposals:
        box, mask, ms = accuracy(count, args.scenes)
        cells = [f"{count}", f"{box:.3f}", f"{mask:.3f}", "to be measured" if args.no_time else f"{ms:.0f} ms"]
        for path in args.graphs:
            cells.append("to be measured" if args.no_time else f"{full_size_s(path, count, args.rounds):.2f} s")
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="*", type=Path, metavar="PB", help="of full size, with weights")
    parser.add_argument("--proposals", type=int, nargs="+", default=[4, 8, 16, 32, 50, 100], metavar="N")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="pictures of full size for each time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-time", action="store_true", help="accuracy only, on a busy machine")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    lines = table(args)
    if args.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        page = f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}"
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
