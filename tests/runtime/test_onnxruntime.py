"""The target onnxruntime: what runs there, held against TensorFlow and OpenCV, and what is said where it does not."""

from __future__ import annotations

import multiprocessing
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import needs_importer
from graph_builder import DATA, arrays_of, own_model, partners, picture

import cvmask
from cvmask import scenes
from cvmask.cli import doctor
from cvmask.cli.main import main
from cvmask.errors import ModelError, TargetError
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.text import print_text
from cvmask.results.detections import Detections
from cvmask.runtime import net, onnx_pair
from cvmask.runtime.model import MaskRCNN
from cvmask.runtime.onnx_pair import OnnxPair

MISSING = "target onnxruntime needs the package onnxruntime: pip install onnxruntime"


@pytest.fixture
def package() -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra: pip install '.[onnxruntime]'")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, package: None) -> str:
    """Let no graph be written as ONNX, as one with an op that is not known; give the reason."""

    def refuse(*args: object) -> None:
        raise ModelError("head/odd: a Sinh cannot be converted to ONNX")

    monkeypatch.setattr(onnx_pair, "features_network", refuse)
    return "head/odd: a Sinh cannot be converted to ONNX"


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("name", ["tiny_plain", "tiny_resnet101", "tiny_sigmoid", "tiny_inception_resnet"])
def test_rows_and_masks_are_those_of_tensorflow(name: str) -> None:
    golden, path = arrays_of(DATA / f"{name}.npz"), own_model(name)
    pair = OnnxPair(np.fromfile(path, np.uint8), convert(read_graph(path)), name, network=net.OnnxRuntimeNet)
    blob = np.ascontiguousarray(picture(*golden["size"])[None].transpose(0, 3, 1, 2), np.float32)
    rows, features = pair.detect(blob)
    masks = pair.masks(features, rows)
    flat = rows[0, 0]
    own = masks[np.arange(len(flat)), flat[:, 1].astype(int) if masks.shape[1] > 1 else 0]
    assert (partners(flat, golden) == np.arange(len(golden["detection_scores"]))).all()
    assert np.abs(own - golden["detection_masks"]).max() < 1e-3


@needs_importer
@pytest.mark.usefixtures("package")
def test_bundled_model_finds_the_same_with_any_number_of_threads() -> None:
    frame = scenes.make_scene(3, (320, 240)).image
    one = cvmask.load("shapes", score_threshold=0.1).detect(frame)
    model = cvmask.load("shapes", score_threshold=0.1, target="onnxruntime", strict_target=True)
    seen = model.target
    assert (seen.effective, seen.device, seen.engine, seen.warning) == ("onnxruntime", "CPU", "onnx", "")
    threads = cv2.getNumThreads()
    try:
        for count in (threads, threads + 1):  # as when streams share them out
            cv2.setNumThreads(count)
            two = model.detect(frame)
            assert model._pair.detector._session.get_session_options().intra_op_num_threads == count
            assert len(one) > 0
            assert two.class_id.tolist() == one.class_id.tolist()
            assert np.abs(two.confidence - one.confidence).max() < 1e-4
            assert np.abs(two.xyxy - one.xyxy).max() < 1e-4 * max(frame.shape)
            assert np.abs(two.soft_masks - one.soft_masks).max() < 1e-3
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.usefixtures("package")
def test_clones_and_copies_in_other_processes_run_there_too() -> None:
    frame = scenes.make_scene(3, (160, 128)).image
    model = cvmask.load("shapes", size="160x128", target="onnxruntime")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found, effective = pool.submit(_found_by, model, frame).result(timeout=120)
    assert effective == model.clone().target.effective == "onnxruntime"
    assert len(found) > 0
    assert found == model.detect(frame) == model.clone().detect(frame)
    assert pickle.loads(pickle.dumps(model)).fingerprint() == model.fingerprint()


def _found_by(model: MaskRCNN, frame: np.ndarray) -> tuple[Detections, str]:
    return model.detect(frame), model.target.effective


@pytest.mark.usefixtures("package")
def test_predict_runs_there(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite("a.png", scenes.make_scene(3, (160, 128)).image)
    arguments = ["predict", "-m", "shapes", "--target", "onnxruntime", "--strict-target", "a.png", "-o", "b.png"]
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert (Path("b.png").is_file(), err) == (True, "")
    assert out.startswith("a.png: 160x128, ")
    assert main(["benchmark", "-m", "shapes", "--target", "onnxruntime", "--size", "64x64", "--runs", "1"]) == 0
    assert "onnxruntime" in capsys.readouterr().out


def test_other_targets_do_not_import_the_package() -> None:
    code = "import sys, cvmask; cvmask.load('shapes'); sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_missing_package_is_one_line_with_the_cure(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    cv2.imwrite("a.png", scenes.make_scene(3, (64, 64)).image)
    assert main(["predict", "-m", "shapes", "--target", "onnxruntime", "a.png"]) == 1
    assert capsys.readouterr().err == f"cvmask: error: {MISSING}\n"
    assert main(["models", "inspect", "shapes"]) == 0
    assert "; onnxruntime after pip install onnxruntime\n" in capsys.readouterr().out


def test_doctor_tells_whether_it_runs() -> None:
    seen = doctor.try_target("onnxruntime")
    assert seen.get("error", MISSING) == MISSING
    assert seen.get("effective", "onnxruntime") == "onnxruntime"


@needs_importer
def test_a_graph_that_is_not_written_as_onnx_runs_on_the_cpu_and_it_is_said(
    refused: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = cvmask.load("shapes", target="onnxruntime")
    assert model.target.warning == f"onnxruntime does not run: {refused}; using cpu"
    assert (model.target.effective, model.target.engine) == ("cpu", "importer")
    assert len(model.detect(scenes.make_scene(3, (320, 240)).image)) > 0
    with pytest.raises(TargetError, match=f"^target onnxruntime does not run here: {refused}$"):
        cvmask.load("shapes", target="onnxruntime", strict_target=True)
    assert main(["models", "inspect", "shapes"]) == 0
    assert f"; not onnxruntime: {refused}\n" in capsys.readouterr().out


@pytest.mark.usefixtures("package")
def test_a_text_graph_that_contradicts_is_not_kept_and_it_is_said(work: Path) -> None:
    tiny = read_graph(own_model("tiny_plain"))
    text = re.sub(r'(key: "nms_threshold"\s+value {\s+f: )[0-9.]+', r"\g<1>0.125", print_text(convert(tiny)))
    Path("other.pbtxt").write_text(text)
    model = cvmask.load(own_model("tiny_plain"), graph="other.pbtxt", keep_graph=True, target="onnxruntime")
    assert any(note.startswith("the text graph cannot be kept: ONNX networks are made") for note in model.notes)


@pytest.mark.usefixtures("package")
def test_what_onnx_runtime_says_is_one_line_under_the_name_of_the_model() -> None:
    with pytest.raises(ModelError, match=r"^some\.pb: ONNX Runtime cannot run this model: [^\n]+$"):
        net.OnnxRuntimeNet(b"no network", ["masks"], "some.pb")
