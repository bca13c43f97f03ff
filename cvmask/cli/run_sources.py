"""The loop that `predict` and `edit` share: read, find, paint, write."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable

from cvmask.cli import options
from cvmask.cli.clashes import check_clashes
from cvmask.cli.frame_progress import FrameProgress
from cvmask.cli.inputs import Input, expand, videos_left_out
from cvmask.cli.outputs import Outputs, free_stem
from cvmask.cli.place import DEFAULT_FOLDER, check_codec, check_place, place_of
from cvmask.cli.run_stream import run_stream, stem_of
from cvmask.cli.stream_options import PICTURE, VIDEO, add_codec_option, add_stream_options, check_part, unused_flags
from cvmask.cli.task import StreamKeeper, Task
from cvmask.errors import CvmaskError, SinkError, SourceError
from cvmask.formats.record import Record
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks import Window
from cvmask.streams.sources import Frame, Images
from cvmask.streams.sources.opening import live_kind
from cvmask.system.heard import Heard

# Of colour profiles, which no part of the work looks at.
_NOISE = "libpng warning: iCCP:"

MakeTask = Callable[[MaskRCNN, Sequence[Input]], Task]


def add_source_options(parser: argparse.ArgumentParser) -> argparse.Action:
    """Add SOURCE, --output and --show; gives the action of SOURCE."""
    sources = parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a picture, a folder, a pattern in quotes, a video, a camera (0, 1), an address, or -",
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=place_of,
                        help="a folder, or a file for a single source (default: the folder cvmask_out)")  # fmt: skip
    add_codec_option(parser)
    parser.add_argument("--show", action="store_true",
                        help="show each result in a window: q or Esc ends, s saves, space pauses a video, any key "
                             "leaves a picture")  # fmt: skip
    return sources


def add_model_and_stream_options(parser: argparse.ArgumentParser, track: bool) -> None:
    """Add the flags of the model and those of videos, cameras and streams."""
    options.add_model_options(parser)
    add_stream_options(parser, track)


def run(args: argparse.Namespace, make_task: MakeTask, alpha: bool = False) -> int:
    """Run a verb over all sources; its exit code: 0, 1 if every source failed, 3 if some did.

    `alpha` says that pictures are painted with transparency.
    """
    inputs, failures = expand(args.sources)
    for failure in (*failures, *videos_left_out(args.sources)):
        print(f"cvmask: {failure}", file=sys.stderr)
    if not inputs:
        return 1
    # Whatever is wrong with the wishes is said before a large model is loaded.
    if args.output is not None:
        check_place(args.output, len(inputs) + len(failures), inputs[0].stream, alpha)
    if any(one.stream for one in inputs):
        check_codec(args.output, args.codec)
    options.check_texts(args)
    check_part(args)
    pictures = [one for one in inputs if not one.stream]
    if unused := unused_flags(args, {_kind(one) for one in inputs}):
        print(f"cvmask: no source here has a use for {', '.join(unused)}", file=sys.stderr)
    outputs = Outputs(args.output, [one.path for one in pictures], alpha) if pictures else None
    saved_in = args.output.folder if args.output else DEFAULT_FOLDER
    planned = outputs.planned if outputs is not None else []
    check_clashes(args, inputs, planned, saved_in if getattr(args, "save", None) else None)
    model = options.load_model(args)
    done = 0
    window = _open_window() if args.show and pictures else None
    with make_task(model, inputs) as task:
        if outputs is not None:
            done, unread = _run_pictures(pictures, model, task, outputs, window)
            failures += unread
        taken: set[str] = set()
        for one in inputs:
            if one.stream and not (window is not None and window.ended):
                failed = _run_stream(one, free_stem(stem_of(one.path), taken), args, model, task)
                done, failures = done + (not failed), failures + failed
    if task.closing and done:
        print(task.closing)
    return 0 if not failures else (3 if done else 1)


def _kind(one: Input) -> str:
    return live_kind(one.path) or (VIDEO if one.stream else PICTURE)


def _run_stream(one: Input, stem: str, args: argparse.Namespace, model: MaskRCNN, task: Task) -> list[str]:
    """Go through a video or stream; a list of one failure, which has been told, or of none."""
    if task.stream_note:
        print(f"cvmask: {one.name}: {task.stream_note}", file=sys.stderr)
    try:
        run_stream(one.path, stem, args, model, task.paint_frame, StreamKeeper(task, one.name))
    except CvmaskError as error:
        print(f"cvmask: {error}", file=sys.stderr)
        return [str(error)]
    return []


def _run_pictures(
    inputs: Sequence[Input], model: MaskRCNN, task: Task, outputs: Outputs, window: Window | None
) -> tuple[int, list[str]]:
    """Go from picture to picture; how many went well, and why others, which have been told, did not."""
    names = {one.path: one.name for one in inputs}
    done, failures = 0, list[str]()
    with FrameProgress(len(inputs)) as progress:
        for frame in read_and_tell(list(names), failures, progress):
            began = time.perf_counter()
            detections = model.detect(frame.image)
            spent_ms = 1000 * (time.perf_counter() - began)
            path = outputs.write_picture(frame.name, task.paint(frame.image, detections))
            task.keep(frame, detections, outputs)
            task.save(Record(names[frame.name], detections, image_path=Path(frame.name)), frame.image)
            done += 1
            height, width = frame.image.shape[:2]
            found = summarise(detections, model.labels)
            progress.advance(f"{frame.name}: {width}x{height}, {found}, {spent_ms:.0f} ms -> {path}")
            if window is not None:
                window.write(task.paint_frame(frame.image, detections), frame, detections)
                if window.ended:
                    break
    return done, failures


def _open_window() -> Window | None:
    try:
        return Window(hold=True, on_message=lambda line: print(line, file=sys.stderr))
    except SinkError as error:
        print(f"cvmask: {error}", file=sys.stderr)
        return None


def summarise(detections: Detections, labels: Sequence[str]) -> str:
    """Say what was found: "2 circle, 1 star", the most frequent first."""
    counts = Counter(labels[i] for i in detections.class_id.tolist())
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing found"


def read_and_tell(paths: Sequence[str], failures: list[str], progress: FrameProgress) -> Iterator[Frame]:
    """Read pictures; what is wrong with one is told with its name, and added to `failures` if there is none."""

    def fail(error: SourceError) -> None:
        failures.append(str(error))
        # One line is enough for a file that is not used.
        heard.take()

    frames = iter(Images(paths, on_error=fail))
    while True:
        known = len(failures)
        with Heard() as heard:
            frame = next(frames, None)
        for failure in failures[known:]:
            progress.say(f"cvmask: {failure}", error=True)
        if frame is None:
            return
        # What is known here already is said better than by a decoder.
        for warning in frame.warnings or (line for line in heard.take() if not line.startswith(_NOISE)):
            progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
        yield frame
