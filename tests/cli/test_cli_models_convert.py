from __future__ import annotations

import argparse
import shutil

import pytest
from graph_builder import filled
from zoo_server import clean_home

from cvmask.cli import models
from cvmask.errors import CvmaskError, ModelError, SinkError
from cvmask.graph.model_files import model_files
from cvmask.graph.split import split
from cvmask.graph.text import read_text
from cvmask.models.zoo import GRAPH_FILE
from cvmask.system import folders

GRAPH = folders.path("models/shapes") / GRAPH_FILE


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a graph and nothing else."""
    clean_home(monkeypatch, tmp_path / "home")
    shutil.copy(GRAPH, tmp_path)
    return tmp_path


def convert(*words):
    parser = argparse.ArgumentParser(prog="cvmask")
    models.add_parser(parser.add_subparsers(required=True))
    return models.run(parser.parse_args(["models", "convert", *map(str, words)]))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_convert_writes_beside_the_graph(folder, capsys):
    assert convert(folder / GRAPH_FILE) == 0
    assert capsys.readouterr().out == f"{folder}/graph.pbtxt\n"
    assert split(read_text(folder / "graph.pbtxt")).masks == "detection_masks"
    assert names(folder) == [GRAPH_FILE, "graph.pbtxt"]


def test_convert_beside_other_graphs_takes_the_name_of_its_own(folder, capsys):
    for name in ("a.pb", "b.pb"):
        shutil.copy(folder / GRAPH_FILE, folder / name)
    assert convert(folder / "a.pb") == 0
    assert capsys.readouterr().out == f"{folder}/a.pbtxt\n"
    assert model_files(folder / "b.pb").text is None
    assert model_files(folder / "a.pb").text == folder / "a.pbtxt"
    assert model_files(folder).text is None


def test_files_of_no_graphs_name_belong_to_the_one_that_stands_for_the_folder(folder, capsys):
    shutil.copy(folder / GRAPH_FILE, folder / "b.pb")
    for name in ("labels.names", "pipeline.config"):
        (folder / name).write_text("x")
    assert convert(folder / GRAPH_FILE) == 0
    assert capsys.readouterr().out == f"{folder}/graph.pbtxt\n"
    for model in (folder, folder / GRAPH_FILE):
        found = model_files(model)
        assert (found.text, found.labels) == (folder / "graph.pbtxt", folder / "labels.names")
        assert found.config == folder / "pipeline.config"
    other = model_files(folder / "b.pb")
    assert (other.text, other.labels, other.config) == (None, None, None)


def test_convert_takes_a_folder(folder):
    assert convert(folder) == 0
    assert (folder / "graph.pbtxt").exists()


def test_convert_writes_where_it_is_told(folder):
    (folder / "out").mkdir()
    assert convert(folder, "-o", folder / "mine.pbtxt") == 0
    assert convert(folder, "-o", folder / "mine.pbtxt") == 0
    assert convert(folder, "-o", folder / "out") == 0
    assert names(folder) == [GRAPH_FILE, "mine.pbtxt", "out"]
    assert names(folder / "out") == ["graph.pbtxt"]


def test_convert_does_not_replace_a_text_graph_unasked(folder):
    (folder / "graph.pbtxt").write_text("made by hand")
    with pytest.raises(SinkError, match="already exists: name it with -o"):
        convert(folder)
    assert (folder / "graph.pbtxt").read_text() == "made by hand"


@pytest.mark.parametrize("name", [GRAPH_FILE, "new.pb"])
def test_convert_never_writes_to_a_graph(folder, name):
    with pytest.raises(ModelError, match="would replace a graph"):
        convert(folder, "-o", folder / name)
    assert (folder / GRAPH_FILE).read_bytes() == GRAPH.read_bytes()


def test_convert_makes_the_folder_it_writes_to(folder):
    convert(folder, "-o", folder / "new" / "a.pbtxt")
    assert (folder / "new" / "a.pbtxt").exists()


def test_convert_takes_a_slash_for_a_folder(folder):
    convert(folder, "-o", f"{folder}/newdir/")
    assert names(folder / "newdir") == ["graph.pbtxt"]


def test_convert_into_a_place_that_is_no_folder_is_one_line(folder):
    with pytest.raises(SinkError, match="cannot be written"):
        convert(folder, "-o", folder / GRAPH_FILE / "a.pbtxt")
    assert names(folder) == [GRAPH_FILE]


def test_convert_leaves_nothing_when_the_graph_is_none(folder, monkeypatch):
    def refuse(graph):
        raise ModelError("not a Mask R-CNN")

    monkeypatch.setattr(models, "convert", refuse)
    with pytest.raises(ModelError, match="not a Mask R-CNN"):
        convert(folder)
    assert names(folder) == [GRAPH_FILE]


def test_convert_of_a_missing_model_says_how_to_get_it(folder):
    with pytest.raises(CvmaskError, match="cvmask models download coco"):
        convert("coco")


def test_convert_converts_a_real_export(tmp_path):
    graph = filled("mask_rcnn_inception_v2_2018_07")
    assert convert(graph, "-o", tmp_path) == 0
    ops = [node.op for node in read_text(tmp_path / "graph.pbtxt")]
    assert ops.count("DetectionOutput") == 2
