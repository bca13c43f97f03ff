from __future__ import annotations

from pathlib import Path

import pytest

from cvmask.errors import ModelError
from cvmask.label_map import read_label_map
from cvmask.model_files import find_files, is_label_map


def fill(folder: Path, *names: str, text: str = "node {}") -> None:
    for name in names:
        (folder / name).write_text(text)


def test_folder_gives_the_usual_names(tmp_path: Path) -> None:
    fill(tmp_path, "frozen_inference_graph.pb", "graph.pbtxt", "labels.names", "pipeline.config", "other.pb")
    files = find_files(tmp_path)
    assert files.graph.name == "frozen_inference_graph.pb"
    assert files.text is not None
    assert files.text.name == "graph.pbtxt"
    assert files.labels is not None
    assert files.config is not None


def test_folder_takes_its_one_graph_and_its_one_text_graph(tmp_path: Path) -> None:
    fill(tmp_path, "mine.pb", "mask_rcnn_inception_v2_coco_2018_01_28.pbtxt")
    fill(tmp_path, "label_map.pbtxt", text="# pets\n\nitem {\n id: 1\n name: 'cat'\n}\n")
    files = find_files(tmp_path)
    assert files.graph.name == "mine.pb"
    assert files.text is not None
    assert files.text.name.startswith("mask_rcnn")
    assert files.labels is not None
    assert files.labels.name == "label_map.pbtxt"


def test_graph_file_finds_what_lies_beside_it(tmp_path: Path) -> None:
    fill(tmp_path, "a.pb", "a.pbtxt", "b.pb", "b.pbtxt")
    files = find_files(tmp_path / "b.pb")
    assert files.text == tmp_path / "b.pbtxt"


def test_text_graph_of_another_name_is_not_given_to_one_of_several_graphs(tmp_path: Path) -> None:
    fill(tmp_path, "a.pb", "b.pb", "c.pbtxt")
    assert find_files(tmp_path / "a.pb").text is None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "needed frozen_inference_graph.pb or one .pb file, found none"),
        (("a.pb", "b.pb"), "found a.pb, b.pb: name the file itself"),
        (("saved_model.pb",), "is a SavedModel"),
        (("a.pb", "x.pbtxt", "y.pbtxt"), r"several text graphs \(x.pbtxt, y.pbtxt\)"),
    ],
)
def test_folder_that_is_not_clear_is_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    fill(tmp_path, *names)
    with pytest.raises(ModelError, match=message):
        find_files(tmp_path)


def test_label_map_is_read_in_the_order_of_ids_with_gaps(tmp_path: Path) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(
        """item { name: "/m/01" id: 3 display_name: "dog # big" }  # the dog
           item {
             id: 1
             name: 'cat'
           }"""
    )
    assert is_label_map(path)
    assert read_label_map(path) == ["cat", "class 1", "dog # big"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item { id: 0 name: 'background' }", "id from 1 up"),
        ("item { id: 1 }", "and a name"),
        ("item { id: 1 name: 'a' } item { id: 1 name: 'b' }", "two items have the id 1"),
        ("nothing", "found none"),
    ],
)
def test_label_map_that_is_wrong_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.pbtxt"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        read_label_map(path)
