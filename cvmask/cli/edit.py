"""cvmask edit: change the background of pictures and videos, or make objects unrecognisable."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options, run_sources
from cvmask.cli.options import DrawingOptions, ModelOptions, OutputOptions, RunOptions, StreamOptions, UsageError, take
from cvmask.drawing.effects import EFFECT_NAMES, HIDING, HIDING_MARGIN, REFINED, REPLACE, make_effect, needs_alpha
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.loop import Paint
from cvmask.streams.sources import read_image

_COLOR = re.compile("#[0-9a-fA-F]{6}")

EPILOG = """\
examples:
  cvmask edit portrait.jpg --effect blur-background --classes person
  cvmask edit photos/ --effect replace-background --background beach.jpg -o out
  cvmask edit photos/ --effect replace-background --background '#00ff00' -o out
  cvmask edit clip.mp4 --effect spotlight --classes dog -o out.mp4
  cvmask edit street.jpg --effect pixelate-objects --classes person,car -o street_shared.jpg
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "edit",
        EPILOG,
        help="change the background or the objects of pictures and videos",
        description="Find objects in pictures, videos, cameras and streams and change them or their background.",
    )
    options.add_sources(parser)
    options.add_output_options(parser)
    parser.add_argument("--effect", required=True, type=_effect, metavar="EFFECT",
                        help=f"one of {', '.join(EFFECT_NAMES)}")  # fmt: skip
    parser.add_argument("--background", metavar="FILE", help=f"for {REPLACE}: a picture, or a colour (#rrggbb)")
    parser.add_argument("--feather", type=_width, dest="feather_px", metavar="PX",
                        help="width of the soft edge in pixels, 0 for a hard one (default: by size)")  # fmt: skip
    parser.add_argument("--no-refine", dest="refine", action="store_false",
                        help=f"do not align the edges of masks ({', '.join(REFINED)} align them with "
                             "those of the picture)")  # fmt: skip
    options.add_model_options(parser)
    options.add_tile_options(parser)
    options.add_stream_options(parser)


@dataclass(frozen=True)
class EditOptions:
    """Arguments of `effects.make_effect`, with its defaults; the background is a file or a colour.

    Raises
    ------
    UsageError
        If the effect needs a background and has none, or has one and needs none.
    """

    effect: str
    background: str | None = None
    feather_px: float | None = None
    refine: bool = True

    def __post_init__(self) -> None:
        if self.effect == REPLACE and self.background is None:
            raise UsageError(f"--effect {REPLACE} needs a picture or a colour (#rrggbb): add --background")
        if self.effect != REPLACE and self.background is not None:
            raise UsageError(f"--background goes with --effect {REPLACE}, got --effect {self.effect}")

    def paint(self, mask_threshold: float | None, alpha: bool) -> Paint:
        """Make the function that applies the effect; UsageError or SourceError if an option does not fit."""
        background = None if self.background is None else _background(self.background)
        try:
            return make_effect(
                self.effect,
                background=background,
                feather_px=self.feather_px,
                mask_threshold=mask_threshold,
                alpha=alpha,
                refine=self.refine,
                margin=HIDING_MARGIN,
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    output = take(OutputOptions, args)
    how = take(EditOptions, args)
    # With carried masks, an object missed for a moment would be visible.
    bridge = how.effect in HIDING
    wanted = RunOptions(args.sources, take(ModelOptions, args), take(StreamOptions, args), output, bridge=bridge)
    return edit(wanted, how)


def edit(wanted: RunOptions, how: EditOptions) -> int:
    """Apply one effect to all sources; UsageError if the sources or the output cannot take one."""
    wanted = replace(wanted, drawing=DrawingOptions(captions=False))
    for source in wanted.sources:
        if _COLOR.fullmatch(source) and not os.path.exists(source):
            raise UsageError(f"{source}: no such file; a colour goes with --background '{source}'")
    target = wanted.output.destination
    if target.is_file and target.path.suffix.lower() == ".jsonl":
        raise UsageError(f"{target.path}: this format holds no picture: name a picture or a video")
    paints = {alpha: how.paint(wanted.model.mask_threshold, alpha) for alpha in (False, True)}
    return run_sources.run(wanted, partial(painter, paints), needs_alpha(how.effect))


def painter(paints: dict[bool, Paint], model: MaskRCNN, alpha: bool) -> Paint:
    """Choose the function by transparency; the model is not needed."""
    return paints[alpha]


def _background(text: str) -> NDArray[np.uint8] | tuple[int, int, int]:
    if _COLOR.fullmatch(text):
        red, green, blue = bytes.fromhex(text[1:])
        return blue, green, red
    if text.startswith("#") and not os.path.exists(text):
        raise UsageError(f"{text}: a colour is # and six hexadecimal digits, such as #00ff00")
    return read_image(text)[0]


def _effect(text: str) -> str:
    if text not in EFFECT_NAMES:
        raise argparse.ArgumentTypeError(f"there is no effect {text!r}: choose from {', '.join(EFFECT_NAMES)}")
    return text


def _width(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1000:
        raise argparse.ArgumentTypeError(f"needed a number of pixels from 0 to 1000, got {text!r}")
    return value
