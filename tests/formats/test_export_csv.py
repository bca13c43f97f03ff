"""CSV is read by pandas."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import LABELS, write_all

from cvmask.formats.lines import COLUMNS, CsvWriter
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
