from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cvmask import bundled
from cvmask.cli.main import main

FOLDER = bundled.path("models/shapes")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(FOLDER, tmp_path / "mine"))


def inspect(*words: object) -> int:
    return main(["models", "inspect", *map(str, words)])


def test_inspect_says_what_a_model_is(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(model) == 0
    lines = dict(line.strip().split(":", 1) for line in capsys.readouterr().out.splitlines()[1:])
    facts = {name: value.strip() for name, value in lines.items()}
    assert facts["classes"] == "8"
    assert facts["masks"] == "15x15"
    assert facts["resizer"] == "short side 320, long side at most 640"
    assert facts["anchors"] == "24x24, 40x40, 66x66, 108x108, 176x176 at every 8 pixels"
    assert facts["proposals"] == "32"
    assert facts["outputs"].startswith("detection_boxes, detection_scores")


def test_inspect_of_a_config_that_disagrees_says_so(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = model / "pipeline.config"
    config.write_text(config.read_text().replace("num_classes: 8", "num_classes: 9"))
    assert inspect(model) == 0
    assert "note: num_classes is 9 in the config and 8 in the graph" in capsys.readouterr().out


def test_inspect_counts_labels(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "labels.names").write_text("one\ntwo\n")
    assert inspect(model) == 1
    assert "problem: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "Matterport"),
        (b"node { name: 'a' op: 'Placeholder' }", "text graph"),
    ],
)
def test_inspect_names_what_a_file_really_is(
    tmp_path: Path, content: bytes, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pb"
    path.write_bytes(content)
    assert inspect(path) == 1
    out, err = capsys.readouterr()
    assert words in out + err
    assert "Traceback" not in out + err


def test_inspect_of_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect("nowhere/model.pb") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
