"""The pieces of annotated videos, joined in order without encoding them again, with the sound of the source."""

from __future__ import annotations

import importlib
import itertools
import json
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray.data

from cvmask.batches.annotated import CLIPS, FOLDER, clip_place
from cvmask.batches.fetching import local_file
from cvmask.batches.names import annotated_name
from cvmask.batches.parts import Finished, note_of
from cvmask.batches.storage import LOCAL, Place, file_size, read_bytes, write_bytes
from cvmask.batches.work_items import VIDEO, Unit
from cvmask.errors import SourceError
from cvmask.streams.sinks.sound import Sound


def join_videos(output: Place, units: Sequence[Unit], finished: Finished, run: str, sound: bool) -> None:
    """Join the clips of every video; those that are joined already are left as they are."""
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
    output = Place(*job["output"])
    source = None
    if job["source"] is not None:
        with suppress(SourceError):
            source = local_file(Place(*job["source"]), job["run"])
    with tempfile.TemporaryDirectory(prefix="cvmask-join-") as folder:
        joined = Path(folder) / ("joined" + Path(job["name"]).suffix)
        clips = []
        for path in job["parts"]:
            first_s = note_of(Place(output.root, path)).get("first_s")
            if first_s is not None:
                clips.append((clip_place(output, path.rsplit("/", 1)[-1]), first_s))
        if clips:
            _join(joined, clips, Path(folder), source)
            write_bytes(output / FOLDER / job["name"], joined.read_bytes())
    return {"name": job["name"]}


def _join(joined: Path, clips: Sequence[tuple[Place, float]], folder: Path, source: str | None) -> None:
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


def _near(place: Place, folder: Path) -> str:
    """Give a clip's path on this machine."""
    if place.root == LOCAL:
        return place.path
    path = folder / "clip.mp4"
    path.write_bytes(read_bytes(place))
    return str(path)
