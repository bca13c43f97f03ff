"""JSON lines give back the same records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS, records, write_all

from cvmask.errors import SourceError
from cvmask.formats.lines import JsonlWriter, read_jsonl
from cvmask.results.detections import Detections
from cvmask.streams.sinks import JsonLines


def test_jsonl_gives_back_the_same_records(tmp_path: Path, scene: Detections) -> None:
    write_all(JsonlWriter(tmp_path / "all.jsonl", LABELS), scene)
    assert list(read_jsonl(tmp_path / "all.jsonl")) == records(scene)
    line = json.loads((tmp_path / "all.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["labels"] == ["disc", "rîng, big", "two parts", "rîng, big"]
    assert line["area"] == scene.area().tolist()
    assert line["rle"] == [one["counts"] for one in scene.rle()]


def test_read_jsonl_names_a_damaged_line_and_a_missing_file(tmp_path: Path, scene: Detections) -> None:
    path = tmp_path / "all.jsonl"
    write_all(JsonlWriter(path, LABELS), scene)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"all\.jsonl: line 4 is not a record"):
        list(read_jsonl(path))
    for damaged in (b"\xff\n", b"[" * 200_000):
        path.write_bytes(damaged)
        with pytest.raises(SourceError, match=r"all\.jsonl: line 1 is not a record"):
            list(read_jsonl(path))
    with pytest.raises(SourceError, match="absent cannot be read: No such file"):
        list(read_jsonl(tmp_path / "absent"))


def test_the_lines_of_a_video_are_told_apart(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "a.jsonl", ["cat"]) as sink:
        sink.write(np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(SourceError, match=r"a.jsonl: line 1 has another format: .*sinks.read_json_lines"):
        list(read_jsonl(tmp_path / "a.jsonl"))
