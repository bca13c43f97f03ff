"""cvmask predict and edit for videos, cameras, streams and standard input."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

from cvmask.cli.options import source_options
from cvmask.cli.outputs import DEFAULT_FOLDER, Place
from cvmask.cli.progress import StreamProgress
from cvmask.errors import SinkError
from cvmask.graph.check import available_memory
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.loop import Paint
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import Sink, Window, open_sink
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sources import Source, open_source
from cvmask.streams.sources.http import without_password
from cvmask.streams.sources.opening import is_picture, live_kind
from cvmask.streams.sources.source import local_path
from cvmask.system.process import opencv_silent

MOST = 4
WORTH_FRAMES = 50  # what a second model gains on fewer is spent on loading it
MEMORY_TIMES = 12  # what a loaded model and its layers take, in sizes of its graph


def usual_workers(source: Source, model: MaskRCNN) -> int:
    """One for each thread of OpenCV, up to `MOST`, where a video is long enough and memory lasts.

    Two models of one thread are faster than one of two, by a tenth to a fifth: what a network does in one
    thread only, it does for two frames at once. A camera or stream has one: its newest frame comes first.
    """
    if source.live or (source.length or 0) < WORTH_FRAMES or model.target.effective != "cpu":
        return 1
    free = available_memory()
    fitting = MOST if free is None else 1 + free // 2 // (MEMORY_TIMES * model.graph_bytes)
    return max(1, min(cv2.getNumThreads(), MOST, fitting))


@contextmanager
def threads_shared_by(workers: int) -> Iterator[None]:
    """OpenCV's threads, shared out for a while: all that there are for one worker."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(max(1, threads // workers))
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


# Of what lies at an address; a host's own name ends otherwise.
_ENDING = re.compile(r"\.(mp4|m4v|mov|mkv|avi|webm|ts|flv|m3u8|mjpe?g|jpe?g|png)$", re.IGNORECASE)


def is_stream(place: str) -> bool:
    """Tell whether a source is anything but a picture file."""
    return not is_file(place) or not is_picture(place)


def is_file(place: str) -> bool:
    """Tell whether a source is a file and no camera, address or standard input."""
    return not live_kind(place)


def run_stream(
    place: str, stem: str, args: argparse.Namespace, model: MaskRCNN, paint: Paint, keeper: Sink
) -> int:
    """Paint every frame of one source and write the results; CvmaskError if that fails.

    Gives how many frames were there and could not be decoded.

    Parameters
    ----------
    stem
        What its outputs are called in a folder.
    keeper
        Takes each result besides the outputs that are named here.
    """
    with StreamProgress() as progress, opencv_silent(), ExitStack() as stack:
        source = stack.enter_context(open_source(place, on_message=progress.warn, **source_options(args)))
        outputs = _outputs(source, stem, args)
        sinks: list[Sink | str] = list(outputs)
        if args.show:
            sinks += _window(progress)
        for output in outputs:
            _make_folder(Path(output).parent)
        if args.codec and not outputs:
            progress.warn(f"--codec {args.codec}: no video is written")
        opened = [keeper, *(_open(sink, args.codec, source, model, progress) for sink in sinks)]
        workers = args.workers or usual_workers(source, model)
        stack.enter_context(threads_shared_by(workers))
        run = annotate(source, model, outputs=opened, paint=paint, track=args.track, workers=workers)
        progress.begin(source.name, source.length)
        try:
            with run:
                for result in run:
                    counts = Counter(model.labels[i] for i in result.detections.class_id.tolist())
                    progress.advance(counts)
        finally:
            whole = {sink.name for sink in run.finished}
            # JSON lines grow in their place, and are there however the run ended.
            kept = [output for output in outputs if output in whole or output.endswith(".jsonl")]
            progress.end(run.summary, kept if run.summary.written else [])
        return run.summary.lost


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} cannot be made: {error.strerror}") from None


def _outputs(source: Source, stem: str, args: argparse.Namespace) -> list[str]:
    """Name the files: what -o says, a video, JSON lines beside it."""
    return [] if args.output is None and source.live and args.show else output_names(stem, args)


def output_names(stem: str, args: argparse.Namespace) -> list[str]:
    """Name the files of a source of this stem that is not only shown."""
    target, one_file = args.output or Place(DEFAULT_FOLDER)
    main = target if one_file else target / f"{stem}.mp4"
    lines = main.with_suffix(".jsonl")
    return [str(main)] + ([str(lines)] if args.save_json and lines != main else [])


def stem_of(place: str) -> str:
    """Name an output after its source: camera0, stdin, host_path, or the stem of the file."""
    if place == "-":
        return "stdin"
    if place.isdigit():
        return f"camera{place}"
    path = local_path(place)
    if "://" in path:
        address = without_password(path).split("://", 1)[1].split("@")[-1].split("?")[0]
        return re.sub(r"[^A-Za-z0-9.-]+", "_", _ENDING.sub("", address)).strip("_") or "stream"
    return Path(path).stem or "video"


def _window(progress: StreamProgress) -> list[Sink | str]:
    try:
        return [Window(on_message=progress.warn)]
    except SinkError as error:
        progress.warn(str(error))
        return []


def _open(
    sink: Sink | str, codec: str | None, source: Source, model: MaskRCNN, progress: StreamProgress
) -> Sink:
    if isinstance(sink, Sink):
        return sink
    codec = codec if Path(sink).suffix.lower() in CODECS else None
    return open_sink(sink, source=source, labels=model.labels, codec=codec, on_message=progress.warn)
