"""Frozen graphs as ONNX networks in OpenCV 5, held against TensorFlow and against OpenCV's importer."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, needs_importer
from graph_builder import DATA, arrays_of, own_model, partners, picture

import cvmask
from cvmask import scenes
from cvmask.cli.doctor import check_versions
from cvmask.cli.main import main
from cvmask.errors import ModelError, TargetError
from cvmask.graph import split
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.onnx_networks import parts_of
from cvmask.graph.text import print_text
from cvmask.results.detections import Detections
from cvmask.runtime import net
from cvmask.runtime.model import MaskRCNN
from cvmask.runtime.onnx_pair import OnnxPair, as_asked

needs_onnx = pytest.mark.skipif(not hasattr(cv2.dnn, "ENGINE_NEW"), reason="OpenCV 4 does not run these networks")
TINY = ["plain", "resnet101", "inception_resnet", "sigmoid", "combined", "loops", "lowered"]
NAMES = [*(f"tiny_{name}" for name in TINY), "deep_resnet50", "deep_resnet101", "deep_inception_resnet"]


def pair_of(name: str) -> OnnxPair:
    graph = read_graph(own_model(name))
    return OnnxPair(np.fromfile(own_model(name), np.uint8), convert(graph), name)


def blob_of(size) -> np.ndarray:
    return np.ascontiguousarray(picture(*size)[None].transpose(0, 3, 1, 2), np.float32)


@needs_onnx
@pytest.mark.parametrize("name", NAMES)
def test_rows_and_masks_are_those_of_tensorflow(name: str) -> None:
    golden = arrays_of(DATA / f"{name}.npz")
    pair = pair_of(name)
    rows, features = pair.detect(blob_of(golden["size"]))
    masks = pair.masks(features, rows)
    flat = rows[0, 0]
    own = masks[np.arange(len(flat)), flat[:, 1].astype(int) if masks.shape[1] > 1 else 0]
    assert (partners(flat, golden) == np.arange(len(golden["detection_scores"]))).all()
    assert np.abs(own - golden["detection_masks"]).max() < 1e-3


@needs_onnx
def test_one_network_takes_pictures_of_any_size() -> None:
    """Paddings are computed at run time; a network that saw other sizes gives the bits of one that did not."""
    used = pair_of("tiny_resnet101")
    for size in ((96, 120), (97, 131), (64, 65), (96, 120)):
        rows, features = used.detect(blob_of(size))
        fresh, fresh_features = pair_of("tiny_resnet101").detect(blob_of(size))
        assert np.array_equal(features, fresh_features)
        assert np.array_equal(rows, fresh)


@needs_onnx
@needs_importer
@pytest.mark.parametrize("model", ["shapes", "people"])
def test_bundled_models_find_the_same_either_way(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    portrait = cv2.imread(str(ROOT / "docs/pictures/astronaut.jpg"))
    frame = portrait if model == "people" else scenes.make_scene(3, (320, 240)).image
    ours = cvmask.load(model, score_threshold=0.1)
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    other = cvmask.load(model, score_threshold=0.1)
    assert (ours.target.engine, other.target.engine) == ("importer", "onnx")
    one, two = ours.detect(frame), other.detect(frame)
    assert len(one) > 0
    assert two.class_id.tolist() == one.class_id.tolist()
    assert np.abs(two.confidence - one.confidence).max() < 1e-4
    assert np.abs(two.xyxy - one.xyxy).max() < 1e-4 * max(frame.shape)
    assert np.abs(two.soft_masks - one.soft_masks).max() < 1e-3
    assert other.fingerprint() == other.clone().fingerprint() != ours.fingerprint()


@needs_onnx
def test_what_was_asked_for_takes_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    frame = scenes.make_scene(3, (320, 240)).image
    many = cvmask.load("shapes", score_threshold=0.0).detect(frame)
    few = cvmask.load("shapes", score_threshold=0.0, max_detections=3).detect(frame)
    assert len(many) > 3
    assert np.array_equal(few.xyxy, many.xyxy[:3])
    assert len(cvmask.load("shapes", score_threshold=0.0, proposals=2, max_detections=200).detect(frame)) <= 16


def test_counts_and_floor_of_the_text_graph_are_used() -> None:
    graph = read_graph(own_model("tiny_plain"))
    facts, text = parts_of(graph).facts, convert(graph)
    assert as_asked(facts, text) == facts
    asked = as_asked(facts, split.set_proposals(split.set_score_floor(text, 0.25), 5))
    assert asked.second_stage.score_threshold == 0.25
    assert (asked.first_stage.max_total, asked.first_stage.max_per_class) == (5, 5)
    more = as_asked(facts, split.set_max_detections(text, 20)).second_stage
    assert (more.max_total, more.max_per_class) == (20, 20)
    limited = replace(facts, second_stage=replace(facts.second_stage, max_per_class=2))
    more = as_asked(limited, split.set_max_detections(text, 20)).second_stage
    assert (more.max_total, more.max_per_class) == (20, 2)


@needs_onnx
def test_a_text_graph_that_contradicts_is_not_kept_and_it_is_said(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    other = print_text(convert(read_graph(own_model("tiny_plain"))))
    text = re.sub(r'(key: "nms_threshold"\s+value {\s+f: )[0-9.]+', r"\g<1>0.125", other)
    assert text != other
    Path("other.pbtxt").write_text(text)
    told = "the text graph cannot be kept: ONNX networks are made from the frozen graph"
    usual = cvmask.load(own_model("tiny_plain"), graph="other.pbtxt")
    kept = cvmask.load(own_model("tiny_plain"), graph="other.pbtxt", keep_graph=True)
    assert [note for note in kept.notes if note.startswith(told)] == list(kept.notes[1:])
    assert usual.notes == kept.notes[:1]
    assert "the frozen graph's values are used" in usual.notes[0]
    assert usual.fingerprint() == kept.fingerprint() == cvmask.load(own_model("tiny_plain")).fingerprint()
    assert main(["models", "inspect", str(own_model("tiny_plain")), "--graph", "other.pbtxt", "--keep-graph"]) == 0
    assert f"note: {told}" in capsys.readouterr().out


@needs_onnx
def test_a_copy_in_another_process_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    frame, model = scenes.make_scene(3, (160, 128)).image, cvmask.load("shapes", size="160x128")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found, engine = pool.submit(_found_by, model, frame).result(timeout=120)
    assert engine == "onnx"
    assert len(found) > 0
    assert found == model.detect(frame)
    assert pickle.loads(pickle.dumps(model)).fingerprint() == model.fingerprint()


def _found_by(model: MaskRCNN, frame: np.ndarray) -> tuple[Detections, str]:
    return model.detect(frame), model.target.engine


@needs_onnx
def test_no_object_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    found = cvmask.load("shapes", score_threshold=1.0, size="64x64").detect(np.zeros((64, 64, 3), np.uint8))
    assert len(found) == 0


@needs_onnx
def test_other_targets_are_the_cpu_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    target = cvmask.load("shapes", target="opencl").target
    assert target.warning == "opencl does not run: OpenCV runs ONNX networks on the CPU only; using cpu"
    assert cvmask.load("shapes", target="auto").target.effective == "cpu"
    with pytest.raises(TargetError, match="on the CPU only"):
        cvmask.load("shapes", target="opencl", strict_target=True)


def test_an_engine_that_does_not_exist_is_one_line(
    monkeypatch: pytest.MonkeyPatch, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "tensorflow")
    cv2.imwrite("a.png", scenes.make_scene(3).image)
    assert main(["predict", "-m", "shapes", "a.png"]) == 1
    expected = "cvmask: error: CVMASK_ENGINE is 'tensorflow': needed one of auto, importer, onnx"
    assert capsys.readouterr().err.strip() == expected


def test_engines_that_this_opencv_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_ENGINE", "onnx")
    monkeypatch.delattr(cv2.dnn, "ENGINE_NEW", raising=False)
    with pytest.raises(ModelError, match=r"CVMASK_ENGINE=onnx: OpenCV .* 5\.0 and newer can: unset it"):
        net.engine()
    monkeypatch.setenv("CVMASK_ENGINE", "importer")
    monkeypatch.delattr(cv2.dnn, "readNetFromTensorflow", raising=False)
    with pytest.raises(ModelError, match="has no TensorFlow importer: unset it"):
        net.engine()


@needs_onnx
def test_an_opencv_without_the_importer_runs_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2.dnn, "readNetFromTensorflow", raising=False)
    monkeypatch.delattr(cv2.dnn, "ENGINE_CLASSIC", raising=False)
    model = cvmask.load("shapes")
    assert model.target.engine == "onnx"
    assert len(model.detect(scenes.make_scene(3, (320, 240)).image)) > 0


@needs_onnx
@pytest.mark.parametrize(("engine", "text"), [("onnx", "ONNX networks"), ("importer", "OpenCV's TensorFlow importer")])
def test_doctor_inspect_and_benchmark_say_which_runs(
    engine: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if engine == "importer" and not net._has_importer():
        pytest.skip("this OpenCV has no TensorFlow importer")
    monkeypatch.setenv("CVMASK_ENGINE", engine)
    assert f"runs graphs with {text}" in next(f.text for f in check_versions() if f.topic == "OpenCV")
    assert main(["models", "inspect", "shapes"]) == 0
    assert f"runs with:    {text}" in capsys.readouterr().out
    assert main(["benchmark", "-m", "shapes", "--runs", "1", "--workers", "1", "--size", "64x64"]) == 0
    assert f", {engine}, " in capsys.readouterr().out.splitlines()[0]
