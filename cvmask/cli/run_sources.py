"""The run that `predict` and `edit` share: read, detect, paint, write. They differ in how they paint."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Callable

from cvmask.cli import loading
from cvmask.cli.inputs import Input, expand, files_left_out
from cvmask.cli.options import ModelOptions, RunOptions, unused_flags
from cvmask.cli.outputs import Plan, plan_outputs
from cvmask.cli.progress import FrameProgress, say
from cvmask.cli.run_stream import run_stream
from cvmask.errors import CvmaskError, SinkError, SourceError
from cvmask.formats.record import Record
from cvmask.formats.saver import Saver, SaveSettings
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.loop import Paint
from cvmask.streams.sinks import Sink, Window
from cvmask.streams.sinks.image_sink import write_image
from cvmask.streams.sources import Frame, Images
from cvmask.system.files import write_whole
from cvmask.system.process import DecoderWarnings

Painter = Callable[[MaskRCNN, bool], Paint]
"""Makes the function that paints a model's detections: BGR, or BGRA if the second argument allows it."""

_MUCH_SHRUNK = 4
_EVERY_S = 5.0

# Warnings about colour profiles, which do not affect the pixels.
_NOISE = "libpng warning: iCCP:"
# The prefix of OpenCV 5's warnings: level, thread, time, file and function.
_LOG_HEAD = re.compile(r"^\[ ?WARN:\S+\] global \S+ \w+ ")


def run(wanted: RunOptions, painter: Painter, alpha: bool = False) -> int:
    """Run a verb over all sources; return its exit code: 0, 1 if every source failed, 3 if some did.

    With `alpha`, pictures are painted with transparency.
    """
    output = wanted.output
    rated = wanted.stream.frame_rate is not None
    inputs, failures = expand(wanted.sources, rated)
    for failure in (*failures, *([] if rated else files_left_out(wanted.sources))):
        _tell(failure)
    if not inputs:
        return 1
    # Options are checked before a large model is loaded.
    if output.output is not None:
        output.output.check(len(inputs) + len(failures), inputs[0].stream, alpha)
    if any(one.stream for one in inputs):
        output.check_codec()
    wanted.model.check()
    unused = unused_flags([wanted.stream, output], {one.kind for one in inputs})
    if wanted.model.tile is not None:  # the workers share the tiles of a picture
        unused = [flag for flag in unused if not flag.startswith("--workers")]
    if unused:
        _tell(f"ignored for these sources: {', '.join(unused)}")
    plan = plan_outputs(inputs, output, alpha)
    model = loading.load_model(wanted.model, wanted.drawing.captions)
    pictures = [one for one in inputs if not one.stream]
    window = _open_window() if output.show and pictures else None
    done = 0
    with _saver(wanted, model) or nullcontext() as saver:
        if pictures:
            loop = _PictureLoop(model, painter, plan, saver, window, alpha, wanted)
            done, unread = loop.run(pictures)
            failures += unread
        paint = painter(model, False)
        for one in inputs:
            if one.stream and not (window is not None and window.ended):
                if alpha:
                    _tell(f"{one.name}: a video has no transparency, so its background becomes green")
                sinks = [] if saver is None else [_SaverSink(saver, one.name)]
                try:
                    lost = run_stream(one.path, plan.of(one.path), wanted, model, paint, sinks)
                except CvmaskError as error:
                    _tell(str(error))
                    failures.append(str(error))
                    continue
                done += 1
                failures += [f"{one.name}: {lost} frames lost"] if lost else []
    if saver is not None and done:
        say(f"{', '.join(output.save)}: in {output.destination.folder}")
    return 0 if not failures else (3 if done else 1)


def _tell(line: str) -> None:
    say(f"cvmask: {line}", error=True)


def _saver(wanted: RunOptions, model: MaskRCNN) -> Saver | None:
    if not wanted.output.save:
        return None
    folder, threshold = wanted.output.destination.folder, model.settings.mask_threshold
    how = wanted.drawing
    return Saver(wanted.output.save, SaveSettings(folder, model.labels, how.colors, threshold, how.refine))


class _SaverSink(Sink):
    """Passes the detections of one stream to the saver, which outlives it."""

    def __init__(self, saver: Saver, name: str) -> None:
        self.name, self._saver = name, saver

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Pass one frame on."""
        if frame is not None and detections is not None:
            self._saver.write(Record(self.name, detections, frame.index, frame.time_s), frame.image)

    def close(self) -> None:
        """Do nothing: the saver is used for the next source too."""


class _PictureLoop:
    """Processes pictures one by one, and writes the files of each."""

    def __init__(
        self,
        model: MaskRCNN,
        painter: Painter,
        plan: Plan,
        saver: Saver | None,
        window: Window | None,
        alpha: bool,
        wanted: RunOptions,
    ) -> None:
        self._wanted = wanted.model
        workers = wanted.stream.workers or 1
        self._clones = [model.clone() for _ in range(1, workers)] if wanted.model.tile is not None else []
        self._model, self._plan, self._saver, self._window = model, plan, saver, window
        self._paint, self._paint_shown = painter(model, alpha), painter(model, False)

    def run(self, inputs: Sequence[Input]) -> tuple[int, list[str]]:
        """Return the number of pictures that succeeded, and the reported failures of the others."""
        names = {one.path: one.name for one in inputs}
        done, failures = 0, list[str]()
        with FrameProgress(len(inputs)) as progress:
            for frame in read_and_tell(list(names), failures, progress):
                began = time.perf_counter()
                if self._wanted.tile is None:
                    detections = self._model.detect(frame.image)
                else:
                    on_tile = partial(_tell_tiles, progress, frame.name, [began])
                    detections = self._model.detect(frame.image, clones=self._clones, on_tile=on_tile)
                spent_ms = 1000 * (time.perf_counter() - began)
                record = Record(names[frame.name], detections, image_path=Path(frame.name), metadata=frame.metadata)
                refused = self._write(frame, record)
                for error in refused:
                    progress.say(f"cvmask: {frame.name}: {error}", error=True)
                failures += refused[:1]
                done += not refused
                height, width = frame.image.shape[:2]
                if hint := _tile_hint(detections, self._model, self._wanted):
                    progress.say(f"cvmask: {frame.name}: {hint}", error=True)
                found = summarise(detections, self._model.labels)
                where = "not written" if refused else f"-> {self._plan.pictures[frame.name]}"
                progress.advance(f"{frame.name}: {width}x{height}, {found}, {spent_ms:.0f} ms {where}")
                if self._window is not None:
                    self._window.write(self._paint_shown(frame.image, detections), frame, detections)
                    if self._window.ended:
                        break
        return done, failures

    def _write(self, frame: Frame, record: Record) -> list[str]:
        """Write all files of a picture. If one fails the others are still written; the failures are returned."""
        refused = []
        for write in (self._write_picture, self._write_json, self._save):
            try:
                write(frame, record)
            except SinkError as error:
                refused.append(str(error))
        return refused

    def _write_picture(self, frame: Frame, record: Record) -> None:
        painted = self._paint(frame.image, record.detections)
        write_image(self._plan.pictures[frame.name], painted, frame.metadata)

    def _write_json(self, frame: Frame, record: Record) -> None:
        for path in self._plan.of(frame.name)[1:]:
            text = json.dumps(frame_fields(frame, record.detections, self._model)) + "\n"
            write_whole(path, text.encode(errors="backslashreplace"))

    def _save(self, frame: Frame, record: Record) -> None:
        if self._saver is not None:
            self._saver.write(record, frame.image)


def _tell_tiles(progress: FrameProgress, name: str, told_s: list[float], done: int, total: int) -> None:
    """Report the progress of one large picture now and then; `told_s` holds the time of the last report."""
    if total > 1 and time.perf_counter() - told_s[0] >= _EVERY_S:
        told_s[0] = time.perf_counter()
        progress.say(f"cvmask: {name}: {done} of {total} tiles", error=True)


def _tile_hint(detections: Detections, model: MaskRCNN, wanted: ModelOptions) -> str:
    """Return a hint to use tiles if the picture was shrunk more than fourfold, or a limit was reached."""
    if wanted.tile is not None or wanted.size != "auto":
        return ""
    height, width = detections.frame_size
    shrunk = max(width, height) / max(model.resizer.target_wh((width, height)))
    if shrunk > _MUCH_SHRUNK:
        return f"shrunk {shrunk:.1f}-fold, small objects may be missed: try --tile auto"
    if wanted.max_detections is None and len(detections) >= model.settings.max_detections:
        return f"{len(detections)} found, the most this model gives: try --tile auto"
    return ""


def _open_window() -> Window | None:
    try:
        return Window(hold=True, on_message=lambda line: say(line, error=True))
    except SinkError as error:
        _tell(str(error))
        return None


def frame_fields(frame: Frame, detections: Detections, model: MaskRCNN) -> dict[str, object]:
    """Make the JSON record of one picture; boxes are left, top, right, bottom in pixels, masks COCO RLE."""
    height, width = frame.image.shape[:2]
    objects = [
        {
            "label": model.labels[c],
            "class_id": c,
            "score": round(s, 6),
            "box_xyxy": [round(v, 3) for v in box],
            "rle": rle,
        }
        for c, s, box, rle in zip(
            detections.class_id.tolist(),
            detections.confidence.tolist(),
            detections.xyxy.tolist(),
            detections.rle(model.settings.mask_threshold),
        )
    ]
    return {"file": frame.name, "width": width, "height": height, "objects": objects}


def summarise(detections: Detections, labels: Sequence[str]) -> str:
    """Summarize detections: "2 circle, 1 star", the most frequent first."""
    counts = Counter(labels[i] for i in detections.class_id.tolist())
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing found"


def read_and_tell(paths: Sequence[str], failures: list[str], progress: FrameProgress) -> Iterator[Frame]:
    """Read pictures; problems are printed with the name, and added to `failures` if the picture is unusable."""

    def fail(error: SourceError) -> None:
        failures.append(str(error))
        # One line is enough for a file that cannot be read.
        decoder.take()

    frames = iter(Images(paths, on_error=fail))
    while True:
        known = len(failures)
        with DecoderWarnings() as decoder:
            frame = next(frames, None)
        for failure in failures[known:]:
            progress.say(f"cvmask: {failure}", error=True)
        if frame is None:
            return
        # cvmask's own warnings are clearer than those of a decoder.
        lines = (_LOG_HEAD.sub("", line) for line in decoder.take() if not line.startswith(_NOISE))
        for warning in frame.warnings or lines:
            progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
        yield frame
