"""The worker process: one model, one part after the other."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray

from cvmask.batches.annotated import FOLDER as ANNOTATED
from cvmask.batches.annotated import Clip, clip_place, write_picture
from cvmask.batches.chunks import Chunk, read_picture
from cvmask.batches.cluster import same_version
from cvmask.batches.listing import annotated_name, member_name
from cvmask.batches.quarantine import Quarantine
from cvmask.batches.storage import StoragePath, one_line, read_bytes, write_bytes
from cvmask.batches.table import Rows
from cvmask.batches.video_segments import local_file, read_segment, read_whole
from cvmask.batches.work_items import FOLDER, PICTURES, VIDEO, Finished, Item, WorkItem, part_name
from cvmask.drawing.draw import draw
from cvmask.errors import ModelError, SourceError
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.runtime.net import reason
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.picture_metadata import read_metadata
from cvmask.streams.sources.source import Frame
from cvmask.system.process import reuse_large_blocks

# A worker's report of a part.
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
# A part of a video holds at most this many times the frames of a part of pictures.
VIDEO_PARTS = 4


@dataclass(frozen=True)
class Job:
    """The settings of every worker.

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
        Frames of a part: the maximum for pictures, approximate for videos.
    stride
        Read every stride-th frame of videos.
    soft_masks, annotated
        Whether to keep soft masks, and to write annotated pictures and videos.
    column
        The column of picture bytes in Parquet files.
    """

    output: StoragePath
    run: str
    version: str
    threads: int
    part_frames: int
    stride: int
    soft_masks: bool
    annotated: bool
    column: str | None


class Worker:
    """Ray makes one in each worker process, as it wraps it: what does the work travels on its own.

    Parameters
    ----------
    job
        What to do.
    model
        Reference to the model in Ray's object store, which holds it once on each machine.
    """

    def __init__(self, job: Job, model: Any) -> None:
        same_version(job.version)
        watching = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._work = Work(job, ray.get(model), Quarantine(job.output, watching))

    def __call__(self, table: Any) -> Any:
        """Make the parts of one chunk; a table with a row for each part says what it holds."""
        return pa.Table.from_pylist(list(self._work.parts_of(Chunk.from_table(table))), PART)


class Work:
    """Runs the model on chunks and writes a part for each."""

    def __init__(self, job: Job, model: MaskRCNN, deaths: Quarantine) -> None:
        self._job, self._model, self._deaths = job, model, deaths
        self._set_up()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy in a process of its own, for a suspect.
        vars(self).update(state)
        self._set_up()

    def _set_up(self) -> None:
        cv2.setNumThreads(self._job.threads)
        reuse_large_blocks()

    def parts_of(self, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """Make the parts of a chunk and yield a report of each."""
        if chunk.unit.kind == VIDEO:
            yield from self._video(chunk.unit, chunk.done)
        else:
            yield self._pictures(chunk.unit, chunk)

    def _pictures(self, unit: WorkItem, chunk: Chunk) -> dict[str, Any]:
        rows = self._new_rows()
        kept = self._good_rows(unit) if unit.kind == PICTURES and chunk.done else {}
        self._deaths.begin(unit.number, chunk.number)
        for number, member in enumerate(chunk.members):
            item = unit.items[number if unit.kind == PICTURES else 0]
            index = 0 if unit.kind == PICTURES else chunk.first + number
            # Free the bytes as soon as they are used.
            data, chunk.pictures[number] = chunk.pictures[number], None
            shown = item.place.shown
            if shown in kept:
                rows.keep(kept[shown])
                continue
            with _failing(rows, shown, index, member):
                if chunk.errors[number]:
                    raise SourceError(chunk.errors[number])
                name = annotated_name(item) if unit.kind == PICTURES else member_name(item, index, member)
                if self._deaths.is_suspect(number):
                    frame, found, took_s = self._deaths.alone(number, self._picture, item, index, data, name)
                else:
                    frame, found, took_s = self._picture(item, index, data, name)
                rows.found(frame, found, member=member)
                rows.counts.detect_s += took_s
        if chunk.failure:
            rows.failed(unit.items[0].place.shown, None, chunk.failure)
        part = self._write(rows, unit.number, chunk.number, chunk.last)
        self._deaths.end()
        return part

    def _good_rows(self, unit: WorkItem) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of pictures that did not fail, from the part that is written again."""
        place = self._job.output / FOLDER / part_name(unit.number, 0, True)
        kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in pq.read_table(pa.BufferReader(read_bytes(place))).to_pylist():
            if row["error"] is None:
                kept[row["source"]].append(row)
        return kept

    def _picture(self, item: Item, index: int, data: bytes | None, name: str) -> tuple[Frame, Detections, float]:
        """Run the steps that may kill a process: decode, detect, draw. Return the frame without its pixels."""
        shown = item.place.shown
        data = read_picture(item.place) if data is None else data
        image, warnings = decode_image(data, shown)
        frame = Frame(image, index, None, shown, warnings)
        began = time.perf_counter()
        found = self._model.detect(image)
        took_s = time.perf_counter() - began
        if self._job.annotated:
            write_picture(self._job.output / ANNOTATED / name, self._paint(image, found), read_metadata(data))
        return replace(frame, image=image[:0, :0].copy()), found, took_s

    def _video(self, unit: WorkItem, done: list[int]) -> Iterator[dict[str, Any]]:
        """Make the parts of a video or a segment of one."""
        self._deaths.begin(unit.number, 0)
        if not self._deaths.is_suspect(0):
            yield from self._parts_of_video(unit, done)
        else:
            try:
                yield from self._deaths.alone(0, self._all_parts_of_video, unit, done)
            except SourceError as error:
                yield from self._broken_off(unit, str(error))
        self._deaths.end()

    def _all_parts_of_video(self, unit: WorkItem, done: list[int]) -> list[dict[str, Any]]:
        return list(self._parts_of_video(unit, done))

    def _broken_off(self, unit: WorkItem, error: str) -> Iterator[dict[str, Any]]:
        """End a video after the parts that were written before it killed its process."""
        finished = Finished(self._job.output)
        if not finished.has_all(unit.number):
            rows = self._new_rows()
            rows.failed(unit.items[0].place.shown, None, error)
            yield self._write(rows, unit.number, len(finished.chunks(unit.number)), True)

    def _parts_of_video(self, unit: WorkItem, done: list[int]) -> Iterator[dict[str, Any]]:
        """Decode and write part after part, and skip the finished ones."""
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
                began = time.perf_counter()
                found = self._model.detect(frame.image)
                rows.counts.detect_s += time.perf_counter() - began
                rows.found(frame, found)
                if clip is not None:
                    clip.add(self._paint(frame.image, found), frame)
        for note in notes:
            rows.warn(note)
        if number not in done:
            yield self._write(rows, unit.number, number, True, clip)

    def _decoded(self, unit: WorkItem, notes: list[str]) -> Iterator[Frame | str]:
        """Decode a video or a segment of one; report an error at the end, if there was one."""
        item = unit.items[0]
        path = shown = item.place.shown
        try:
            path = local_file(item.place, self._job.run)
            if item.size is not None and os.path.getsize(path) != item.size:
                raise SourceError(f"has changed since the run began, when it had {item.size} bytes")
            if unit.segment is not None:
                frames = read_segment(path, unit.segment, self._job.stride)
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

    def _paint(self, image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
        return draw(image, found, labels=self._model.labels, mask_threshold=self._model.settings.mask_threshold)

    def _new_rows(self) -> Rows:
        return Rows(self._model.labels, self._model.settings.mask_threshold, self._job.soft_masks)

    def _new_clip(self) -> Clip | None:
        return Clip() if self._job.annotated else None

    def _write(self, rows: Rows, unit: int, number: int, last: bool, clip: Clip | None = None) -> dict[str, Any]:
        """Write a part after its clip: if the part exists, everything that belongs to it does."""
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
    """Turn errors that the picture can cause into a row; errors of writing outputs are not caught."""
    try:
        yield
    except (SourceError, ModelError, ValueError, MemoryError) as error:
        rows.failed(source, index, str(error) or "out of memory", member)
    except cv2.error as error:
        rows.failed(source, index, reason(error), member)
