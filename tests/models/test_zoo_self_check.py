from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from conftest import needs_importer
from graph_builder import OFFICIAL, filled, shared

from cvmask.errors import ModelError
from cvmask.graph.text import parse_text, read_text
from cvmask.models import audit as module
from cvmask.models.audit import self_check, split_differs
from cvmask.models.zoo import NAMES, get
from cvmask.system import folders

TEXT = """
node { name: "img" op: "Placeholder" }
node { name: "feat" op: "Conv2D" input: "img" }
node { name: "rpn" op: "DetectionOutput" input: "feat" }
node { name: "crop" op: "CropAndResize" input: "feat" input: "rpn" }
node { name: "last" op: "DetectionOutput" input: "crop" input: "rpn" }
node { name: "crop2" op: "CropAndResize" input: "feat" input: "last" }
node { name: "soft" op: "Sigmoid" input: "crop2" }
"""
GRAPH = np.zeros(1, np.uint8)


def fake_net(score=0.5, off=0.0, where=None, shape=(2, 3, 3)):
    """A network that gives the same as any other, but for `off` in the output `where` of a split one."""

    class FakeNet:
        def __init__(self, graph, text, outputs, origin):
            self.outputs, self.whole = outputs, outputs == ["last", "soft"]

        def forward(self, inputs):
            return [self.output(name, inputs) for name in self.outputs]

        def output(self, name, inputs):
            wrong = 0.0 if self.whole or name != where else off
            if name == "last":
                rows = np.zeros((1, 1, 100, 7), np.float32)
                rows[0, 0, :20] = score + wrong
                return rows
            if name == "feat":
                return np.ones((1, 4, 5, 5), np.float32)
            n = 100 if self.whole else inputs["last"].shape[2]
            return np.full((n, *(shape if not self.whole else (2, 3, 3))), 0.25 + wrong, np.float32)

    return FakeNet


def differs(monkeypatch, **fake):
    monkeypatch.setattr(module, "Net", fake_net(**fake))
    return split_differs(GRAPH, parse_text(TEXT), "m.pb")


def test_split_that_equals_whole_is_no_problem(monkeypatch):
    assert differs(monkeypatch) is None


@pytest.mark.parametrize(("where", "what"), [("last", "boxes and scores"), ("soft", "masks")])
def test_split_that_differs_is_named(monkeypatch, where, what):
    line = differs(monkeypatch, where=where, off=1e-3)
    assert line == f"m.pb: split and whole differ by 0.001 in {what}, needed at most 1e-05"
    assert differs(monkeypatch, where=where, off=1e-6) is None


@pytest.mark.parametrize("where", ["last", "soft"])
def test_split_that_gives_no_numbers_differs(monkeypatch, where):
    assert "differ by nan" in differs(monkeypatch, where=where, off=float("nan"))


def test_split_with_masks_of_another_size_differs(monkeypatch):
    assert "split gives masks of shape (10, 2, 4, 4), whole (10, 2, 3, 3)" in differs(
        monkeypatch, shape=(2, 4, 4)
    )


def test_split_of_a_graph_that_finds_nothing_proves_nothing(monkeypatch):
    assert "nothing to compare" in differs(monkeypatch, score=0.0)


def test_split_of_a_graph_without_masks_is_an_error():
    text = "".join(TEXT.splitlines(keepends=True)[:-2])
    with pytest.raises(ModelError, match="Faster R-CNN"):
        split_differs(GRAPH, parse_text(text), "m.pb")


@needs_importer
def test_split_equals_whole_on_a_real_export():
    graph = np.fromfile(filled("mask_rcnn_inception_v2_2018_07"), np.uint8)
    assert split_differs(graph, read_text(shared(*OFFICIAL)), "official") is None


def test_self_check_reports_what_cannot_be_converted(tmp_path):
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    problems = self_check(tmp_path)
    assert len(problems) == 1
    assert "frozen_inference_graph.pb" in problems[0]


def test_self_check_reports_a_text_graph_of_another_model(tmp_path):
    folder = folders.path("models/shapes")
    shutil.copy(folder / "frozen_inference_graph.pb", tmp_path)
    text = (folder / "graph.pbtxt").read_text().replace("stem_1/weights", "stem_9/weights")
    (tmp_path / "graph.pbtxt").write_text(text)
    (problem,) = self_check(tmp_path)
    assert "belongs to another model than" in problem


@pytest.mark.parametrize("name", [name for name in NAMES if get(name).bundled])
def test_self_check_passes_every_bundled_model(name):
    assert self_check(folders.path(f"models/{name}")) == []


@pytest.mark.skipif(not hasattr(cv2.dnn, "ENGINE_NEW"), reason="OpenCV 4 does not run these networks")
def test_self_check_runs_the_onnx_networks_where_they_run(monkeypatch):
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    monkeypatch.delattr(cv2.dnn, "readNetFromTensorflow", raising=False)
    shapes = folders.path("models/shapes")
    assert self_check(shapes) == []
    masks = module.OnnxPair.masks
    monkeypatch.setattr(module.OnnxPair, "masks", lambda *args: masks(*args) + 1)
    assert self_check(shapes) == ["frozen_inference_graph.pb: the ONNX networks give masks beyond 0 to 1"]


def test_self_check_passes_a_real_export():
    assert self_check(filled("mask_rcnn_inception_v2_2018_07")) == []
