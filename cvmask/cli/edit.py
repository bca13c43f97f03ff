"""cvmask edit: pictures and videos in; out with another background, or with objects nobody recognises."""

from __future__ import annotations

import argparse
import os
import re
from functools import partial
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import run_sources
from cvmask.cli.options import UsageError
from cvmask.cli.run_sources import Task
from cvmask.drawing.effects import EFFECTS, replace_background
from cvmask.results.detections import Detections
from cvmask.streams.sources import read_image

REPLACE, REMOVE, PIXELATE = "replace-background", "remove-background", "pixelate-objects"
NAMES = (*EFFECTS, REPLACE)
GREEN = (0, 255, 0)
_COLOR = re.compile("#[0-9a-fA-F]{6}")

EPILOG = """\
examples:
  cvmask edit portrait.jpg --effect blur-background --classes person
  cvmask edit photos/ --effect replace-background beach.jpg -o out
  cvmask edit photos/ --effect replace-background '#00ff00' -o out
  cvmask edit clip.mp4 --effect spotlight --classes dog -o out.mp4
  cvmask edit street.jpg --effect pixelate-objects --classes person,car -o street_shared.jpg
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "edit",
        help="change the background or the objects of pictures and videos",
        description="Find objects in pictures, videos, cameras and streams and change them, or all but them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sources = run_sources.add_source_options(parser)
    parser.add_argument("--effect", nargs="+", required=True, action=EffectAction, sources=sources,
                        metavar=("EFFECT", "FILE"),
                        help=f"one of {', '.join(EFFECTS)}, or {REPLACE} with a picture or a colour "
                             "(#rrggbb) after it")  # fmt: skip
    parser.add_argument("--feather", type=_width, metavar="PX",
                        help="width of the soft edge in pixels, 0 for a hard one (default: by size)")  # fmt: skip
    run_sources.add_model_and_stream_options(parser, track=False)
    # What the loop asks for and only `predict` offers.
    parser.set_defaults(save_json=False, track=False)


class EffectAction(argparse.Action):
    """Take an effect, the background that only one of them needs, and leave what follows to SOURCE."""

    def __init__(self, *args: Any, sources: argparse.Action, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sources = sources

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        name, *rest = values
        if name not in NAMES:
            parser.error(f"argument --effect: there is no {name!r}: choose from {', '.join(NAMES)}")
        if name == REPLACE and not rest:
            parser.error(f"argument --effect: {REPLACE} needs a picture or a colour (#rrggbb) after it")
        namespace.effect = name
        namespace.background = rest.pop(0) if name == REPLACE else None
        if rest:
            # SOURCE has come, as in `edit --effect spotlight a.jpg`, though argparse has not seen it.
            self._sources.required = False
            namespace.sources = [*(namespace.sources or []), *rest]


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    _check_wishes(args)
    task = Edit(args)
    return run_sources.run(args, lambda model, inputs: task, alpha=args.effect == REMOVE)


def _check_wishes(args: argparse.Namespace) -> None:
    """Raise UsageError for what looks like an effect and would be none."""
    for source in args.sources:
        if _COLOR.fullmatch(source) and not os.path.exists(source):
            raise UsageError(f"{source}: no such file; a colour goes with --effect {REPLACE} '{source}'")
    if args.output is not None and args.output.is_file and args.output.path.suffix.lower() == ".jsonl":
        raise UsageError(f"{args.output.path} holds no picture that an effect could change: name a picture or a video")


class Edit(Task):
    """Apply one effect to each frame."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._effect = self._frame_effect = choose_effect(args)
        if args.effect == REMOVE:
            self._frame_effect = partial(replace_background, background=GREEN, **given_options(args))
            self.stream_note = "a video has no transparency, so its background becomes green"

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Apply the effect."""
        return self._effect(image, detections)

    def paint_frame(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Apply the effect, with green for what is transparent."""
        return self._frame_effect(image, detections)


def choose_effect(args: argparse.Namespace) -> Callable[..., NDArray[np.uint8]]:
    """Find the function, with the options that were given; SourceError for a background that is no picture."""
    if args.effect == REPLACE:
        return partial(replace_background, background=_background(args.background), **given_options(args))
    return partial(EFFECTS[args.effect], **given_options(args))


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Give the keyword arguments of an effect; UsageError for one that it does not have."""
    given: dict[str, Any] = {"mask_threshold": args.mask_threshold}
    if args.feather is not None:
        if args.effect == PIXELATE:
            raise UsageError(f"{PIXELATE} has no soft edge: leave out --feather")
        given["feather_px"] = args.feather
    return given


def _background(text: str) -> NDArray[np.uint8] | tuple[int, int, int]:
    if _COLOR.fullmatch(text):
        red, green, blue = bytes.fromhex(text[1:])
        return blue, green, red
    if text.startswith("#") and not os.path.exists(text):
        raise UsageError(f"{text}: a colour is # and six hexadecimal digits, as #00ff00")
    return read_image(text)[0]


def _width(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"needed a number of pixels from 0 to 1000, got {text!r}")
    return value
