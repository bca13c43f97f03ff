"""cvmask render: draw again from JSON lines, without the network."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options
from cvmask.cli.options import UsageError, add_codec_option
from cvmask.cli.outputs import check_codec, check_place, place_of
from cvmask.cli.progress import StreamProgress
from cvmask.models.labels import read_labels
from cvmask.results.detections import Detections
from cvmask.streams.replay import open_recorded, render
from cvmask.streams.sinks import Sink, open_sink
from cvmask.streams.sources import Frame, Source
from cvmask.system.process import opencv_silent

EPILOG = """\
examples:
  cvmask predict -m shapes in.mp4 -o out.mp4 --save-json
  cvmask render in.mp4 out.jsonl -o again.mp4 --conf 0.8 --classes star --no-boxes
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "render",
        help="draw detections again, in another way",
        description="Draw the detections of an earlier run again, with other settings, without the network.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="VIDEO", help="what the earlier run read")
    parser.add_argument("detections", metavar="DETECTIONS", help="the .jsonl file that it wrote")
    parser.add_argument("-o", "--output", metavar="OUT", required=True,
                        help="a video, .jsonl, or a folder for a picture of each frame")  # fmt: skip
    add_codec_option(parser)
    parser.add_argument("--score-threshold", "--conf", type=options.share, default=0.0, metavar="T",
                        help="draw detections with a higher score, 0 to 1 (default: all)")  # fmt: skip
    options.add_mask_threshold(parser)
    parser.add_argument("--classes", metavar="A,B", help="draw these classes only: names or ids")
    parser.add_argument("--labels", metavar="FILE", help="other class names, one a line")
    options.add_drawing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    if args.source.endswith(".jsonl"):
        raise UsageError(f"{args.source}: the video comes first, then the .jsonl file")
    place = place_of(args.output)
    check_place(place, sources=1, stream=True)
    if args.codec and not place.is_file:
        raise UsageError(f"--codec {args.codec}: {args.output} is a folder of pictures")
    check_codec(place, args.codec)
    style = options.drawing_style(args, args.mask_threshold)
    if args.labels is not None:
        style["labels"] = read_labels(args.labels)
    classes = options.classes_text(args)
    with StreamProgress() as progress, opencv_silent(), ExitStack() as stack:
        source = stack.enter_context(open_recorded(args.source, args.detections, on_message=progress.warn))
        progress.begin(source.name, source.length)
        summary = render(
            source,
            args.detections,
            [_output(args, source, progress), Counting(progress)],
            score_threshold=args.score_threshold,
            classes=classes,
            style=style,
            on_message=progress.warn,
        )
        progress.end(summary, [args.output])
    return 0


def _output(args: argparse.Namespace, source: Source, progress: StreamProgress) -> Sink | str:
    """Open a video of a certain codec; `render` opens whatever else there is, for it knows the labels."""
    if args.codec is None:
        return str(args.output)
    return open_sink(args.output, source=source, codec=args.codec, on_message=progress.warn)


class Counting(Sink):
    """Counts the frames that are drawn."""

    name = "progress"
    main_thread = True  # where the bar was made

    def __init__(self, progress: StreamProgress) -> None:
        self._progress = progress

    def write(
        self, image: NDArray[np.uint8], frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Count one."""
        self._progress.advance(Counter(objects=len(detections or ())))

    def close(self) -> None:
        """Do nothing."""
