"""Annotated pictures and videos of a batch, in the folder ``annotated`` of its output."""

from __future__ import annotations

import importlib
import itertools
import json
import posixpath
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
from numpy.typing import NDArray

from cvmask.batches.listing import annotated_name
from cvmask.batches.storage import LOCAL, StoragePath, file_size, read_bytes, write_bytes
from cvmask.batches.video_segments import local_file
from cvmask.batches.work_items import VIDEO, Finished, WorkItem, note_of
from cvmask.errors import CvmaskError, SinkError, SourceError, install
from cvmask.formats.metadata import Metadata
from cvmask.streams.sinks.av_encoder import Sound, has_av
from cvmask.streams.sinks.image_sink import encode_image
from cvmask.streams.sinks.video_sink import VideoFile
from cvmask.streams.sources.source import Frame

FOLDER, CLIPS = "annotated", "annotated/_clips"


def write_picture(place: StoragePath, image: NDArray[np.uint8], metadata: Metadata) -> None:
    """Write the annotated picture; if it is too large for its format, a PNG with a similar name is written."""
    data = encode_image(posixpath.splitext(place.path)[1], image, metadata)
    if data is None:
        place = StoragePath(place.root, f"{place.path}.png")
        data = encode_image(".png", image, metadata)
    if data is None:
        raise SinkError(f"{place.shown}: OpenCV cannot write {image.shape[1]}x{image.shape[0]} pixels so")
    write_bytes(place, data)


def clip_place(output: StoragePath, part: str) -> StoragePath:
    """Return where the annotated clip of a part is kept until all clips are joined."""
    return output / CLIPS / f"{part}.mp4"


class Clip:
    """The annotated frames of one part of a video, encoded into a temporary file on this machine."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cvmask-clip-")
        self._path = Path(self._folder.name) / "clip.mp4"
        self._video = VideoFile(self._path, use_av=True)
        self.first_s: float | None = None

    def add(self, image: NDArray[np.uint8], frame: Frame) -> None:
        """Encode a frame."""
        self.first_s = frame.time_s if self.first_s is None else self.first_s
        self._video.write(image, frame)

    def finish(self, place: StoragePath) -> None:
        """Write the clip to its place; no file if it has no frame."""
        with self._folder:
            self._video.close()
            if self.first_s is not None:
                write_bytes(place, self._path.read_bytes())

    def discard(self) -> None:
        """End without a file."""
        with self._folder:
            self._video.discard()


def need_av() -> None:
    """CvmaskError if annotated videos cannot be made here."""
    if not has_av():
        raise CvmaskError(f"annotated videos of a batch need PyAV: {install('av')}")


def join_videos(output: StoragePath, units: Sequence[WorkItem], finished: Finished, run: str, sound: bool) -> None:
    """Join the clips of every video, except those that are joined already."""
    rows = []
    videos = [unit for unit in units if unit.kind == VIDEO]
    for item, group in itertools.groupby(videos, lambda unit: unit.items[0]):
        parts = [place for unit in group for place in finished.of(unit.number)]
        name = annotated_name(item)
        if file_size(output / FOLDER / name) is None:
            row = {"name": name, "parts": [place.path for place in parts], "output": tuple(output)}
            rows.append({"job": json.dumps({**row, "source": tuple(item.place) if sound else None, "run": run})})
    if rows:
        ray.data.from_items(rows, override_num_blocks=len(rows)).map(_join_one).materialize()
    with suppress(OSError):
        output.filesystem.delete_dir((output / CLIPS).path)


def _join_one(row: dict[str, Any]) -> dict[str, Any]:
    """Join the clips of one video; nothing is written if it has none."""
    job = json.loads(row["job"])
    output = StoragePath(*job["output"])
    source = None
    if job["source"] is not None:
        with suppress(SourceError):
            source = local_file(StoragePath(*job["source"]), job["run"])
    with tempfile.TemporaryDirectory(prefix="cvmask-join-") as folder:
        joined = Path(folder) / ("joined" + Path(job["name"]).suffix)
        clips = []
        for path in job["parts"]:
            first_s = note_of(StoragePath(output.root, path)).get("first_s")
            if first_s is not None:
                clips.append((clip_place(output, path.rsplit("/", 1)[-1]), first_s))
        if clips:
            _join(joined, clips, Path(folder), source)
            write_bytes(output / FOLDER / job["name"], joined.read_bytes())
    return {"name": job["name"]}


def _join(joined: Path, clips: Sequence[tuple[StoragePath, float]], folder: Path, source: str | None) -> None:
    av = importlib.import_module("av")
    zero_s = clips[0][1]
    stream, voice = None, None
    with av.open(str(joined), "w") as container:
        for place, first_s in clips:
            with av.open(_near(place, folder)) as clip:
                pictures = clip.streams.video[0]
                if stream is None:
                    stream = container.add_stream_from_template(pictures)
                    voice = None if source is None else Sound(av, source, container, zero_s)
                shift = round((first_s - zero_s) / pictures.time_base)
                for packet in clip.demux(pictures):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    container.mux(packet)
                    if voice is not None:
                        voice.copy_until(float(packet.pts * packet.time_base))
        if voice is not None:
            voice.close()


def _near(place: StoragePath, folder: Path) -> str:
    """Give a clip's path on this machine."""
    if place.root == LOCAL:
        return place.path
    path = folder / "clip.mp4"
    path.write_bytes(read_bytes(place))
    return str(path)
