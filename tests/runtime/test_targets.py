"""cvmask.runtime.targets, auto and pair: what was asked for, and what really runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.errors import ModelError, TargetError
from cvmask.graph.convert import clip_apart
from cvmask.graph.text import parse_text
from cvmask.runtime import pair, targets
from cvmask.runtime.targets import Target

ROOT = Path(__file__).resolve().parents[2]
# A CPU as OpenCL device (PoCL): OpenCV takes it only when told so.
POCL = {"OPENCV_OPENCL_DEVICE": ":CPU:", "OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES": "1"}
NO_DEVICE = {"OPENCV_OPENCL_RUNTIME": "disabled"}
NAME_OF_DEVICE = "import cv2; print(cv2.ocl.Device.getDefault().name())"


def run_python(arguments: list[str], home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    env = {**os.environ, "CVMASK_HOME": str(home), "PYTHONPATH": paths, **env}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=env)


def report_of(target: str, home: Path, **env: str) -> dict[str, object]:
    """What tests/opencl_run.py prints, which must be all that is printed."""
    done = run_python([str(ROOT / "tests" / "opencl_run.py"), "shapes", target, "64", "64"], home, **env)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert isinstance(report, dict)
    return report


@pytest.fixture(scope="module")
def pocl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Give the environment in which OpenCL runs on some device, a CPU where there is nothing better."""
    if not run_python(["-c", NAME_OF_DEVICE], tmp_path_factory.mktemp("home"), **POCL).stdout.strip():
        pytest.skip("no OpenCL device: on Debian, apt-get install pocl-opencl-icd gives one")
    if tuple(map(int, cv2.__version__.split(".")[:2])) < (4, 9):
        pytest.skip(f"OpenCV {cv2.__version__} cannot run this model on OpenCL")
    return POCL


# Names


def test_unknown_target_is_refused_with_the_names() -> None:
    with pytest.raises(TargetError, match=r"'tpu' is unknown: use one of cpu, opencl, opencl-fp16, auto"):
        targets.check_name("tpu")


@pytest.mark.parametrize("name", ["cuda", "cuda-fp16", "vulkan"])
def test_target_of_a_self_built_opencv_is_refused_in_one_line_without_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda backend: [])
    with pytest.raises(TargetError, match=rf"^target {name}: OpenCV .* was built without (CUDA|Vulkan)[^\n]*$"):
        targets.check_name(name)


def test_target_of_a_self_built_opencv_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.dnn, "getAvailableTargets", lambda backend: [cv2.dnn.DNN_TARGET_CUDA])
    targets.check_name("cuda")


def test_target_falls_back_only_when_something_else_runs_than_was_asked_for() -> None:
    assert not Target("cpu", "cpu", "CPU").warning
    assert not Target("auto", "cpu", "CPU", "measured").warning
    assert Target("opencl", "cpu", "CPU", "no device").warning == "opencl does not run: no device; using cpu"


# Observation


class FakeNet:
    """A net whose dump says what a test wants."""

    def __init__(self, dump: str) -> None:
        self.cv = self
        self.text = dump

    def dump(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("device", "in_use", "dump", "requested", "effective", "reason"),
    [
        ("GPU", True, "OCV/OCL", "opencl", "opencl", ""),
        ("GPU", True, "OCV/OCL_FP16", "opencl-fp16", "opencl-fp16", ""),
        ("GPU", True, "OCV/OCL", "opencl-fp16", "opencl", "half precision on GPU"),
        ("GPU", True, "OCV/CPU", "opencl", "cpu", "refuses GPU"),
        ("a CPU", True, "OCV/CPU", "opencl", "cpu", "OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES=1 lets it use any"),
        ("GPU", False, "OCV/OCL", "opencl", "cpu", "switched off in this thread"),
        ("", True, "OCV/OCL", "opencl", "cpu", "no OpenCL device"),
    ],
)
def test_observe_believes_only_signs_that_hold_together(
    device: str,
    in_use: bool,
    dump: str,
    requested: str,
    effective: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "switched_off", lambda: "")
    monkeypatch.setattr(targets, "opencl_device", lambda: device)
    monkeypatch.setattr(cv2.ocl, "useOpenCL", lambda: in_use)
    seen = targets.observe(FakeNet(dump), requested)  # type: ignore[arg-type]
    assert (seen.requested, seen.effective) == (requested, effective)
    assert seen.device == (device if effective != "cpu" else "CPU")
    assert reason in seen.reason
    assert bool(reason) == bool(seen.reason)


def test_without_a_device_opencl_is_the_cpu_bit_for_bit(tmp_path: Path) -> None:
    report = report_of("opencl", tmp_path, **NO_DEVICE)
    assert (report["effective"], report["device"]) == ("cpu", "CPU")
    assert str(report["reason"]).startswith("OPENCV_OPENCL_RUNTIME=disabled is set: ")
    assert report["exact"]
    assert report["boxes"]


def test_strict_target_refuses_before_the_first_frame(tmp_path: Path) -> None:
    code = "import cvmask; cvmask.load('shapes', target='opencl', strict_target=True)"
    done = run_python(["-c", code], tmp_path, **NO_DEVICE)
    assert "TargetError: target opencl does not run here: OPENCV_OPENCL_RUNTIME=disabled is set: " in done.stderr


def test_opencl_does_without_a_cache_folder(tmp_path: Path) -> None:
    code = "import cvmask; print(cvmask.load('shapes', target='opencl').target.effective)"
    done = run_python(["-c", code], tmp_path, CVMASK_HOME="~nosuch/x", **NO_DEVICE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cpu\n", "")


def test_import_sets_nothing_up(tmp_path: Path) -> None:
    code = "import os, cv2; before = dict(os.environ); import cvmask; assert before == dict(os.environ)"
    assert run_python(["-c", code], tmp_path / "home").returncode == 0
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("target", ["opencl", "auto"])
def test_device_that_is_not_there_is_looked_for_in_silence(target: str, tmp_path: Path) -> None:
    report = report_of(target, tmp_path, OPENCV_OPENCL_DEVICE=":GPU:9")
    assert report["effective"] == "cpu"
    if cv2.ocl.haveOpenCL():
        assert str(report["reason"]).startswith("OPENCV_OPENCL_DEVICE=:GPU:9 is set: ")


@pytest.mark.parametrize("target", ["opencl", "auto"])
def test_opencl_that_is_switched_off_is_not_blamed_on_the_driver(target: str, tmp_path: Path) -> None:
    report = report_of(target, tmp_path, **NO_DEVICE)
    assert str(report["reason"]).startswith("OPENCV_OPENCL_RUNTIME=disabled is set: ")


def test_without_a_device_and_a_variable_the_cure_is_a_driver_or_two_variables(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENCV_OPENCL_RUNTIME", raising=False)
    monkeypatch.delenv("OPENCV_OPENCL_DEVICE", raising=False)
    reason = targets._why_no_opencl("")
    for words in ("install the driver", "OPENCV_OPENCL_DEVICE=:CPU:", "OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES=1"):
        assert words in reason


# Rows


@pytest.mark.parametrize(("count", "wanted"), [(1, 1), (2, 2), (3, 4), (9, 16), (65, 100), (100, 100), (101, 101)])
def test_padded_repeats_the_last_row_up_to_a_few_counts(count: int, wanted: int) -> None:
    rows = np.arange(count * 7, dtype=np.float32).reshape(1, 1, count, 7)
    result = pair.padded(rows)
    assert result.shape == (1, 1, wanted, 7)
    assert np.array_equal(result[:, :, :count], rows)
    assert (result[:, :, count:] == rows[:, :, -1:]).all()


# The choice of "auto"


class FakePair:
    """Networks of a given speed."""

    def __init__(self, name: str, runs: list[str]) -> None:
        self.name, self.runs, self.detector = name, runs, None

    def warm_up(self, size_wh: tuple[int, int] = (64, 64), boxes: int = 1) -> None:
        if size_wh != (64, 64):
            self.runs.append(self.name)


@pytest.fixture
def fast_opencl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Give the runs so far, in a world where OpenCL takes half the time of the CPU."""
    runs: list[str] = []
    clock = iter(range(100000))
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path))
    monkeypatch.setattr(pair, "_MEASURED", {})
    monkeypatch.setattr(targets, "opencl_device", lambda: "GPU")
    monkeypatch.setattr(targets, "observe", lambda net, name: Target(name, name, "GPU"))

    def tick() -> float:
        return next(clock) * (1.0 if runs and runs[-1] == "opencl" else 2.0)

    monkeypatch.setattr(pair.time, "perf_counter", tick)
    return runs


def fastest(runs: list[str], seed: int = 0) -> Target:
    graph = np.full(9, seed, np.uint8)
    return pair.fastest_pair(lambda name: FakePair(name, runs), graph, (640, 480))[1]  # type: ignore[arg-type,return-value]


def test_auto_takes_the_faster_and_says_what_it_measured(fast_opencl: list[str]) -> None:
    target = fastest(fast_opencl)
    assert (target.requested, target.effective, target.fell_back) == ("auto", "opencl", False)
    assert target.reason == "measured at 640x480: cpu 2000 ms, opencl 1000 ms"
    assert set(fast_opencl) == {"cpu", "opencl"}


def test_auto_remembers_for_each_graph(fast_opencl: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = fastest(fast_opencl)
    fast_opencl.clear()
    monkeypatch.setattr(pair, "_MEASURED", {})  # as in another process
    assert fastest(fast_opencl) == first
    assert fast_opencl == []
    fastest(fast_opencl, seed=1)
    assert fast_opencl


@pytest.mark.parametrize("faster", ["cpu", "opencl"])
def test_auto_makes_no_networks_but_the_faster_where_that_is_known(fast_opencl: list[str], faster: str) -> None:
    made: list[str] = []

    def make(name: str) -> FakePair:
        made.append(name)
        return FakePair(name, fast_opencl if faster == "opencl" else [])

    for expected in (["cpu", "opencl"], [faster]):
        made.clear()
        found = pair.fastest_pair(make, np.zeros(9, np.uint8), (640, 480))  # type: ignore[arg-type]
        assert (made, found[1].effective) == (expected, faster)


def test_auto_without_a_device_measures_nothing(fast_opencl: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "switched_off", lambda: "")
    monkeypatch.setattr(targets, "opencl_device", lambda: "")
    target = fastest(fast_opencl)
    assert (target.effective, target.reason) == ("cpu", "there is no OpenCL device")
    assert fast_opencl == []


def test_auto_takes_the_cpu_where_opencl_does_not_run(
    fast_opencl: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(net: object, name: str) -> Target:
        return Target(name, "cpu", "CPU", "" if name == "cpu" else "OpenCV refuses it")

    monkeypatch.setattr(targets, "observe", refuse)
    target = fastest(fast_opencl)
    assert target.effective == "cpu"
    assert "OpenCV refuses it" in target.reason


@pytest.mark.parametrize("strict", [False, True])
def test_target_that_breaks_on_this_model_falls_back_with_the_reason(strict: bool, fast_opencl: list[str]) -> None:
    def make(name: str) -> FakePair:
        if name == "opencl":
            raise ModelError("OpenCV cannot run this model")
        return FakePair(name, fast_opencl)

    if strict:
        with pytest.raises(TargetError, match="opencl does not run here: OpenCV cannot run this model"):
            pair.open_pair(make, "opencl", True)  # type: ignore[arg-type]
        return
    opened, target = pair.open_pair(make, "opencl", False)  # type: ignore[arg-type]
    assert opened.name == "cpu"  # type: ignore[attr-defined]
    assert target.warning == "opencl does not run: OpenCV cannot run this model; using cpu"


# OpenCL for real


def test_opencl_runs_in_silence_and_finds_what_the_cpu_finds(pocl: dict[str, str], tmp_path: Path) -> None:
    report = report_of("opencl", tmp_path, **pocl)
    assert (report["effective"], report["reason"]) == ("opencl", "")
    assert report["device"]
    assert report["boxes"]
    assert float(str(report["difference"])) < 1e-3


def test_auto_chooses_by_measuring(pocl: dict[str, str], tmp_path: Path) -> None:
    report = report_of("auto", tmp_path, **pocl)
    assert report["effective"] in ("cpu", "opencl")
    assert str(report["reason"]).startswith("measured at 64x64: cpu ")
    assert len(list((tmp_path / "targets").iterdir())) == 1


PRIORS = """
node { name: "box" op: "Conv2D" }
node { name: "prior" op: "PriorBox" input: "box" attr { key: "clip" value { b: true } } }
node { name: "out" op: "DetectionOutput" input: "box" input: "prior" }
"""


def test_clip_apart_moves_the_clipping_behind_the_anchors() -> None:
    graph = clip_apart(parse_text(PRIORS))
    assert graph["prior"].get("clip", "b") is False
    assert graph["out"].inputs == ["box", "prior/clipped"]
    assert [graph[name].op for name in ("prior/six_times", "prior/relu6", "prior/clipped")] == ["Mul", "Relu6", "Mul"]
    plain = parse_text(PRIORS.replace("true", "false"))
    assert clip_apart(plain) is plain
