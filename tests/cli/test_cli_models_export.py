from __future__ import annotations

import argparse
import errno
import json
import shutil

import pytest
from zoo_server import clean_home

from cvmask.cli import models, options
from cvmask.cli.main import main
from cvmask.models.zoo import GRAPH_FILE
from cvmask.system import folders

NAMES = ["box_head.onnx", "features.onnx", "mask_head.onnx", "mask_rcnn.onnx", "model.json"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a model and its labels."""
    clean_home(monkeypatch, tmp_path / "home")
    place = tmp_path / "model"
    place.mkdir()
    shutil.copy(folders.path("models/shapes") / GRAPH_FILE, place)
    (place / "labels.names").write_text("\n".join("abcdefgh") + "\n")
    return place


def test_export_writes_the_networks_and_what_they_need(folder, tmp_path, capsys):
    assert main(["models", "export", str(folder), "-o", f"{tmp_path}/a/b"]) == 0
    out = tmp_path / "a" / "b"
    assert sorted(path.name for path in out.iterdir()) == NAMES
    assert sorted(capsys.readouterr().out.split()) == [f"{out}/{name}" for name in NAMES]
    told = json.loads((out / "model.json").read_text())
    assert told["labels"] == list("abcdefgh")
    assert told["second_stage"]["score_threshold"] == pytest.approx(0.02)


def test_the_score_floor_of_the_command_is_in_the_files(folder, tmp_path):
    for name, more in (("usual", []), ("higher", ["--format", "onnx", "--score-threshold", "0.75"])):
        assert main(["models", "export", str(folder), "-o", f"{tmp_path}/{name}", *more]) == 0
    told = json.loads((tmp_path / "higher" / "model.json").read_text())
    assert told["second_stage"]["score_threshold"] == 0.75
    usual, higher = ({name: (tmp_path / one / name).read_bytes() for name in NAMES} for one in ("usual", "higher"))
    same = [name for name in NAMES if usual[name] == higher[name]]
    assert same == ["box_head.onnx", "features.onnx", "mask_head.onnx"]


def test_all_files_or_none(folder, tmp_path, monkeypatch, capsys):
    """A disk that is full at the third file leaves what was there before, and nothing of the new ones."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "features.onnx").write_bytes(b"before")
    real, opened = models.whole_file, []

    def full(place, mode):
        opened.append(place)
        if len(opened) == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(place))
        return real(place, mode)

    monkeypatch.setattr(models, "whole_file", full)
    assert main(["models", "export", str(folder), "-o", str(out)]) == 1
    assert len(opened) == 3
    assert [path.name for path in out.iterdir()] == ["features.onnx"]
    assert (out / "features.onnx").read_bytes() == b"before"
    assert capsys.readouterr().err.count("\n") == 1


def test_what_cannot_be_exported_is_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["models", "export", str(folder), "-o", str(tmp_path / "file")]) == 1
    assert f"{tmp_path}/file" in capsys.readouterr().err
    (folder / GRAPH_FILE).write_bytes(b"<html>")
    assert main(["models", "export", str(folder), "-o", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [[], ["-o", "x", "--format", "tflite"], ["-o", "x", "--conf", "2"]])
def test_words_that_mean_nothing_are_refused(words):
    parser = argparse.ArgumentParser(prog="cvmask")
    models.add_parser(parser.add_subparsers(required=True))
    with pytest.raises(SystemExit):
        parser.parse_args(["models", "export", "shapes", *words])
    assert options.share("1") == 1.0
