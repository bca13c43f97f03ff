"""From files to units of work; videos are looked into by Ray, several at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import ray.data

from cvmask.batches.fetching import local_file
from cvmask.batches.storage import Place
from cvmask.batches.video_segments import cut
from cvmask.batches.work_items import PICTURES, VIDEO, Item, Stretch, Unit
from cvmask.errors import SourceError

_MOST_BLOCKS = 200


def plan(items: Sequence[Item], part_frames: int, run: str) -> list[Unit]:
    """Make the work list: pictures in groups, shards and files one by one, videos in stretches, in order."""
    stretches = _cut_videos([item for item in items if item.kind == VIDEO], part_frames, run)
    units: list[Unit] = []
    group: list[Item] = []
    for item in items:
        full = len(group) == part_frames
        if group and (full or item.kind != PICTURES or item.place.root != group[0].place.root):
            units.append(Unit(len(units), PICTURES, tuple(group)))
            group = []
        if item.kind == PICTURES:
            group.append(item)
            continue
        for stretch in stretches.get(item) or [None]:
            units.append(Unit(len(units), item.kind, (item,), stretch))
    if group:
        units.append(Unit(len(units), PICTURES, tuple(group)))
    return units


def _cut_videos(videos: Sequence[Item], part_frames: int, run: str) -> dict[Item, list[Stretch | None]]:
    if not videos:
        return {}
    rows = [
        {"index": index, "root": item.place.root, "path": item.place.path, "least": part_frames, "run": run}
        for index, item in enumerate(videos)
    ]
    cuts = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map(_cut_one)
    found = {row["index"]: json.loads(row["stretches"]) for row in cuts.iter_rows()}
    return {item: [Stretch(*stretch) for stretch in found[index]] for index, item in enumerate(videos)}


def _cut_one(row: dict[str, Any]) -> dict[str, Any]:
    """Cut one video; nothing where that is not possible: reading it as a whole will say why."""
    try:
        stretches = cut(local_file(Place(row["root"], row["path"]), row["run"]), row["least"])
    except (SourceError, OSError):
        stretches = []
    return {"index": row["index"], "stretches": json.dumps(stretches)}
