"""The example of docs/streams.md that counts with supervision runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT


def test_the_counting_example_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("supervision", reason="needs supervision")
    page = (ROOT / "docs" / "streams.md").read_text(encoding="utf-8")
    example = re.search(r"<!-- test: counting -->\n```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    assert len([line for line in example[1].splitlines() if line.strip()]) <= 20
    clip = tmp_path / "crossing.avi"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 25, (160, 160))
    for step in range(6):  # one red square crosses the middle from left to right
        picture = np.full((160, 160, 3), 200, np.uint8)
        cv2.rectangle(picture, (10 + 16 * step, 50), (60 + 16 * step, 100), (0, 0, 200), -1)
        writer.write(picture)
    writer.release()
    code = example[1].replace('"street.mp4", "people"', f'{str(clip)!r}, "shapes"')
    exec(compile(code, "docs/streams.md", "exec"), {})
    said = capsys.readouterr().out
    ways = re.match(r"(\d) went one way, (\d) the other; at most (\d)", said)
    assert ways is not None
    assert sorted(ways.groups()[:2]) == ["0", "1"]
    assert int(ways[3]) >= 1
