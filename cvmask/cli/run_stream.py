"""cvmask predict and edit for videos, cameras, streams and standard input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2

from cvmask.cli.options import RunOptions
from cvmask.cli.progress import StreamProgress
from cvmask.errors import SinkError
from cvmask.graph.check import available_memory
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.events import Command
from cvmask.streams.loop import Paint
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import Sink, Window, open_sink
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sources import Source, open_source
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


def run_stream(
    place: str, planned: Sequence[Path], wanted: RunOptions, model: MaskRCNN, paint: Paint, sinks: Sequence[Sink] = ()
) -> int:
    """Paint every frame of one source and write the results; CvmaskError if that fails.

    Gives how many frames were there and could not be decoded.

    Parameters
    ----------
    planned
        The files to write; none of them if the source is live and only shown.
    sinks
        Take each result besides.
    """
    stream, output = wanted.stream, wanted.output
    with StreamProgress() as progress, opencv_silent(), ExitStack() as stack:
        source = stack.enter_context(open_source(place, on_message=progress.warn, **stream.source()))
        files = [] if source.live and output.only_shown else [str(path) for path in planned]
        window = _window(progress) if output.show else []
        for file in files:
            _make_folder(Path(file).parent)
        if output.codec and not files:
            progress.warn(f"--codec {output.codec}: no video is written")
        written = [_open(file, output.codec, source, model, progress) for file in files]
        # "auto" needs what was found in one key frame to choose the next: a second model would wait.
        every = stream.detect_every
        if every is None:
            # What must stay hidden may not come in unseen by the network.
            every = "auto" if source.newest and window and not wanted.bridge else 1
        workers = stream.workers or (1 if every == "auto" else usual_workers(source, model))
        stack.enter_context(threads_shared_by(workers))
        outputs = [*sinks, *written, *window]
        command = None if stream.on_event is None else stack.enter_context(Command(stream.on_event, progress.warn))
        run = annotate(
            source, model, outputs=outputs, paint=paint, track=stream.track, workers=workers, detect_every=every,
            bridge=wanted.bridge, smooth=stream.smooth, on_event=command,
        )  # fmt: skip
        progress.begin(source.name, source.length)
        try:
            with run:
                for result in run:
                    counts = Counter(model.labels[i] for i in result.detections.class_id.tolist())
                    progress.advance(counts)
        finally:
            whole = {sink.name for sink in run.finished}
            # JSON lines grow in their place, and are there however the run ended.
            kept = [file for file in files if file in whole or file.endswith(".jsonl")]
            if command is not None:
                command.close()
            events = "" if command is None else command.summary()
            progress.end(run.summary, kept if run.summary.written else [], events)
        return run.summary.lost


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"{folder} cannot be made: {error.strerror}") from None


def _window(progress: StreamProgress) -> list[Sink]:
    try:
        return [Window(on_message=progress.warn)]
    except SinkError as error:
        progress.warn(str(error))
        return []


def _open(file: str, codec: str | None, source: Source, model: MaskRCNN, progress: StreamProgress) -> Sink:
    codec = codec if Path(file).suffix.lower() in CODECS else None
    return open_sink(file, source=source, labels=model.labels, codec=codec, on_message=progress.warn)
