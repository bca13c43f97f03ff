"""What runs in each worker process: one model, one part after the other."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from cvmask.batches.annotated import FOLDER as ANNOTATED
from cvmask.batches.annotated import Clip, clip_place, write_picture
from cvmask.batches.chunks import Chunk, read_picture
from cvmask.batches.cluster import same_version
from cvmask.batches.listing import annotated_name, member_name
from cvmask.batches.storage import Place, file_size, one_line, read_bytes, write_bytes
from cvmask.batches.table import Rows
from cvmask.batches.video_segments import local_file, read_segment, read_whole
from cvmask.batches.work_items import FOLDER, PICTURES, VIDEO, WorkItem, part_name
from cvmask.drawing.draw import draw
from cvmask.errors import ModelError, SourceError
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.runtime.net import reason
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.picture_metadata import read_metadata
from cvmask.streams.sources.source import Frame
from cvmask.system.process import reuse_large_blocks

DEATHS = "_deaths"
MOST_DEATHS = 2
_WATCHED_CHUNKS = 8


class Quarantine:
    """Notes before each picture, in a worker that took over from a dead one, that it is being tried.

    A worker that never died writes nothing. What was being tried when a watched worker died twice is
    not tried again.

    Parameters
    ----------
    output
        The folder of the batch; the notes are in a folder of it until their part is written.
    watching
        Whether to watch; None: if this worker took over from a dead one, for its first chunks, since
        what killed that one is among them.
    """

    def __init__(self, output: Place, watching: bool | None = None) -> None:
        self._output = output
        if watching is None:
            watching = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._chunks_left = _WATCHED_CHUNKS if watching else 0
        self._place: Place | None = None
        self._tried: dict[str, int] = {}

    def begin(self, unit: int, chunk: int) -> None:
        """Begin a chunk."""
        self._place = None
        if self._chunks_left:
            self._chunks_left -= 1
            self._place = self._output / DEATHS / f"{unit:06d}-{chunk:04d}.json"
            known = file_size(self._place) is not None
            self._tried = json.loads(read_bytes(self._place)) if known else {}

    def may_try(self, number: int) -> bool:
        """Tell whether a picture of the chunk may be tried, and note that it is."""
        if self._place is None:
            return True
        deaths = self._tried.get(str(number), 0)
        if deaths >= MOST_DEATHS:
            return False
        # What came before it has survived.
        before = {key for key, count in self._tried.items() if int(key) < number and count < MOST_DEATHS}
        self._tried = {key: count for key, count in self._tried.items() if key not in before}
        self._tried[str(number)] = deaths + 1
        write_bytes(self._place, json.dumps(self._tried).encode())
        return True

    def end(self) -> None:
        """Forget the chunk: its part is written."""
        if self._place is not None:
            with suppress(OSError):
                self._place.filesystem.delete_file(self._place.path)


KILLS = "kills the process that reads it"
# What a worker tells of a part.
PART = pa.schema(
    [
        ("unit", pa.int64()),
        ("last", pa.bool_()),
        ("frames", pa.int64()),
        ("objects", pa.int64()),
        ("failed", pa.int64()),
        ("detect_s", pa.float64()),
        ("reasons", pa.string()),
    ]
)
# A part of a video holds at most so many times the frames of a part of pictures.
VIDEO_PARTS = 4


@dataclass(frozen=True)
class Job:
    """What every worker has to know.

    Attributes
    ----------
    output
        The folder of the batch.
    run
        A name of this batch, for temporary folders.
    version
        Of cvmask where the batch was started: workers with another one refuse.
    threads
        OpenCV threads of a worker.
    part_frames
        Frames of a part: at most, for pictures; about, for videos.
    stride
        Of videos: every stride-th frame.
    soft_masks, annotated
        Whether to keep soft masks, and to write annotated pictures and videos.
    column
        Of Parquet files: which column holds the pictures.
    """

    output: Place
    run: str
    version: str
    threads: int
    part_frames: int
    stride: int
    soft_masks: bool
    annotated: bool
    column: str | None


class Worker:
    """Runs the model on chunks and writes a part for each; Ray makes one in each worker process.

    Parameters
    ----------
    job
        What to do.
    model
        Reference to the model in Ray's object store, which holds it once on each machine.
    """

    def __init__(self, job: Job, model: Any) -> None:
        same_version(job.version)
        cv2.setNumThreads(job.threads)
        self._job = job
        self._model: MaskRCNN = ray.get(model)
        reuse_large_blocks()
        self._deaths = Quarantine(job.output)

    def __call__(self, table: Any) -> Any:
        """Make the parts of one chunk; a table with a row for each part says what it holds."""
        chunk = Chunk.from_table(table)
        unit = chunk.unit
        parts = self._video(unit, chunk.done) if unit.kind == VIDEO else [self._pictures(unit, chunk)]
        return pa.Table.from_pylist(list(parts), PART)

    def _pictures(self, unit: WorkItem, chunk: Chunk) -> dict[str, Any]:
        rows = self._new_rows()
        self._deaths.begin(unit.number, chunk.number)
        for number, member in enumerate(chunk.members):
            item = unit.items[number if unit.kind == PICTURES else 0]
            index = 0 if unit.kind == PICTURES else chunk.first + number
            # The bytes go as soon as they are used.
            data, chunk.pictures[number] = chunk.pictures[number], None
            shown = item.place.shown
            with _failing(rows, shown, index, member):
                if chunk.errors[number]:
                    raise SourceError(chunk.errors[number])
                if not self._deaths.may_try(number):
                    raise SourceError(KILLS)
                data = read_picture(item.place) if data is None else data
                image, warnings = decode_image(data, shown)
                found = self._detect(rows, Frame(image, index, None, shown, warnings), member)
                if self._job.annotated:
                    name = annotated_name(item) if unit.kind == PICTURES else member_name(item, index, member)
                    write_picture(self._job.output / ANNOTATED / name, self._paint(image, found), read_metadata(data))
        if chunk.failure:
            rows.failed(unit.items[0].place.shown, None, chunk.failure)
        part = self._write(rows, unit.number, chunk.number, chunk.last)
        self._deaths.end()
        return part

    def _video(self, unit: WorkItem, done: list[int]) -> Iterator[dict[str, Any]]:
        """Decode and write part after part; those that are done are passed over."""
        number, seen, notes = 0, 0, list[str]()
        rows, clip = self._new_rows(), self._new_clip()
        for frame in self._decoded(unit, notes):
            if seen == self._job.part_frames * VIDEO_PARTS:
                if number not in done:
                    yield self._write(rows, unit.number, number, False, clip)
                number, seen = number + 1, 0
                rows, clip = self._new_rows(), self._new_clip()
            seen += 1
            if number in done:
                continue
            if isinstance(frame, str):
                rows.failed(unit.items[0].place.shown, None, frame)
                continue
            with _failing(rows, unit.items[0].place.shown, frame.index, None):
                found = self._detect(rows, frame, None)
                if clip is not None:
                    clip.add(self._paint(frame.image, found), frame)
        for note in notes:
            rows.warn(note)
        if number not in done:
            yield self._write(rows, unit.number, number, True, clip)
        self._deaths.end()

    def _decoded(self, unit: WorkItem, notes: list[str]) -> Iterator[Frame | str]:
        """Decode a video or a stretch of one; at the end what went wrong, if something did."""
        item = unit.items[0]
        shown = item.place.shown
        self._deaths.begin(unit.number, 0)
        path = shown
        try:
            if not self._deaths.may_try(0):
                raise SourceError(KILLS)
            path = local_file(item.place, self._job.run)
            if item.size is not None and os.path.getsize(path) != item.size:
                raise SourceError(f"has changed since the run began, when it had {item.size} bytes")
            if unit.stretch is not None:
                frames = read_segment(path, unit.stretch, self._job.stride)
            else:
                frames = read_whole(path, self._job.stride, notes)
            for frame in frames:
                yield Frame(frame.image, frame.index, frame.time_s, shown)
        except SourceError as error:
            yield str(error).replace(path, shown)
        except OSError as error:
            yield f"cannot be read: {one_line(error)}"
        except cv2.error as error:
            yield reason(error)

    def _detect(self, rows: Rows, frame: Frame, member: str | None) -> Detections:
        began = time.perf_counter()
        found = self._model.detect(frame.image)
        rows.counts.detect_s += time.perf_counter() - began
        rows.found(frame, found, member=member)
        return found

    def _paint(self, image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
        return draw(image, found, labels=self._model.labels, mask_threshold=self._model.settings.mask_threshold)

    def _new_rows(self) -> Rows:
        return Rows(self._model.labels, self._model.settings.mask_threshold, self._job.soft_masks)

    def _new_clip(self) -> Clip | None:
        return Clip() if self._job.annotated else None

    def _write(self, rows: Rows, unit: int, number: int, last: bool, clip: Clip | None = None) -> dict[str, Any]:
        """Write a part, its clip first: where the part is, everything that belongs to it is."""
        name = part_name(unit, number, last)
        notes: dict[str, Any] = {"process": os.getpid()}
        if clip is not None:
            clip.finish(clip_place(self._job.output, name))
            notes["first_s"] = clip.first_s
        write_bytes(self._job.output / FOLDER / name, rows.to_parquet(**notes))
        counts = asdict(rows.counts)
        counts["reasons"] = json.dumps(counts["reasons"])
        return {"unit": unit, "last": last, **counts}


@contextmanager
def _failing(rows: Rows, source: str, index: int | None, member: str | None) -> Iterator[None]:
    """Turn what a picture can be at fault for into a row; an output that cannot be written is none of it."""
    try:
        yield
    except (SourceError, ModelError, ValueError, MemoryError) as error:
        rows.failed(source, index, str(error) or "out of memory", member)
    except cv2.error as error:
        rows.failed(source, index, reason(error), member)
