"""cvmask doctor: findings, their cures, and what a bug report must not tell."""

from __future__ import annotations

import ctypes.util
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from cvmask import models
from cvmask.cli import doctor
from cvmask.cli.doctor import Finding
from cvmask.cli.main import main
from cvmask.errors import SinkError
from cvmask.models.audit import Report
from cvmask.models.zoo import GRAPH_FILE
from cvmask.runtime import net
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.system import folders

RUNS = {"effective": "cpu", "device": "CPU", "reason": "", "ms": 12.3}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no process start: each target answers at once."""

    def answer(name: str) -> dict[str, object]:
        if name == "cuda":
            return {"error": "target cuda: OpenCV was built without CUDA"}
        return {**RUNS, "reason": "" if name == "cpu" else "there is no OpenCL device"}

    monkeypatch.setattr(doctor, "try_target", answer)
    monkeypatch.setattr(doctor, "try_opencl", lambda: {"devices": None, "taken": "", "off": ""})


def findings(check: object) -> dict[str, Finding]:
    found = check()  # type: ignore[operator]
    return {finding.topic: finding for finding in found}


@pytest.mark.usefixtures("quick")
def test_doctor_says_what_each_target_would_really_do(capsys: pytest.CaptureFixture[str]) -> None:
    seen = findings(doctor.check_targets)
    assert (seen["target cpu"].state, seen["target cpu"].text) == ("ok", "runs on CPU, 12 ms a 320x320 frame")
    assert seen["target opencl"].text == "would run on cpu: there is no OpenCL device"
    assert seen["target auto"].text.startswith("takes cpu, 12 ms")
    assert (seen["target cuda"].state, seen["target cuda"].text) == ("note", "OpenCV was built without CUDA")


@pytest.mark.usefixtures("quick")
def test_doctor_prints_a_line_a_finding_and_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor"])
    text = capsys.readouterr().out
    assert main(["doctor", "--json"]) == code
    report = json.loads(capsys.readouterr().out)
    for finding in report:
        assert finding["topic"] in text
        assert finding["state"] in ("ok", "note", "problem")
    assert code == any(finding["state"] == "problem" for finding in report)
    topics = {finding["topic"] for finding in report}
    assert {"cvmask", "OpenCV", "CPU", "OpenCL", "target cpu", "video", "window", "model shapes"} <= topics


def test_check_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def check_video() -> Iterator[Finding]:
        raise OSError("disk full")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (check_video,))
    assert list(doctor.examine()) == [Finding("video", "problem", "the check failed: disk full")]


def test_json_keeps_personal_folders_to_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "secret"))
    monkeypatch.chdir(tmp_path)
    text = doctor.without_paths(
        json.dumps([f"{tmp_path}/secret/coco", f"{tmp_path}/x", "/home/anna/y", "C:\\Users\\anna\\z", "ok"])
    )
    assert json.loads(text)[0] == "CACHE/coco"
    assert json.loads(text)[4] == "ok"
    assert "anna" not in text
    assert str(tmp_path) not in text


def test_user_without_a_home_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVMASK_HOME", "~nosuch/x")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_models, doctor.check_extras, doctor.check_cache))
    found = {finding.topic: finding for finding in doctor.examine()}
    assert [topic for topic, finding in found.items() if "CVMASK_HOME" in finding.text] == ["cache folder"]
    assert (found["cache folder"].state, found["model shapes"].state) == ("problem", "ok")
    assert found["model coco"].text == "not installed"
    assert doctor.without_paths('["ok"]') == '["ok"]'


@pytest.mark.skipif(os.name != "posix", reason="this system keeps a folder that is in use")
def test_json_from_a_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert doctor.without_paths('["ok"]') == '["ok"]'


@pytest.mark.parametrize(("version", "is_fine"), [("4.7.0", False), ("4.8.1", True), ("5.0.0", True), ("5.1.0", False)])
def test_opencv_out_of_range_is_a_problem_with_its_cure(
    version: str, is_fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "__version__", version)
    for place in (doctor, net):
        monkeypatch.setattr(place, "installed_wheels", lambda: {"opencv-python-headless": "1"})
    found = findings(doctor.check_versions)["OpenCV"]
    assert (found.state == "ok") == is_fine
    assert is_fine or found.cure == "pip install 'opencv-python-headless>=4.8,<5.1'"


def test_two_wheels_of_opencv_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "installed_wheels", lambda: {"opencv-python": "1", "opencv-python-headless": "2"})
    found = findings(doctor.check_versions)["OpenCV"]
    assert found.state == "problem"
    assert found.cure == "pip uninstall opencv-python opencv-python-headless, then install one of them"


def test_video_is_checked_by_writing_and_reading_it(tmp_path: Path) -> None:
    assert doctor.why_not_written(tmp_path / "clip.mp4", use_av=False) == ""
    (tmp_path / "file").touch()
    assert doctor.why_not_written(tmp_path / "file" / "clip.mp4", use_av=False)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_only_a_bundled_model_whose_files_are_damaged_is_to_be_installed_again(
    is_damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(folders.path("models/shapes"), tmp_path / "shapes")
    if is_damaged:
        with open(folder / GRAPH_FILE, "r+b") as file:
            file.truncate(1000)
    report = Report(folder, (), ("what went wrong",))
    monkeypatch.setattr(models, "verify", lambda name: report)
    found = findings(doctor.check_models)["model shapes"]
    assert (found.state, found.text) == ("problem", "what went wrong")
    assert found.cure == ("reinstall cvmask" if is_damaged else "")


def test_h264_is_written_with_pyav_or_its_cure_is_named() -> None:
    found = findings(doctor.check_video)["video in H.264"]
    if has_av():
        assert (found.state, found.text) == ("ok", "writes .mp4, .m4v, .mov, .mkv")
    else:
        assert (found.state, found.cure) == ("note", "pip install av")


def test_h264_that_pyav_does_not_write_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise SinkError("FFmpeg cannot write h264")

    monkeypatch.setattr(doctor, "has_av", lambda: True)
    monkeypatch.setattr("cvmask.streams.sinks.video_sink.AvEncoder", broken)
    found = findings(doctor.check_video)["video in H.264"]
    assert (found.state, found.text) == ("problem", "cannot be written: FFmpeg cannot write h264")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; os.kill(os.getpid(), 11)", "the process crashed (signal 11)"),
        ("raise SystemExit('no such thing')", "no such thing"),
        ("print('nonsense')", "answered 'nonsense\\n'"),
        ("import time; time.sleep(60)", "no answer within 1 seconds"),
    ],
)
def test_target_that_takes_its_process_along_is_reported(
    code: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_CODE", code)
    timeout_s = 1 if "sleep" in code else 60
    assert doctor.try_target("opencl", timeout_s) == {"error": expected}


CPU_DEVICE = ["PoCL", "a CPU"]


@pytest.mark.parametrize(
    ("seen", "state", "cure"),
    [
        ({"devices": [["AMD", "a GPU"]], "taken": "a GPU", "off": ""}, "ok", ""),
        ({"devices": [CPU_DEVICE], "taken": "", "off": "X=1 is set: unset it"}, "note", "X=1 is set: unset it"),
        ({"devices": [CPU_DEVICE], "taken": "", "off": ""}, "note", "OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES=1"),
        ({"devices": [], "taken": "", "off": ""}, "note", "install the driver"),
    ],
)
def test_opencl_that_opencv_does_not_take_has_its_own_cure(
    seen: dict[str, object], state: str, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENCV_OPENCL_RUNTIME", raising=False)
    monkeypatch.setattr(doctor, "try_opencl", lambda: seen)
    found = doctor._opencl()
    assert found.state == state
    assert cure in found.cure if cure else not found.cure


def test_variable_that_keeps_opencv_from_opencl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENCV_OPENCL_RUNTIME", raising=False)
    monkeypatch.setenv("OPENCV_OPENCL_DEVICE", ":GPU:9")
    seen = doctor.try_opencl()
    if "error" in seen or not seen["devices"] or seen["taken"]:
        pytest.skip("needs an OpenCL device, and no tenth GPU: on Debian, apt-get install pocl-opencl-icd gives one")
    assert "OPENCV_OPENCL_DEVICE=:GPU:9 is set" in doctor._opencl().cure
    monkeypatch.setenv("OPENCV_OPENCL_RUNTIME", "disabled")
    assert "OPENCV_OPENCL_RUNTIME=disabled" in doctor._opencl().cure


# What the loader of OpenCL calls first in a driver.
BAD_DRIVER = "#include <stdlib.h>\n#include <unistd.h>\nvoid *clGetExtensionFunctionAddress(const char *n) {{ {} }}\n"


def bad_driver(body: str, folder: Path) -> str:
    """Give the value of OCL_ICD_VENDORS with which OpenCL has one driver, that does nothing but `body`."""
    if not (sys.platform == "linux" and shutil.which("gcc") and ctypes.util.find_library("OpenCL")):
        pytest.skip("needs gcc and a loader of OpenCL drivers: on Debian, apt-get install gcc ocl-icd-libopencl1")
    (folder / "bad.c").write_text(BAD_DRIVER.format(body))
    library, vendors = folder / "libbad.so", folder / "vendors"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "bad.c"], check=True)
    vendors.mkdir()
    (vendors / "bad.icd").write_text(f"{library}\n")
    return str(vendors)


@pytest.mark.parametrize(
    ("body", "timeout_s", "words"),
    [("abort();", 60, "the process crashed (signal 6)"), ("for (;;) sleep(1000);", 3, "no answer within 3 seconds")],
)
def test_driver_that_crashes_or_hangs_is_a_finding_and_the_rest_is_reported(
    body: str, timeout_s: float, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendors = bad_driver(body, tmp_path)
    monkeypatch.setenv("OCL_ICD_VENDORS", vendors)
    monkeypatch.delenv("OPENCV_OPENCL_RUNTIME", raising=False)
    monkeypatch.setattr(doctor, "try_opencl", functools.partial(doctor.try_opencl, timeout_s))
    found = findings(doctor.check_targets)
    assert (found["OpenCL"].state, words in found["OpenCL"].text) == ("problem", True), found["OpenCL"]
    assert "OPENCV_OPENCL_RUNTIME=disabled" in found["OpenCL"].cure
    assert vendors in found["OpenCL"].cure
    assert found["target cpu"].state == "ok"
    others = {found[f"target {name}"].text for name in ("opencl", "auto", "cuda")}
    assert others == {"not tried: the OpenCL driver does not work"}
