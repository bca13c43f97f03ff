"""cvmask render: draw saved detections again, without the network."""

from __future__ import annotations

import argparse
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass

from cvmask.cli import options
from cvmask.cli.options import DrawingOptions, OutputOptions, UsageError, take
from cvmask.cli.progress import StreamProgress
from cvmask.models.labels import read_labels
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.streams.replay import open_recorded, render
from cvmask.streams.sinks import Sink, open_sink
from cvmask.streams.sources import Frame
from cvmask.system.process import opencv_silent

EPILOG = """\
examples:
  cvmask predict -m shapes in.mp4 -o out.mp4 --save-json
  cvmask render in.mp4 out.jsonl -o again.mp4 --conf 0.8 --classes star --no-boxes
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "render",
        EPILOG,
        help="draw saved detections with other settings",
        description="Draw the saved detections of an earlier run with other settings, without the network.",
    )
    parser.add_argument("source", metavar="VIDEO", help="the video that the earlier run read")
    parser.add_argument("detections", metavar="DETECTIONS", help="the .jsonl file that it wrote")
    parser.add_argument("-o", "--output", metavar="OUT", type=options.destination, required=True,
                        help="a video, .jsonl, or a folder for one picture per frame")  # fmt: skip
    options.add_codec_option(parser)
    parser.add_argument("--score-threshold", "--conf", type=options.share, default=0.0, metavar="T",
                        help="draw detections with a higher score, 0 to 1 (default: all)")  # fmt: skip
    options.add_mask_threshold(parser)
    parser.add_argument(
        "--classes", type=options.classes, metavar="A,B", help="draw only these classes: names or ids"
    )
    parser.add_argument("--labels", metavar="FILE", help="other class names, one per line")
    options.add_drawing_options(parser)


@dataclass(frozen=True)
class RenderOptions:
    """Arguments of `streams.replay.render`, with its defaults, and other names for the classes.

    Raises
    ------
    UsageError
        If the two files are given in the wrong order.
    """

    source: str
    detections: str
    score_threshold: float = 0.0
    mask_threshold: float | None = None
    classes: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        if self.source.endswith(".jsonl"):
            raise UsageError(f"{self.source}: the video comes first, then the .jsonl file")


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    return render_again(take(RenderOptions, args), take(OutputOptions, args), options.drawing_options(args))


def render_again(wanted: RenderOptions, output: OutputOptions, drawing: DrawingOptions) -> int:
    """Draw the detections of an earlier run."""
    target = output.destination
    target.check(sources=1, stream=True)
    if output.codec and not target.is_file:
        raise UsageError(f"--codec {output.codec}: {target} is a folder of pictures")
    output.check_codec()
    style = drawing.style(wanted.mask_threshold)
    if wanted.labels is not None:
        style["labels"] = read_labels(wanted.labels)
    with StreamProgress() as progress, opencv_silent(), ExitStack() as stack:
        source = stack.enter_context(open_recorded(wanted.source, wanted.detections, on_message=progress.warn))
        progress.begin(source.name, source.length)
        # `render` opens outputs without a codec itself: it knows the labels.
        sink: Sink | str = str(target)
        if output.codec is not None:
            sink = open_sink(str(target), source=source, codec=output.codec, on_message=progress.warn)
        summary = render(
            source,
            wanted.detections,
            [sink, Counting(progress)],
            score_threshold=wanted.score_threshold,
            classes=wanted.classes,
            style=style,
            on_message=progress.warn,
        )
        progress.end(summary, [str(target)])
    return 0


class Counting(Sink):
    """Counts the frames that are drawn."""

    name = "progress"
    main_thread = True  # tqdm's bar belongs to this thread

    def __init__(self, progress: StreamProgress) -> None:
        self._progress = progress

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Count one."""
        self._progress.advance(Counter(objects=len(detections or ())))

    def close(self) -> None:
        """Do nothing."""
