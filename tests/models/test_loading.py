from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from graph_builder import OFFICIAL, filled
from graph_builder import shared as shared_file

import cvmask
from cvmask import scenes
from cvmask.drawing.effects import blur_background
from cvmask.models import load
from cvmask.streams.sources import open_source
from cvmask.system import folders

FOLDER = folders.path("models/shapes")


def test_load_takes_a_name_a_folder_and_a_graph_file() -> None:
    frame = scenes.make_scene(3).image
    by_name = cvmask.load("shapes")
    found = by_name.detect(frame)
    for place in (FOLDER, str(FOLDER), FOLDER / "frozen_inference_graph.pb"):
        model = cvmask.load(place)
        assert model.labels == by_name.labels
        assert model.resizer == by_name.resizer
        assert model.detect(frame) == found


def test_load_of_a_graph_alone_makes_its_text(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "frozen_inference_graph.pb", tmp_path / "mine.pb")
    frame = scenes.make_scene(3).image
    model = cvmask.load(tmp_path / "mine.pb")
    assert model.labels == tuple(f"class {i}" for i in range(8))
    assert model.resizer == cvmask.load("shapes").resizer
    assert model.detect(frame) == cvmask.load("shapes").detect(frame)


def test_load_takes_labels_as_names_as_a_file_and_as_a_label_map(tmp_path: Path) -> None:
    names = [f"thing {i}" for i in range(8)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    (tmp_path / "map.pbtxt").write_text("item { id: 2 name: 'two' }")
    assert cvmask.load("shapes", labels=names).labels == tuple(names)
    assert cvmask.load("shapes", labels=tmp_path / "names.txt").labels == tuple(names)
    assert cvmask.load("shapes", labels=tmp_path / "map.pbtxt").labels[:3] == ("class 0", "two", "class 2")


@pytest.mark.parametrize(
    ("classes", "ids"),
    [(["circle"], (0,)), (["Arrow", "star"], (3, 7)), ([1, "5"], (1, 5)), ([], ()), (["ring", 5], (5,))],
)
def test_class_ids_takes_names_and_ids(classes: list[str | int], ids: tuple[int, ...]) -> None:
    assert load.class_ids(classes, scenes.LABELS) == ids


@pytest.mark.parametrize("item", ["circel", "8", 8, -1, ""])
def test_class_ids_refuses_what_is_not_there(item: str | int) -> None:
    with pytest.raises(ValueError, match="there is no class"):
        load.class_ids([item], scenes.LABELS)


def test_load_refuses_options_out_of_range_before_it_reads_anything() -> None:
    with pytest.raises(ValueError, match="score_threshold"):
        cvmask.load("no such model", score_threshold=2)


def test_load_of_an_unknown_target_is_a_target_error() -> None:
    with pytest.raises(cvmask.TargetError, match="abacus"):
        cvmask.load("shapes", target="abacus")


def test_proposals_change_the_first_stage() -> None:
    frame = scenes.make_scene(7, objects=8).image
    few = cvmask.load("shapes", proposals=4, score_threshold=0.05).detect(frame)
    many = cvmask.load("shapes", score_threshold=0.05).detect(frame)
    assert len(few) < len(many)


@pytest.mark.skipif(not hasattr(cv2.dnn, "readNetFromTensorflow"), reason="ONNX needs more of a graph than constants")
def test_official_text_graph_goes_with_its_graph(tmp_path: Path) -> None:
    """The pair most users have: here the graph holds the constants only, with seeded weights."""
    text = shared_file(*OFFICIAL)
    graph = filled("mask_rcnn_inception_v2_coco_2018_01_28.consts")
    shutil.copy(text, tmp_path)
    (tmp_path / "frozen_inference_graph.pb").symlink_to(graph)
    model = cvmask.load(tmp_path, size="128x128", score_threshold=0.0)
    assert len(model.labels) == 90
    assert model.labels[0] == "person"
    found = model.detect(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    assert found.soft_masks.shape[1:] == (15, 15)


@pytest.mark.skipif(not hasattr(cv2.dnn, "ENGINE_CLASSIC"), reason="needs OpenCV 5, which has two engines")
def test_an_engine_forced_by_the_environment_is_named() -> None:
    code = "import cvmask; cvmask.load('shapes')"
    environment = {**os.environ, "OPENCV_FORCE_DNN_ENGINE": "2"}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.rstrip().endswith("OPENCV_FORCE_DNN_ENGINE=2 requests: remove it from the environment")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"proposals": 1.5}, "proposals must be a whole number from 1 up, got 1.5"),
        ({"proposals": True}, "proposals must be a whole number"),
        ({"labels": [None] * 8}, "labels must be a file or a list of names, got None in the list"),
        ({"labels": {0: "a"}}, "labels must be a file or a list of names, got dict"),
        ({"labels": b"abcdefgh"}, "labels must be a file or a list of names, got bytes"),
    ],
)
def test_options_of_another_type_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        cvmask.load("shapes", **options)


@pytest.mark.parametrize("proposals", [0, 1001, 5000])
def test_proposals_out_of_range_are_refused_before_the_model_is_read(proposals: int) -> None:
    with pytest.raises(ValueError, match=f"proposals must be a .*number from 1 .*, got {proposals}"):
        cvmask.load("no such model", proposals=proposals)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<!DOCTYPE html>\n" * 8, "a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n", "a Git LFS pointer"),
    ],
)
def test_labels_that_are_something_else_are_named(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(cvmask.ModelError, match=f"names.txt: {error}.*needed class names, one per line"):
        cvmask.load("shapes", labels=tmp_path / "names.txt")


def test_a_wrong_count_of_names_is_that_of_the_names() -> None:
    with pytest.raises(cvmask.ModelError, match=r"^labels: 3 labels for 8 classes"):
        cvmask.load("shapes", labels=["a", "b", "c"])


def test_a_name_means_every_class_that_has_it() -> None:
    assert load.class_ids(["a", "2"], ["a", "b", "c", "A"]) == (0, 2, 3)


def test_wrong_types_are_answered_by_what_came() -> None:
    with pytest.raises(TypeError, match=r"model must be a name, a folder or a \.pb file, got NoneType"):
        cvmask.load(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got an array: give it to model\.detect"):
        open_source(np.zeros((9, 9, 3), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"detections must be cvmask.Detections, .* got NoneType"):
        blur_background(np.zeros((9, 9, 3), np.uint8), None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"no class 'sun': this model has .*star.* \(ids 0 to 7\)"):
        cvmask.load("shapes", classes=["sun"])


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("disc", (0,)),
        ("rîng, big", (1,)),
        ("RÎNG, BIG,disc", (0, 1)),
        ("disc, rîng, big ,two parts", (0, 1, 2)),
        ("big", (3,)),
        ("rîng, big, big, really, big", (1, 4)),
        ("2,0,", (0, 2)),
    ],
)
def test_a_class_with_a_comma_in_its_name_can_be_chosen(text: str, ids: tuple[int, ...]) -> None:
    labels = ["disc", "rîng, big", "two parts", "big", "big, really, big"]
    assert load.class_ids(text, labels) == ids


def test_a_text_of_many_commas_is_split_at_once() -> None:
    with pytest.raises(ValueError, match="there is no class"):
        load.class_ids("a," * 100_000, ["a, b", "c"])
