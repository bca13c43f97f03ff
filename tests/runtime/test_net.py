from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from conftest import ROOT

import cvmask
from cvmask.cli.main import main
from cvmask.errors import ModelError
from cvmask.runtime.net import missing_importer


def test_this_opencv_can_run_graphs() -> None:
    assert missing_importer() == ""


@pytest.fixture
def without_importer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the importer nor ONNX."""
    monkeypatch.delattr(cv2.dnn, "readNetFromTensorflow", raising=False)
    monkeypatch.delattr(cv2.dnn, "readNetFromONNX")


@pytest.mark.usefixtures("without_importer")
def test_an_opencv_without_the_importer_is_one_line_with_the_cure(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"cannot load TensorFlow graphs: pip install 'opencv-python>=4\.8,<5\.1'$"):
        cvmask.load("shapes")
    cv2.imwrite("a.png", cvmask.scenes.make_scene(3).image)
    assert main(["predict", "-m", "shapes", "a.png"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("cvmask: error: ")
    assert "\n" not in said
    assert "opencv-python>=4.8,<5.1" in said


def test_an_opencv_5_without_the_classic_engine_and_onnx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.dnn, "ENGINE_NEW", 2, raising=False)
    monkeypatch.delattr(cv2.dnn, "readNetFromONNX")
    monkeypatch.delattr(cv2.dnn, "ENGINE_CLASSIC", raising=False)
    assert missing_importer().startswith(f"OpenCV {cv2.__version__} cannot load TensorFlow graphs")


def test_an_empty_cv2_ends_the_command_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; sys.argv[0] = 'cvmask'; import cvmask"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("cvmask: error: cv2 is an empty folder: pip install --force-reinstall")
    assert done.stderr.count("\n") == 1
