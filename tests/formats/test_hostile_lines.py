"""JSON lines that ask for more than they hold, or tell what cannot be: refused by file and line, in little memory."""

from __future__ import annotations

import base64
import json
import os
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvmask.errors import SourceError
from cvmask.formats.lines import read_jsonl, to_line
from cvmask.formats.record import Record
from cvmask.results.detections import Detections
from cvmask.streams.sinks.json_sink import read_json_lines

LABELS = ["cat", "dog"]


def sound() -> dict[str, Any]:
    found = Detections(
        xyxy=np.array([[1, 2, 30, 20]], np.float32),
        confidence=np.array([0.5], np.float32),
        class_id=np.array([1], np.int32),
        soft_masks=np.full((1, 15, 15), 0.75, np.float32),
        frame_size=(24, 32),
    )
    return to_line(Record("a.png", found, None, None), LABELS)


def packed(shape: list[int], raw: bytes) -> dict[str, Any]:
    return {"soft_masks": {"shape": shape, "float32_zlib_base64": base64.b64encode(raw).decode()}}


def zeros_zlib(count: int) -> bytes:
    packer, piece = zlib.compressobj(9), bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(count >> 20)) + packer.flush()


ONE = zlib.compress(np.zeros(225, "<f4").tobytes())
DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "bomb": (packed([1, 15, 15], zeros_zlib(1 << 30)), "needed 900 bytes for shape .*, got more"),
    "bomb with its shape": (packed([1, 1 << 14, 1 << 14], zeros_zlib(1 << 30)), "67108864 values at most"),
    "masks of others": (packed([4, 15, 15], ONE), r"shape must be \(1, h, w\)"),
    "shape of minus one": (packed([1, -1, 15], ONE), r"shape must be \(1, h, w\)"),
    "shape of no numbers": (packed(["a"], ONE), "shape must be"),  # type: ignore[list-item]
    "cut short": (packed([1, 15, 15], ONE[:-3]), "needed 900 bytes|got"),
    "NaN score": ({"confidence": [float("nan")]}, "confidence must be numbers from 0 to 1"),
    "infinite score": ({"confidence": [float("inf")]}, "confidence must be numbers from 0 to 1"),
    "score of 2": ({"confidence": [2.0]}, "confidence must be numbers from 0 to 1"),
    "negative score": ({"confidence": [-0.1]}, "confidence must be numbers from 0 to 1"),
    "negative class": ({"class_id": [-1]}, "class_id must be 0 or more, got -1"),
    "huge class": ({"class_id": [1 << 40]}, "class_id must be whole numbers"),
    "huge frame": ({"frame_size": [1 << 30, 1 << 30]}, "1073741824 pixels at most"),
    "frame of one side": ({"frame_size": [24]}, "frame_size must be height and width"),
    "NaN box": ({"xyxy": [[1, 2, float("nan"), 4]]}, "xyxy must be finite"),
}


def lines_of(kind: str, fields: dict[str, Any]) -> dict[str, Any]:
    if kind == "pictures":
        return fields
    return {"index": 0, "time_s": None, "name": None, "detections": fields}


def read(kind: str, path: Path) -> None:
    list(read_jsonl(path) if kind == "pictures" else read_json_lines(path))


@pytest.mark.parametrize("kind", ["pictures", "video"])
@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_line_is_named_and_takes_little_memory(tmp_path: Path, kind: str, name: str) -> None:
    change, reason = DAMAGE[name]
    path = tmp_path / "a.jsonl"
    lines = [lines_of(kind, sound()), lines_of(kind, {**sound(), **change})]
    if kind == "video":
        lines[1]["index"] = 1
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    began = time.perf_counter()
    tracemalloc.start()
    with pytest.raises(SourceError, match=rf"a\.jsonl: line 2 is not .*{reason}"):
        read(kind, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
    assert time.perf_counter() - began < 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": 3}, "name must be a text, got 3"),
        ({"frame_index": -1}, "frame_index must be a whole number"),
        ({"frame_index": "1"}, "frame_index must be a whole number"),
        ({"time_s": float("nan")}, "time_s must be a number of seconds"),
        ({"time_s": "now"}, "time_s must be a number of seconds"),
    ],
)
def test_place_in_a_video_must_be_one(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({**sound(), **change}) + "\n")
    with pytest.raises(SourceError, match=f"line 1 is not a record of detections: {reason}"):
        list(read_jsonl(path))


def test_class_without_a_label_is_named_in_the_line_that_has_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = {**lines_of("video", sound()), "labels": LABELS}
    second = {**lines_of("video", {**sound(), "class_id": [2]}), "index": 1}
    path.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    with pytest.raises(SourceError, match=r"line 2 is not .*class_id must be below 2, the number of labels, got 2"):
        list(read_json_lines(path))


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no endless file")
@pytest.mark.parametrize("kind", ["pictures", "video"])
def test_line_without_an_end_is_refused(kind: str) -> None:
    with pytest.raises(SourceError, match="/dev/zero: line 1 is longer than 268 MB"):
        read(kind, Path("/dev/zero"))
