"""cvmask benchmark: what it times, and that it says so."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

import cvmask
from cvmask import models, scenes
from cvmask.cli import benchmark
from cvmask.cli.main import main


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "small.png"
    cv2.imwrite(str(path), np.full((64, 80, 3), 127, np.uint8))
    return path


def test_benchmark_reports_stages_workers_and_memory(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["benchmark", str(picture), "-m", "shapes", "--size", "native", "--runs", "2", "--workers", "1,2"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["stages_ms"]) == list(benchmark.STAGES)
    assert report["stages_ms"]["detector"] > 0
    assert list(report["frames_per_s"]) == ["1", "2"]
    assert (report["frame_wh"], report["network_wh"]) == ([80, 64], [80, 64])
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert all(stage in text for stage in benchmark.STAGES)
    assert str(picture.parent) not in text


@pytest.mark.parametrize("name", [".", "../shapes/", "../shapes"])
def test_the_model_is_called_after_its_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models.resolve("shapes"), tmp_path / "shapes")
    monkeypatch.chdir(tmp_path / "shapes")
    assert main(["benchmark", "-m", name, "--size", "64", "--runs", "1", "--workers", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "shapes"


def test_benchmark_gives_the_threads_back() -> None:
    before = cv2.getNumThreads()
    model = cvmask.load("shapes", size="native")
    assert benchmark.time_workers(model, np.zeros((64, 64, 3), np.uint8), 2, 1) > 0
    assert cv2.getNumThreads() == before


@pytest.mark.parametrize(("cpus", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4]), (8, [1, 2, 4, 8])])
def test_usual_counts_of_workers_double_up_to_the_cpus(cpus: int, counts: list[int]) -> None:
    assert benchmark.usual_counts(cpus) == counts


@pytest.mark.parametrize("text", ["0", "1,,2", "two", "-1"])
def test_nonsense_counts_are_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["benchmark", "--workers", text])
    assert stopped.value.code == 2
    assert "needed a whole number from 1 up" in capsys.readouterr().err


def test_timed_detection_is_the_same_detection() -> None:
    model = cvmask.load("shapes", score_threshold=0.01, size="native")
    frame = scenes.make_scene(7, (96, 96), objects=3).image
    found, spent_ms = model.detect_timed(frame)
    assert found == model.detect(frame)
    assert set(spent_ms) == {"resize", "detector", "mask head", "decode"}
