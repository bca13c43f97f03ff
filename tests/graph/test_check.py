"""cvmask.graph.check, kinds, folder, config and cache: problems in words, before cv2 sees a file."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from graph_builder import OFFICIAL, Builder, Shape, Type, message, number, shared, skeleton

from cvmask.cli.main import main
from cvmask.errors import ModelError
from cvmask.graph import cache, check
from cvmask.graph import text as text_module
from cvmask.graph.check import disagreements, read_config
from cvmask.graph.convert import clip_apart, scale_by_proposal
from cvmask.graph.describe import read_facts
from cvmask.graph.graph_def import read_graph
from cvmask.graph.model_files import ModelFiles, identify, model_files
from cvmask.graph.split import set_score_floor, split
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.models.audit import self_check
from cvmask.models.load import load
from cvmask.system import folders

SHAPES = folders.path("models/shapes")


def graph_bytes():
    b = Builder()
    b.node("Placeholder", "image_tensor", dtype=Type(4), shape=Shape((-1, -1, -1, 3)))
    return b.bytes()


@pytest.mark.parametrize(
    ("name", "data", "kind", "words"),
    [
        ("a.pb", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "lfs", "git lfs pull"),
        ("a.pb", b"\n\n<!DOCTYPE html><html>", "html", "a web page"),
        ("a.pbtxt", b"<html>", "html", "a web page"),
        ("mask_rcnn_coco.h5", b"\x89HDF\r\n\x1a\n\0\0", "h5", "Matterport"),
        ("m.keras", b"PK\x03\x04....", "keras", "a Keras model"),
        ("m.pth", b"PK\x03\x04....", "torch", "PyTorch"),
        ("m.zip", b"PK\x03\x04....", "archive", "unpack it first"),
        ("m.tar.gz", b"\x1f\x8b\x08", "archive", "unpack it first"),
        ("m.tflite", b"\x1c\0\0\0TFL3", "tflite", "TensorFlow Lite"),
        ("m.onnx", number(1, 8) + message(2, "pytorch"), "onnx", "ONNX"),
        ("m.pb", number(1, 8) + message(2, "pytorch"), "onnx", "ONNX"),
        ("saved_model.pb", number(1, 1) + message(2, b"\x0a\x02hi"), "saved_model", "graph.pb beside it"),
        ("model.ckpt-5.meta", b"\x0a\x02\x01\x02", "meta_graph", "export_inference_graph.py"),
        ("model.ckpt.index", b"\x00\x01", "checkpoint", "export_inference_graph.py"),
        ("checkpoint", b'model_checkpoint_path: "model.ckpt"', "checkpoint", "training checkpoint"),
        ("pipeline.config", b"# c\nmodel {\n", "config", "a pipeline.config"),
        ("map.pbtxt", b"item {\n id: 1\n}", "label_map", "a label map"),
        ("notes.txt", b"hello there", "unknown", "neither a frozen graph"),
        ("noise.pb", b"\xff\x00\x13\x37", "unknown", "neither a frozen graph"),
    ],
)  # fmt: skip
def test_identify_names_the_kind_and_the_cure(tmp_path, name, data, kind, words):
    path = tmp_path / name
    path.write_bytes(data)
    found = identify(path)
    assert found.name == kind
    assert words in found.problem
    assert "\n" not in found.problem


def test_identify_accepts_graphs_and_text_graphs(tmp_path):
    (tmp_path / "a.pb").write_bytes(graph_bytes())
    (tmp_path / "a.pbtxt").write_text('# made by x\n\nnode { name: "a" op: "B" }')
    assert (identify(tmp_path / "a.pb").name, identify(tmp_path / "a.pbtxt").name) == ("graph", "text")
    assert identify(tmp_path).name == "folder"


def test_identify_says_what_a_folder_is(tmp_path):
    tf2, empty = tmp_path / "tf2", tmp_path / "empty"
    for name in ("saved_model", "checkpoint"):
        (tf2 / name).mkdir(parents=True)
    empty.mkdir()
    assert "TensorFlow 2 zoo" in identify(tf2).problem
    assert "without a .pb file (it holds nothing)" in identify(empty).problem
    (empty / "variables").mkdir()
    assert "SavedModel" in identify(empty).problem


def test_empty_missing_and_pipes_are_refused_without_waiting(tmp_path):
    (tmp_path / "empty.pbtxt").touch()
    with pytest.raises(ModelError, match="the file is empty"):
        identify(tmp_path / "empty.pbtxt")
    with pytest.raises(ModelError, match="No such file"):
        identify(tmp_path / "none.pb")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.pb")
        with pytest.raises(ModelError, match="needed a file, got a pipe"):
            identify(tmp_path / "pipe.pb")


def test_folder_finds_the_files_of_a_model(tmp_path):
    (tmp_path / "frozen_inference_graph.pb").write_bytes(graph_bytes())
    (tmp_path / "other.pb").write_bytes(graph_bytes())
    (tmp_path / "mask.pbtxt").write_text('node { name: "a" op: "B" }')
    (tmp_path / "frozen_inference_graph.cvmask.pbtxt").write_text("# cached")
    (tmp_path / "label_map.pbtxt").write_text("item { id: 1 }")
    (tmp_path / "pipeline.config").write_text("model { }")
    files = model_files(tmp_path)
    assert files == ModelFiles(
        tmp_path / "frozen_inference_graph.pb",
        tmp_path / "mask.pbtxt",
        tmp_path / "label_map.pbtxt",
        tmp_path / "pipeline.config",
    )
    (tmp_path / "frozen_inference_graph.pb").unlink()
    (tmp_path / "third.pb").write_bytes(graph_bytes())
    with pytest.raises(ModelError, match=r"which graph\? Give one of: other\.pb, third\.pb"):
        model_files(tmp_path)


def problems(graph, text=None, labels=None):
    return check.inspect(ModelFiles(graph, text), labels).problems


def test_swapped_files_are_said(tmp_path):
    graph, text = tmp_path / "a.pbtxt", tmp_path / "a.pb"
    graph.write_bytes(graph_bytes())
    text.write_text('node { name: "a" op: "B" }')
    assert "are swapped" in problems(text, graph)[0]
    assert "needed a binary frozen graph, got a text file" in problems(text)[0]
    assert "needed a text graph (.pbtxt), got a graph file" in problems(graph, graph)[0]


def test_truncated_graph_is_a_problem(tmp_path):
    path = tmp_path / "a.pb"
    path.write_bytes(skeleton("mask_rcnn_inception_v2").read_bytes()[:100_000])
    assert "truncated" in problems(path)[0]


def test_faster_rcnn_is_a_problem(tmp_path):
    b = Builder()
    b.node("Placeholder", "image_tensor", dtype=Type(4))
    b.node("CropAndResize", "crop", "image_tensor")
    b.node("Identity", "detection_boxes", "crop")
    path = tmp_path / "a.pb"
    path.write_bytes(b.bytes())
    assert "a Faster R-CNN" in problems(path)[0]


def test_official_text_graph_fits_its_constants():
    frozen = read_graph(skeleton("mask_rcnn_inception_v2_coco_2018_01_28.consts"))
    assert check.mismatches(frozen, read_text(shared(*OFFICIAL))) == []


def test_text_graph_of_another_model_is_a_problem():
    found = check.mismatches(read_graph(skeleton("mask_rcnn_resnet50_atrous")), read_text(shared(*OFFICIAL)))
    assert len(found) == 1
    assert "belongs to another model than" in found[0]


def test_text_graph_for_other_classes_is_a_problem():
    text = shared(*OFFICIAL).read_text().replace("i: 90\n", "i: 80\n")
    frozen = read_graph(skeleton("mask_rcnn_inception_v2_coco_2018_01_28.consts"))
    found = check.mismatches(frozen, parse_text(text, "graph.pbtxt"))
    assert "graph.pbtxt is made for 80 classes" in found[0]
    assert "has 90" in found[0]


@pytest.mark.parametrize(
    ("labels", "words"),
    [(90, None), (80, "without its gaps"), (91, "take the background out"), (3, "one line for each")],
)
def test_label_counts_that_do_not_fit_are_said(labels, words):
    found = check.label_problems(labels, 90)
    assert (found == []) if words is None else (words in found[0] and f"{labels} labels" in found[0])


def test_stripped_weights_and_memory_are_said(tmp_path, monkeypatch):
    path = skeleton("mask_rcnn_inception_v2")
    assert "weights were stripped" in check.weight_problems(read_graph(path))[0]
    monkeypatch.setattr(check, "available_memory", lambda: 1000)
    assert "of memory" in check.memory_problems(path)[0]
    monkeypatch.setattr(check, "available_memory", lambda: None)
    assert check.memory_problems(path) == []


def test_config_disagreements_are_sentences(tmp_path):
    facts = read_facts(read_graph(skeleton("mask_rcnn_resnet50_atrous")))
    config = shared("graphs", "mask_rcnn_resnet50_atrous.config")
    assert disagreements(facts, read_config(config)) == []
    other = tmp_path / "pipeline.config"
    text = (
        config.read_text()
        .replace("num_classes: 90", "num_classes: 3")
        .replace("min_dimension: 800", "min_dimension: 600")
    )
    other.write_text(text)
    assert disagreements(facts, read_config(other)) == [
        "num_classes is 3 in the config and 90 in the graph",
        "min_dimension is 600 in the config and 800 in the graph",
    ]
    other.write_text("item { }")
    with pytest.raises(ModelError, match=r"no model \{ faster_rcnn"):
        read_config(other)


def test_cache_gives_what_was_converted_without_reading_the_graph_again(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    model = tmp_path / "model.pb"
    shutil.copy(skeleton("mask_rcnn_inception_v2"), model)
    data = np.fromfile(model, np.uint8)
    key, known = cache.find(model, data)
    assert (key, known) == (hashlib.sha256(data).hexdigest(), None)
    text, facts = check.convert_with_facts(read_graph(model))
    cache.keep(model, key, text, facts)
    assert (tmp_path / "model.cvmask.pbtxt").is_file()
    assert not (tmp_path / "home").exists()
    monkeypatch.setattr(check, "parse_graph", lambda *_: pytest.fail("the cache was not used"))
    report = check.inspect(model_files(model))
    assert report.facts == facts
    assert print_text(report.text) == print_text(text)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert cache.find(model, data)[1] is not None
    monkeypatch.setattr(cache, "_VERSION", cache._VERSION.replace(cache.__version__, "0.0.9"))
    assert cache.find(model, data) == (key, None)  # another release may refuse it


def test_cache_is_not_made_of_a_graph_with_a_problem(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    shutil.copy(skeleton("mask_rcnn_inception_v2"), tmp_path / "model.pb")  # its weights were taken out
    for _ in range(2):
        assert "weights were stripped" in check.prepare(model_files(tmp_path / "model.pb")).problems[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model.pb"]


def test_cache_of_another_graph_or_damaged_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    model, place = tmp_path / "model.pb", tmp_path / "model.cvmask.pbtxt"
    model.write_bytes(graph_bytes())
    data = np.fromfile(model, np.uint8)
    key = cache.fingerprint(data)
    whole = b"# {}\nnode { }\n"
    for kept in (
        cache._first_line("0" * 64, whole) + whole,
        cache._first_line(key, whole) + whole[:-2],
        cache._first_line(key, b"# {}\n\xff{") + b"# {}\n\xff{",
        b"# cvmask 3 " + key.encode() + b"\n" + whole,
        b"#\n",
        b"",
    ):
        place.write_bytes(kept)
        assert cache.find(model, data) == (key, None)
        assert "not an Object Detection API Mask R-CNN" in check.inspect(model_files(model)).problems[0]


def test_inspecting_writes_nothing_and_preparing_writes_one_file(tmp_path, monkeypatch):
    home, folder = tmp_path / "home", tmp_path / "model"
    monkeypatch.setenv("CVMASK_HOME", str(home))
    folder.mkdir()
    shutil.copy(SHAPES / "frozen_inference_graph.pb", folder)
    before = [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))]
    inspected = check.inspect(model_files(folder))
    assert main(["models", "inspect", str(folder)]) == 0
    assert self_check(folder) == []
    assert [(path, path.stat().st_mtime_ns) for path in sorted(tmp_path.rglob("*"))] == before
    prepared = check.prepare(model_files(folder))
    assert (print_text(prepared.text), prepared.facts) == (print_text(inspected.text), inspected.facts)
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == [
        "model", "frozen_inference_graph.cvmask.pbtxt", "frozen_inference_graph.pb"
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="Linux counts the bytes that a process reads")
def test_a_load_reads_the_frozen_graph_once_and_parses_one_text(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    graph = SHAPES / "frozen_inference_graph.pb"
    shutil.copy(graph, tmp_path)
    load("shapes")  # imports what is imported once
    texts = []
    parse = text_module.parse_fields
    monkeypatch.setattr(text_module, "parse_fields", lambda text: texts.append(text) or parse(text))
    converts, uses_what_was_kept, given = [], [], []
    for counted, model in ((converts, tmp_path), (uses_what_was_kept, tmp_path), (given, "shapes")):
        texts.clear()
        before = bytes_read()
        load(model)
        counted += [bytes_read() - before, len(texts)]
    size = graph.stat().st_size
    assert [found[1] for found in (converts, uses_what_was_kept, given)] == [0, 1, 1]
    assert all(size < found[0] < 1.5 * size for found in (converts, uses_what_was_kept, given))


def bytes_read():
    return int(Path("/proc/self/io").read_text().split()[1])


@pytest.mark.parametrize("name", ["tiny_plain", "tiny_sigmoid", "tiny_loops", "tiny_resnet101"])
def test_a_text_graph_is_the_same_before_and_after_it_was_kept(tmp_path, monkeypatch, name):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    path = tmp_path / "model.pb"
    shutil.copy(Path(__file__).parents[1] / "data" / f"{name}.pb", path)
    made, kept = (check.prepare(ModelFiles(path)) for _ in range(2))
    assert (tmp_path / "model.cvmask.pbtxt").is_file()
    assert made.facts == kept.facts
    for change in (lambda text: text, scale_by_proposal, clip_apart, lambda text: set_score_floor(text, 0.1)):
        parts, again = (split(change(report.text)) for report in (made, kept))
        assert (parts.detector_text, parts.mask_head_text) == (again.detector_text, again.mask_head_text)
