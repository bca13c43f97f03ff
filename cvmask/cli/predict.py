"""cvmask predict: annotate pictures and videos, and save results in any format."""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options, run_sources
from cvmask.cli.options import DrawingOptions, ModelOptions, OutputOptions, RunOptions, StreamOptions, take
from cvmask.drawing.draw import draw
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.loop import Paint

EPILOG = """\
examples:
  cvmask predict -m shapes scene.png
  cvmask predict -m shapes in.mp4 -o out.mp4 --save-json --track
  cvmask predict -m shapes 0 --show
  cvmask predict -m shapes 'in/*.jpg' -o out --save-json
  cvmask predict photos/ -o out --save coco,labelme,cutouts
  cvmask predict street.jpg --classes person,car --conf 0.7 --no-boxes
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "predict",
        EPILOG,
        help="annotate pictures, videos, cameras and streams",
        description="Find objects in pictures, videos, cameras and streams and draw their masks.",
    )
    options.add_sources(parser)
    options.add_output_options(parser)
    options.add_save_options(parser)
    options.add_model_options(parser)
    options.add_tile_options(parser)
    options.add_stream_options(parser)
    options.add_drawing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    drawing = options.drawing_options(args)
    output = take(OutputOptions, args)
    wanted = RunOptions(args.sources, take(ModelOptions, args), take(StreamOptions, args), output, drawing)
    return run_sources.run(wanted, partial(painter, drawing))


def painter(drawing: DrawingOptions, model: MaskRCNN, alpha: bool) -> Paint:
    """Make the function that draws detections; drawings have no transparency."""
    style = drawing.style(model.settings.mask_threshold)

    def paint(image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        return draw(image, detections, labels=model.labels, **style) if len(detections) else image

    return paint
