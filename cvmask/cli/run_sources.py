"""The loop that `predict` and `edit` share: read, find, paint, write."""

from __future__ import annotations

import argparse
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options
from cvmask.cli.inputs import Input, expand, videos_left_out
from cvmask.cli.options import PICTURE, VIDEO, add_codec_option, add_stream_options, check_part, unused_flags
from cvmask.cli.outputs import DEFAULT_FOLDER, Outputs, check_codec, check_place, free_stem, place_of
from cvmask.cli.progress import FrameProgress, say
from cvmask.cli.run_stream import is_file, output_names, run_stream, stem_of
from cvmask.errors import CvmaskError, SinkError, SourceError
from cvmask.formats.record import Record
from cvmask.formats.saver import FILES
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks import Sink, Window
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sinks.sink import file_id, file_ids
from cvmask.streams.sources import Frame, Images
from cvmask.streams.sources.opening import live_kind
from cvmask.system.files import wrong_name
from cvmask.system.process import Heard


class Task:
    """What a verb does with each frame; a context manager around the whole run.

    Attributes
    ----------
    closing
        A line to print when the run has ended; "" for none.
    stream_note
        What the user of a video or stream should know beforehand; "" for nothing.
    """

    closing = ""
    stream_note = ""

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture to write, BGR or BGRA."""
        raise NotImplementedError

    def paint_frame(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture for a video or a window, which know no transparency: BGR."""
        return self.paint(image, detections)

    def keep(self, frame: Frame, detections: Detections, outputs: Outputs) -> None:
        """Write what belongs beside a picture."""

    def save(self, record: Record, image: NDArray[np.uint8]) -> None:
        """Take what was found in a picture or a frame, and its own picture."""


class StreamKeeper(Sink):
    """Hands what was found in the frames of one stream to the task, which outlives it."""

    def __init__(self, task: Task, name: str) -> None:
        self.name, self._task = name, task

    def write(
        self, image: NDArray[np.uint8], frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Hand it on."""
        if frame is not None and detections is not None:
            self._task.save(Record(self.name, detections, frame.index, frame.time_s), frame.image)

    def close(self) -> None:
        """Do nothing: the task goes on with the next source."""


def check_clashes(
    args: argparse.Namespace, inputs: Sequence[Input], pictures: Sequence[tuple[Path, str]], saved_in: Path | None
) -> None:
    """Hold all files that will be written against each other and against those that are read.

    Parameters
    ----------
    pictures
        Those that will be written, each with its source.
    saved_in
        The folder of what ``--save`` writes; None: it was not given.

    Raises
    ------
    SinkError
        If a result would replace a source, be it that of another result, two are one file, or a video has a
        name that no encoder takes.
    """
    planned = [*pictures, *_beside(args, pictures), *_of_streams(args, inputs)]
    _refuse_names(planned)
    _refuse_replacing(planned, [one.path for one in inputs])
    if saved_in is not None:
        _refuse_writing_twice(planned, args.save, saved_in)


def _beside(args: argparse.Namespace, pictures: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    return [(path.with_suffix(".json"), source) for path, source in pictures] if args.save_json else []


def _of_streams(args: argparse.Namespace, inputs: Sequence[Input]) -> list[tuple[Path, str]]:
    only_shown = args.output is None and args.show
    taken: set[str] = set()
    planned = []
    for one in inputs:
        if one.stream:
            stem, from_file = free_stem(stem_of(one.path), taken), is_file(one.path)
            if from_file or not only_shown:
                source = one.path if from_file else one.name  # an address may hold a password
                planned += [(Path(name), source) for name in output_names(stem, args)]
    return planned


def _refuse_names(planned: Sequence[tuple[Path, str]]) -> None:
    for path, _ in planned:
        if path.suffix.lower() in CODECS and (wrong := wrong_name(os.path.abspath(path))):
            raise SinkError(f"{path}: {wrong}")


def _refuse_replacing(planned: Sequence[tuple[Path, str]], sources: Sequence[str]) -> None:
    """Raise SinkError if a file that will be written, here with its own source, is one of the sources."""
    read = file_ids(sources)
    for path, source in planned:
        found = file_id(path)
        if found in read:
            whose = "its" if found == file_id(source) else "another"
            raise SinkError(f"{path} would replace {whose} source: give another name or folder with -o")


def _refuse_writing_twice(planned: Sequence[tuple[Path, str]], formats: Sequence[str], folder: Path) -> None:
    # Many file systems take A and a for one.
    saved = {str(folder / name).casefold(): kind for kind in formats for name in FILES.get(kind, ())}
    for path, source in planned:
        kind = saved.get(str(path).casefold())
        if kind is not None:
            raise SinkError(
                f"{path} would be written for {source} and by --save {kind}: leave one out, or name them apart"
            )


# Of colour profiles, which no part of the work looks at.
_NOISE = "libpng warning: iCCP:"
# What OpenCV 5 puts before a warning: level, thread, time, file and function.
_LOG_HEAD = re.compile(r"^\[ ?WARN:\S+\] global \S+ \w+ ")

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
        say(f"cvmask: {failure}", error=True)
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
        say(f"cvmask: no source here has a use for {', '.join(unused)}", error=True)
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
                ended, failed = _run_stream(one, free_stem(stem_of(one.path), taken), args, model, task)
                done, failures = done + ended, failures + failed
    if task.closing and done:
        say(task.closing)
    return 0 if not failures else (3 if done else 1)


def _kind(one: Input) -> str:
    return live_kind(one.path) or (VIDEO if one.stream else PICTURE)


def _run_stream(one: Input, stem: str, args: argparse.Namespace, model: MaskRCNN, task: Task) -> tuple[bool, list[str]]:
    """Go through a video or stream; whether it came to its end, and a list of what failed, which has been told."""
    if task.stream_note:
        say(f"cvmask: {one.name}: {task.stream_note}", error=True)
    try:
        lost = run_stream(one.path, stem, args, model, task.paint_frame, StreamKeeper(task, one.name))
    except CvmaskError as error:
        say(f"cvmask: {error}", error=True)
        return False, [str(error)]
    return True, [f"{one.name}: {lost} frames lost"] if lost else []


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
            record = Record(names[frame.name], detections, image_path=Path(frame.name), metadata=frame.metadata)
            refused = _write_picture(frame, record, task, outputs)
            for error in refused:
                progress.say(f"cvmask: {frame.name}: {error}", error=True)
            failures += refused[:1]
            done += not refused
            height, width = frame.image.shape[:2]
            found = summarise(detections, model.labels)
            where = "not written" if refused else f"-> {outputs.path_of(frame.name)}"
            progress.advance(f"{frame.name}: {width}x{height}, {found}, {spent_ms:.0f} ms {where}")
            if window is not None:
                window.write(task.paint_frame(frame.image, detections), frame, detections)
                if window.ended:
                    break
    return done, failures


def _write_picture(frame: Frame, record: Record, task: Task, outputs: Outputs) -> list[str]:
    """Write all that belongs to a picture; what could not be written, which keeps nothing else from it."""
    refused = []
    steps: tuple[Callable[[], None], ...] = (
        lambda: outputs.write_picture(frame.name, task.paint(frame.image, record.detections), frame.metadata),
        lambda: task.keep(frame, record.detections, outputs),
        lambda: task.save(record, frame.image),
    )
    for write in steps:
        try:
            write()
        except SinkError as error:
            refused.append(str(error))
    return refused


def _open_window() -> Window | None:
    try:
        return Window(hold=True, on_message=lambda line: say(line, error=True))
    except SinkError as error:
        say(f"cvmask: {error}", error=True)
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
        lines = (_LOG_HEAD.sub("", line) for line in heard.take() if not line.startswith(_NOISE))
        for warning in frame.warnings or lines:
            progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
        yield frame
