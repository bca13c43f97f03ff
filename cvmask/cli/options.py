"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from fractions import Fraction
from functools import partial
from typing import Any

from cvmask.cli.models import offer_download
from cvmask.cli.progress import say
from cvmask.drawing.captions import SMALLEST_TEXT_PX
from cvmask.drawing.draw import MOST_PX
from cvmask.drawing.palette import read_colors
from cvmask.models import load
from cvmask.models.labels import read_names
from cvmask.models.zoo import NAMES as KNOWN_MODELS
from cvmask.results.masks import MASK_PASTES
from cvmask.runtime import targets
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sources.opening import ADDRESS, CAMERA, STDIN, STREAM


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
    group.add_argument(
        "--keep-graph", action="store_true", help="run the text graph even if it contradicts the frozen graph"
    )
    group.add_argument("--labels", metavar="FILE", help="class names, one a line, or a label map")
    group.add_argument("--score-threshold", "--conf", type=share, default=0.5, metavar="T",
                       help="keep detections with a higher score, 0 to 1 (default: 0.5)")  # fmt: skip
    add_mask_threshold(group)
    group.add_argument("--mask-paste", default="tensorflow", choices=tuple(MASK_PASTES),
                       help="how masks become pixels: as TensorFlow does, cut at 0.5, or as OpenCV's tutorials do, "
                       "cut at 0.3 (default: tensorflow)")  # fmt: skip
    group.add_argument(
        "--classes", metavar="A,B", help="keep these classes only: names or ids, with commas between"
    )
    group.add_argument("--max-detections", type=positive, metavar="N",
                       help="keep the N best of a picture (default: as many as the model gives)")  # fmt: skip
    group.add_argument("--proposals", type=positive, metavar="N",
                       help="first-stage boxes; fewer are faster and approximate: results change")  # fmt: skip
    group.add_argument("--size", default="auto", metavar="SIZE",
                       help="auto (as trained), native, 640 (short side) or 800x600 (default: auto)")  # fmt: skip
    group.add_argument("--target", default="cpu", choices=targets.NAMES, help="where it runs (default: cpu)")
    group.add_argument("--strict-target", action="store_true", help="end rather than run somewhere else")


def add_mask_threshold(group: argparse._ActionsContainer) -> None:
    """Add --mask-threshold."""
    group.add_argument("--mask-threshold", type=share, metavar="T",
                       help="the edge of a mask, 0 to 1 (default: 0.5; 0.3 with --mask-paste tutorial)")  # fmt: skip


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how detections are drawn."""
    group = parser.add_argument_group("drawing")
    group.add_argument("--colors", metavar="FILE", help="colours, one a line: blue green red, as in colors.txt")
    group.add_argument("--color-by", choices=("class", "instance"), default="class",
                       help="one colour a class or one an object (default: class)")  # fmt: skip
    group.add_argument(
        "--opacity", type=share, default=0.45, metavar="X", help="of masks, 0 to 1 (default: 0.45)"
    )
    group.add_argument("--line-width", type=partial(whole, least=1, most=MOST_PX), metavar="PX",
                       help="of boxes and outlines, in pixels (default: by picture and object)")  # fmt: skip
    group.add_argument("--text-size", type=partial(whole, least=SMALLEST_TEXT_PX, most=MOST_PX), metavar="PX",
                       help="height of capitals, in pixels (default: by picture and object)")  # fmt: skip
    group.add_argument("--no-boxes", action="store_true", help="leave out the boxes")
    group.add_argument("--no-masks", action="store_true", help="leave out the masks and their outlines")
    group.add_argument("--no-labels", action="store_true", help="leave out the names and scores")


def check_texts(args: argparse.Namespace) -> None:
    """Read the small files that the flags name; CvmaskError says what is wrong with one."""
    if getattr(args, "colors", None) is not None:
        read_colors(args.colors)
    if args.labels is not None:
        read_names(args.labels)


def classes_text(args: argparse.Namespace) -> str | None:
    """The classes that the flag names, with commas between; None where it is not given."""
    if args.classes is not None and not args.classes.replace(",", "").strip():
        raise UsageError("--classes needs names or ids with commas between, got none")
    classes: str | None = args.classes
    return classes


def load_model(args: argparse.Namespace) -> MaskRCNN:
    """Load the model that the flags describe; offers to download a known one that is not at hand."""
    if args.model in KNOWN_MODELS:
        offer_download(args.model)
    classes = classes_text(args)
    try:
        model = load.load(
            args.model,
            graph=args.graph,
            keep_graph=args.keep_graph,
            labels=args.labels,
            target=args.target,
            strict_target=args.strict_target,
            score_threshold=args.score_threshold,
            mask_threshold=args.mask_threshold,
            mask_paste=args.mask_paste,
            classes=classes,
            max_detections=args.max_detections,
            proposals=args.proposals,
            size=args.size,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    for line in (*model.notes, model.target.warning):
        if line:
            say(f"cvmask: {line}", error=True)
    return model


def drawing(args: argparse.Namespace, model: MaskRCNN) -> dict[str, Any]:
    """Keyword arguments for `cvmask.draw`."""
    return {"labels": model.labels, **drawing_style(args, model.settings.mask_threshold)}


def drawing_style(args: argparse.Namespace, mask_threshold: float | None) -> dict[str, Any]:
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
        "line_px": args.line_width,
        "text_px": args.text_size,
    }


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        hint = f": for {value:g} percent give {value / 100:g}" if 1 < value <= 100 else ""
        raise argparse.ArgumentTypeError(f"needed a number from 0 to 1, got {text!r}{hint}")
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


_CLOCK = re.compile(r"(?:(\d+):([0-5]?\d)|(\d+)):([0-5]?\d(?:\.\d*)?)", re.ASCII)
_DAY_S = 86_400.0
PICTURE, VIDEO = "picture", "video"
_USERS = {VIDEO: "videos", CAMERA: "cameras and streams", STREAM: "streams", STDIN: "standard input"}
# The flags that not everything but pictures has a use for.
_USED_BY = {
    "start": VIDEO, "end": VIDEO, "stride": VIDEO, "every_frame": CAMERA, "retries": STREAM, "timeout": STREAM,
    "raw_size": STDIN, "rate": STDIN,
}  # fmt: skip
# What has a use for the flags of others too; what lies at an http address shows when it is opened.
_LIKE = {STREAM: (CAMERA,), ADDRESS: (VIDEO, CAMERA, STREAM)}


def add_stream_options(parser: argparse.ArgumentParser, track: bool = True, workers: int | None = None) -> None:
    """Add the flags, --track only where `track`; `workers` is how many where nobody says, None: chosen later."""
    group = parser.add_argument_group("videos, cameras and streams")
    group.add_argument("--start", type=seconds, default=0.0, metavar="TIME",
                       help="begin there: seconds, or 1:23:45 (videos)")  # fmt: skip
    group.add_argument("--end", type=seconds, metavar="TIME", help="end before: seconds, or 1:23:45 (videos)")
    group.add_argument("--stride", type=_stride, default=1, metavar="N", help="every N-th frame only (videos)")
    if track:
        group.add_argument("--track", action="store_true", help="give each object a number that it keeps")
    usual = workers or "for a long video as many as OpenCV has threads, up to 4, if memory lasts; else 1"
    group.add_argument("--workers", type=positive, default=workers, metavar="N",
                       help=f"so many models on consecutive frames at the same time (default: {usual})")  # fmt: skip
    group.add_argument("--every-frame", action="store_true",
                       help="of cameras and streams every frame, however late (default: the newest)")  # fmt: skip
    group.add_argument("--retries", type=positive, default=10, metavar="N",
                       help="give a stream up after N attempts in a row (default: 10)")  # fmt: skip
    group.add_argument("--timeout", type=_positive_float, default=1.5, metavar="S",
                       help="a stream that sends nothing for S seconds is lost (default: 1.5)")  # fmt: skip
    group.add_argument("--raw-size", type=_size, metavar="WxH",
                       help="raw BGR frames of this size on standard input (default: JPEGs)")  # fmt: skip
    group.add_argument("--rate", type=_rate, metavar="R",
                       help="frames a second on standard input: 25, 30000/1001")  # fmt: skip


def add_codec_option(parser: argparse.ArgumentParser) -> None:
    """Add --codec, for whatever writes videos."""
    parser.add_argument("--codec", choices=("h264", "mp4v"), metavar="CODEC",
                        help="of a video: h264, which needs PyAV, or mp4v, which is larger and written "
                        "about twice as fast (default: h264 where it can be)")  # fmt: skip


def check_part(args: argparse.Namespace) -> None:
    """Raise UsageError for a part of a video that is empty."""
    if args.end is not None and args.end <= args.start:
        raise UsageError(f"--end must come after --start, got {args.start:g} s to {args.end:g} s")


def unused_flags(args: argparse.Namespace, kinds: Collection[str]) -> list[str]:
    """Flags that were given and that sources of these kinds have no use for: "--rate (standard input)"."""
    return [
        f"--{flag.replace('_', '-')} ({_USERS.get(_USED_BY.get(flag, ''), 'videos, cameras and streams')})"
        for flag in _given(args)
        if not any(_uses(kind, flag) for kind in kinds)
    ]


def _uses(kind: str, flag: str) -> bool:
    user = _USED_BY.get(flag, kind)
    return kind != PICTURE and (user == kind or user in _LIKE.get(kind, ()))


def _given(args: argparse.Namespace) -> list[str]:
    """Which of the flags differ from what they are where nobody gives them."""
    bare = argparse.ArgumentParser()
    add_stream_options(bare)
    add_codec_option(bare)
    usual = vars(bare.parse_args([]))
    return [name for name, value in usual.items() if getattr(args, name, value) != value]


def source_options(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments for `open_source`."""
    return {
        "start_s": args.start,
        "end_s": args.end,
        "stride": args.stride,
        "every_frame": args.every_frame,
        "retries": args.retries,
        "timeout_s": args.timeout,
        "size_wh": args.raw_size,
        "frame_rate": args.rate,
    }


def seconds(text: str) -> float:
    """Read seconds: 90, 1:30 or 0:01:30.5."""
    found = _CLOCK.fullmatch(text)
    try:
        hours, minutes, only_minutes, rest = found.groups(default="0") if found else ("0", "0", "0", text)
        total = 3600.0 * int(hours) + 60 * (int(minutes) + int(only_minutes)) + float(rest)
    except (ValueError, OverflowError):
        total = -1.0
    if not 0 <= total < float("inf"):
        wanted = "seconds, M:SS or H:MM:SS"
        raise argparse.ArgumentTypeError(f"needed {wanted}, got {text!r}")
    return total


def _positive_float(text: str) -> float:
    value = seconds(text)
    if not 0 < value <= _DAY_S:
        raise argparse.ArgumentTypeError(f"needed more than 0 seconds, up to a day, got {text!r}")
    return value


def _stride(text: str) -> int:
    # The rate of what is left has to be a fraction of numbers of 32 bits.
    return whole(text, 1, 1_000_000)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"needed a size like 640x480, got {text!r}")
    return int(width), int(height)


def _rate(text: str) -> Fraction:
    frames, slash, per = text.partition("/")
    try:
        rate = Fraction(float(frames)) / Fraction(float(per) if slash else 1)
    except (ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 1000) <= rate <= 1000:
        wanted = "frames a second from 0.001 to 1000, like 25 or 30000/1001"
        raise argparse.ArgumentTypeError(f"needed {wanted}, got {text[:40]!r}")
    # As that of a file, it has to be a fraction of numbers of 32 bits.
    return rate.limit_denominator(100_000)
