"""cvmask.cli.run_stream: how many models work on a video where nobody said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import cvmask
from cvmask.cli import run_stream
from cvmask.cli.main import main
from cvmask.cli.run_stream import MOST, WORTH_FRAMES, threads_shared_by, usual_workers
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks import read_json_lines


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return cvmask.load("shapes", size="128x96")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(WORTH_FRAMES):
        frame = np.full((48, 64, 3), 230, np.uint8)
        cv2.circle(frame, (20 + index // 2, 24), 14, (40, 40, 200), -1)
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.parametrize(("threads", "expected"), [(1, 1), (2, 2), (3, 3), (MOST + 3, MOST)])
def test_usual_workers_are_the_threads_of_opencv(clip: Path, model: MaskRCNN, threads: int, expected: int) -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(threads)
    try:
        with cvmask.open_source(clip) as source:
            assert usual_workers(source, model) == expected
    finally:
        cv2.setNumThreads(before)


def test_usual_workers_of_a_short_clip_and_without_memory_is_one(
    clip: Path, model: MaskRCNN, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cvmask.open_source(clip, stride=2) as source:
        assert usual_workers(source, model) == 1
    with cvmask.open_source(clip) as source:
        monkeypatch.setattr(run_stream, "available_memory", lambda: model.graph_bytes)
        assert usual_workers(source, model) == 1


@pytest.mark.parametrize("count", [1, 2, 100])
def test_threads_are_shared_for_a_while_only(count: int) -> None:
    before = cv2.getNumThreads()
    with threads_shared_by(count):
        assert cv2.getNumThreads() == max(1, before // count)
    assert cv2.getNumThreads() == before


def test_workers_do_not_change_what_is_found(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = []
    for count in ("1", "2"):
        out = tmp_path / f"{count}.jsonl"
        arguments = ["predict", str(clip), "-m", "shapes", "--size", "128x96", "--conf", "0.3", "-o", str(out)]
        assert main([*arguments, "--workers", count]) == 0
        found.append(list(read_json_lines(out)))
    assert len(found[0]) == WORTH_FRAMES
    assert any(len(detections) for _, detections in found[0])
    assert found[0] == found[1]
