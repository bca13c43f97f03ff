"""CSV is read by pandas."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS, write_all

from cvmask.formats.lines import COLUMNS, CsvWriter, unguarded
from cvmask.formats.record import Record
from cvmask.results.detections import Detections


def test_csv_is_read_by_pandas(tmp_path: Path, scene: Detections) -> None:
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    write_all(CsvWriter(tmp_path / "all.csv", LABELS), scene)
    table = pandas.read_csv(tmp_path / "all.csv")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 11
    first = table.iloc[1]
    assert (first["name"], first["label"], first["object"], first["class_id"]) == (
        "street.jpg",
        "rîng, big",
        2,
        1,
    )
    assert first[["left", "top", "right", "bottom"]].tolist() == [110, 20, 249, 139]
    assert table["area"].tolist()[:4] == scene.area().tolist()
    assert table["confidence"].tolist()[:4] == [0.99, 0.75, 0.5, 0.625]
    assert table["tracker_id"].isna().tolist() == [True] * 7 + [False] * 4
    assert table["frame_index"].dropna().tolist() == [0] * 3 + [17] * 4
    assert set(table["time_s"].dropna()) == {0.0, 0.567}


@pytest.mark.parametrize("text", ["=1+1", "+a", "-b", "@SUM(A1)", "'=x", "'", "''", "plain", "", "\t=1", "'plain"])
def test_a_text_that_a_spreadsheet_would_run_is_marked_and_comes_back(tmp_path: Path, text: str) -> None:
    found = Detections(
        xyxy=np.array([[1, 1, 4, 4]], np.float32),
        confidence=np.ones(1, np.float32),
        class_id=np.zeros(1, np.int32),
        soft_masks=np.ones((1, 2, 2), np.float32),
        frame_size=(6, 8),
    )
    with CsvWriter(tmp_path / "a.csv", [text]) as writer:
        writer.write(Record(f"{text}.jpg", found))
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    for field, was in ((row["label"], text), (row["name"], f"{text}.jpg")):
        assert field[:1] not in ("=", "+", "-", "@", "\t")
        assert unguarded(field) == was
