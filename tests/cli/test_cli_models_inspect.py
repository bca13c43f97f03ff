from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cvmask.cli.main import main
from cvmask.system import folders

FOLDER = folders.path("models/shapes")


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
    assert out.count(str(path)) <= 1
    assert "Traceback" not in out + err


def test_inspect_of_what_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect("nowhere/model.pb") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"one\n\nthree\n", b"", b"\xff\xfe\x00", b"item { id: 0 }"])
def test_inspect_survives_a_bad_labels_file(
    model: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (model / "labels.names").write_bytes(content)
    assert inspect(model) == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert "  classes:      8\n" in out
    assert f"  problem: {model / 'labels.names'}" in out
    assert out.count("problem:") == 1


def test_inspect_tells_what_it_found_before_and_after_a_problem(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = model / "graph.pbtxt"
    text.write_text(text.read_text().replace('op: "Sigmoid"', 'op: "Sigmoide"'))
    (model / "labels.names").write_text("one\n")
    assert inspect(model) == 1
    out = capsys.readouterr().out
    assert "masks:        15x15" in out
    assert "OpenCV:       not known: Sigmoide of 24 kinds of layer" in out
    assert "note: graph.pbtxt: OpenCV is not known to have a layer for Sigmoide" in out
    assert "targets:" not in out
    assert "1 labels for 8 classes" in out


def test_inspect_names_targets_from_the_layers(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(model) == 0
    clipped = capsys.readouterr().out
    text = model / "graph.pbtxt"
    value = 'key: "clip"\n    value {\n      b: '
    text.write_text(text.read_text().replace(f"{value}true", f"{value}false"))
    assert inspect(model, "--keep-graph") == 0
    free = capsys.readouterr().out
    assert "opencl-fp16 (anchors clipped by layers of their own)" in clipped
    assert "targets:      cpu, opencl, opencl-fp16;" in free


def test_inspect_prints_the_numbers_of_the_graph_that_runs(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = model / "graph.pbtxt"
    text.write_text(text.read_text().replace("f: 8.0", "f: 16.0"))
    assert inspect(model) == 0
    frozen = capsys.readouterr().out
    assert "step is 16, not 8; the frozen graph's values are used" in frozen
    assert "at every 8 pixels" in frozen
    assert "text graph:   made from the graph" in frozen
    assert inspect(model, "--keep-graph") == 0
    assert "at every 16 pixels" in capsys.readouterr().out
