"""cvmask evaluate: average precision of one or two models on a COCO data set."""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options
from cvmask.cli.options import UsageError
from cvmask.cli.progress import FrameProgress, say
from cvmask.drawing.draw import draw
from cvmask.drawing.palette import distinct_colors
from cvmask.errors import SourceError
from cvmask.formats.evaluation import KINDS, RECALLS, Scores, Truth
from cvmask.models.load import load
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks.image_sink import write_image
from cvmask.streams.sources.image_source import read_image
from cvmask.system.files import write_whole

EPILOG = """\
examples:
  cvmask evaluate coco --truth instances_val2017.json --images val2017/
  cvmask evaluate people coco --truth instances.json --images photos/ -o compared
"""
WORST = 12
_CELL_WH = (320, 240)
_CURVE_PX, _MARGIN_PX = 480, 50
_DARK, _LIGHT = 40, (230, 230, 230)


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "evaluate",
        EPILOG,
        help="average precision of one or two models on a COCO data set",
        description="Compare what one or two models find with a COCO data set, as pycocotools does.",
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a name, a folder or a .pb; two are compared")
    parser.add_argument("--truth", required=True, metavar="JSON", help="the data set, such as instances_val2017.json")
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="the folder of its pictures")
    parser.add_argument("-o", "--output", type=Path, default=EvaluateOptions.output, metavar="DIR",
                        help="for evaluation.json, curves, worst pictures (default: cvmask_evaluation)")  # fmt: skip
    parser.add_argument("--score-threshold", "--conf", type=options.share, metavar="T",
                        default=EvaluateOptions.score_threshold,
                        help="ignore detections with a lower score (default: 0)")  # fmt: skip
    parser.add_argument("--size", default=EvaluateOptions.size, metavar="SIZE", help="as for predict (default: auto)")


@dataclass(frozen=True)
class EvaluateOptions:
    """What is evaluated, and on what.

    Raises
    ------
    UsageError
        If there are more than two models.
    """

    models: tuple[str, ...]
    truth: str
    images: Path
    output: Path = Path("cvmask_evaluation")
    score_threshold: float = 0.0
    size: str = "auto"

    def __post_init__(self) -> None:
        if len(self.models) > 2:
            raise UsageError(f"evaluate compares at most two models, got {len(self.models)}")


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code: 3 if some pictures could not be read, 1 if none."""
    return evaluate(options.take(EvaluateOptions, args))


def evaluate(wanted: EvaluateOptions) -> int:
    """Run and score each model, and write the report."""
    truth = Truth(wanted.truth)
    reports: dict[str, dict[str, Scores]] = {}
    failures: list[str] = []
    for number, name in enumerate(wanted.models):
        try:
            model = load(name, score_threshold=wanted.score_threshold, size=wanted.size)
        except ValueError as error:
            raise UsageError(str(error)) from None
        classes = truth.common(model.labels)
        if not classes:
            raise SourceError(f"{wanted.truth}: has no class of {name}: {', '.join(model.labels[:5])}, ...")
        if left_out := sorted(set(truth.categories) - set(classes)):
            say(f"cvmask: {name} does not know {', '.join(left_out[:10])}: left out", error=True)
        found, failures = _find(model, truth, wanted.images)
        if not found:
            return 1
        each = (truth.results(objects, image_id, model.labels) for image_id, objects in found.items())
        results = list(itertools.chain.from_iterable(each))
        scores = {kind: truth.score(results, kind, list(found), classes) for kind in KINDS}
        title = name if name not in reports else f"{name} ({number + 1})"
        reports[title] = scores
        stem = f"{number + 1}_{Path(name).name}"
        write_image(wanted.output / f"curves_{stem}.png", draw_curves(scores["mask"]))
        worst = _worst(model, truth, wanted.images, found, scores["mask"])
        write_image(wanted.output / f"worst_{stem}.jpg", worst)
    say(*table(reports))
    write_whole(wanted.output / "evaluation.json", (json.dumps(as_json(reports), indent=1) + "\n").encode())
    say(f"curves and the worst pictures: in {wanted.output}")
    return 3 if failures else 0


def _find(model: MaskRCNN, truth: Truth, folder: Path) -> tuple[dict[int, Detections], list[str]]:
    """Run a model over the pictures; pictures that cannot be read are reported and returned."""
    found: dict[int, Detections] = {}
    failures: list[str] = []
    with FrameProgress(len(truth.images)) as progress:
        for image_id, image in truth.images.items():
            path = folder / image["file_name"]
            try:
                picture, _ = read_image(path)
                height, width = picture.shape[:2]
                if (image.get("width", width), image.get("height", height)) != (width, height):
                    theirs = f"{image['width']}x{image['height']}"
                    raise SourceError(f"{path}: is {width}x{height}, but {theirs} in the data set")
            except SourceError as error:
                failures.append(str(error))
                progress.say(f"cvmask: {error}", error=True)
                continue
            found[image_id] = model.detect(picture)
            progress.advance(f"{path}: {len(found[image_id])} objects")
    return found, failures


def table(reports: dict[str, dict[str, Scores]]) -> list[str]:
    """Format the scores in percent, with a column for boxes and one for masks of each model."""
    columns = [(f"{name} {kind}", scores[kind]) for name, scores in reports.items() for kind in KINDS]
    widths = [max(8, len(title)) for title, _ in columns]
    names = list(dict.fromkeys(name for _, scores in columns for name in scores.by_class))
    rows = [("", [title for title, _ in columns])]
    for name in next(iter(columns))[1].summary:
        rows.append((name, [_percent(scores.summary[name]) for _, scores in columns]))
    rows += [(f"AP of {name}", [_percent(scores.by_class.get(name)) for _, scores in columns]) for name in names]
    first = max(len(row) for row, _ in rows)
    return [
        f"{row:{first}}" + "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths)) for row, cells in rows
    ]


def _percent(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def as_json(reports: dict[str, dict[str, Scores]]) -> dict[str, Any]:
    """Return all scores and curves; null if there is no such object."""
    return {
        name: {
            kind: {
                **{key: None if np.isnan(value) else value for key, value in one.summary.items()},
                "by_class": one.by_class,
                "recall": RECALLS.tolist(),
                "precision_at_iou_50": {label: curve.tolist() for label, curve in one.curves.items()},
            }
            for kind, one in scores.items()
        }
        for name, scores in reports.items()
    }


def draw_curves(scores: Scores) -> NDArray[np.uint8]:
    """Draw precision over recall at an IoU of 0.5, a line for each class, and their names."""
    side, margin = _CURVE_PX, _MARGIN_PX
    height = max(side + 2 * margin, 20 * len(scores.curves) + 2 * margin)
    canvas = np.full((height, side + 2 * margin + 260, 3), _DARK, np.uint8)
    cv2.rectangle(canvas, (margin, margin), (margin + side, margin + side), _LIGHT)
    font = cv2.FONT_HERSHEY_SIMPLEX
    for text, place in (("recall", (margin + side // 2, margin + side + 35)), ("precision", (margin, margin - 12))):
        cv2.putText(canvas, text, place, font, 0.5, _LIGHT, 1, cv2.LINE_AA)
    colors = distinct_colors(max(1, len(scores.curves))).tolist()
    for row, ((name, curve), color) in enumerate(zip(scores.curves.items(), colors)):
        points = np.stack([margin + RECALLS * side, margin + (1 - curve) * side], axis=1).round().astype(np.int32)
        cv2.polylines(canvas, [points], False, color, 2, cv2.LINE_AA)
        text = f"{name.encode('ascii', 'replace').decode()} {_percent(scores.by_class[name])}"
        cv2.putText(canvas, text, (2 * margin + side, margin + 20 * row), font, 0.5, color, 1, cv2.LINE_AA)
    return canvas


def _worst(
    model: MaskRCNN, truth: Truth, folder: Path, found: dict[int, Detections], scores: Scores
) -> NDArray[np.uint8]:
    """Arrange the pictures with the most mistakes, each with its detections and the counts of mistakes."""
    order = sorted(scores.wrong, key=lambda image_id: (-sum(scores.wrong[image_id]), image_id))[:WORST]
    width, height = _CELL_WH
    columns = 4
    rows = max(1, -(-len(order) // columns))
    sheet = np.full((rows * (height + 24), columns * width, 3), 255, np.uint8)
    for place, image_id in enumerate(order):
        image = truth.images[image_id]
        sure = found[image_id][found[image_id].confidence >= 0.5]
        picture = draw(read_image(folder / image["file_name"])[0], sure, labels=model.labels)
        scale = min(width / picture.shape[1], height / picture.shape[0])
        size = max(1, int(picture.shape[1] * scale)), max(1, int(picture.shape[0] * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        top, left = place // columns * (height + 24), place % columns * width
        sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
        missed, false = scores.wrong[image_id]
        text = f"{Path(image['file_name']).name[:20]}: {missed} missed, {false} false"
        plain = text.encode("ascii", "replace").decode()
        corner = left + 4, top + height + 16
        cv2.putText(sheet, plain, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return sheet
