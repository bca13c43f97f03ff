"""Flags for whatever has more than one frame: videos, cameras, streams, standard input."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from fractions import Fraction
from typing import Any

from cvmask.cli.options import UsageError, positive, whole
from cvmask.streams.sources.opening import ADDRESS, CAMERA, STDIN, STREAM

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
                        help="of a video: h264, which needs cvmask[av], or mp4v, which is larger and written "
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
