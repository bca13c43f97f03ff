"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from cvmask.cli.offer import offer_download
from cvmask.drawing.palette import read_colors
from cvmask.models import load
from cvmask.models.table import NAMES as KNOWN_MODELS
from cvmask.runtime import targets
from cvmask.runtime.model import MaskRCNN


class UsageError(Exception):
    """Wrong usage that the parser alone cannot see: one line, exit code 2."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose a model and what it looks for."""
    group = parser.add_argument_group("model")
    group.add_argument("-m", "--model", default="coco", metavar="MODEL",
                       help="a name from `cvmask models list`, a folder or a .pb (default: coco)")  # fmt: skip
    group.add_argument(
        "--graph", metavar="PBTXT", help="a text graph of your own instead of the one found or made"
    )
    group.add_argument("--labels", metavar="FILE", help="class names, one a line, or a label map")
    group.add_argument("--score-threshold", "--conf", type=share, default=0.5, metavar="T",
                       help="keep detections with a higher score, 0 to 1 (default: 0.5)")  # fmt: skip
    group.add_argument("--mask-threshold", type=share, default=0.3, metavar="T",
                       help="the edge of a mask, 0 to 1 (default: 0.3)")  # fmt: skip
    group.add_argument(
        "--classes", metavar="A,B", help="keep these classes only: names or ids, with commas between"
    )
    group.add_argument("--max-detections", type=positive, default=100, metavar="N",
                       help="keep the N best of a picture (default: 100)")  # fmt: skip
    group.add_argument("--proposals", type=positive, metavar="N",
                       help="first-stage boxes; fewer are faster and approximate: results change")  # fmt: skip
    group.add_argument("--size", default="auto", metavar="SIZE",
                       help="auto (as trained), native, 640 (short side) or 800x600 (default: auto)")  # fmt: skip
    group.add_argument("--target", default="cpu", choices=targets.NAMES, help="where it runs (default: cpu)")
    group.add_argument("--strict-target", action="store_true", help="end rather than run somewhere else")


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how detections are drawn."""
    group = parser.add_argument_group("drawing")
    group.add_argument("--colors", metavar="FILE", help="colours, one a line: blue green red, as in colors.txt")
    group.add_argument("--color-by", choices=("class", "instance"), default="class",
                       help="one colour a class or one an object (default: class)")  # fmt: skip
    group.add_argument(
        "--opacity", type=share, default=0.45, metavar="X", help="of masks, 0 to 1 (default: 0.45)"
    )
    group.add_argument("--no-boxes", action="store_true", help="leave out the boxes")
    group.add_argument("--no-masks", action="store_true", help="leave out the masks and their outlines")
    group.add_argument("--no-labels", action="store_true", help="leave out the names and scores")


def check_texts(args: argparse.Namespace) -> None:
    """Read the small files that the flags name; CvmaskError says what is wrong with one."""
    if getattr(args, "colors", None) is not None:
        read_colors(args.colors)
    if args.labels is not None:
        load.read_names(args.labels)


def class_list(args: argparse.Namespace) -> list[str] | None:
    """The classes that the flag names; None where it is not given."""
    if args.classes is None:
        return None
    classes = [name for name in args.classes.split(",") if name.strip()]
    if not classes:
        raise UsageError("--classes needs names or ids with commas between, got none")
    return classes


def load_model(args: argparse.Namespace) -> MaskRCNN:
    """Load the model that the flags describe; offers to download a known one that is not at hand."""
    if args.model in KNOWN_MODELS:
        offer_download(args.model)
    classes = class_list(args)
    try:
        model = load.load(
            args.model,
            graph=args.graph,
            labels=args.labels,
            target=args.target,
            strict_target=args.strict_target,
            score_threshold=args.score_threshold,
            mask_threshold=args.mask_threshold,
            classes=classes,
            max_detections=args.max_detections,
            proposals=args.proposals,
            size=args.size,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    for line in (*model.notes, model.target.warning):
        if line:
            print(f"cvmask: {line}", file=sys.stderr)
    return model


def drawing(args: argparse.Namespace, model: MaskRCNN) -> dict[str, Any]:
    """Keyword arguments for `cvmask.draw`."""
    return {"labels": model.labels, **drawing_style(args, model.settings.mask_threshold)}


def drawing_style(args: argparse.Namespace, mask_threshold: float) -> dict[str, Any]:
    """Keyword arguments for `cvmask.draw`, but for the labels."""
    return {
        "colors": None if args.colors is None else read_colors(args.colors),
        "color_by": args.color_by,
        "boxes": not args.no_boxes,
        "masks": not args.no_masks,
        "contours": not args.no_masks,
        "captions": not args.no_labels,
        "opacity": args.opacity,
        "mask_threshold": mask_threshold,
    }


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"needed a number from 0 to 1, got {text!r}")
    return value


def positive(text: str) -> int:
    """Read a whole number from 1 up."""
    return whole(text, 1)


def whole(text: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """Read a whole number from `least` to `most`."""
    number = int(text[:20]) if text.isdecimal() else -1
    if not least <= number <= most:
        limit = f" to {most}" if number > most else ""
        raise argparse.ArgumentTypeError(f"needed a whole number from {least} up{limit}, got {text[:40]!r}")
    return number
