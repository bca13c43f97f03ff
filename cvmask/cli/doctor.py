"""cvmask doctor: check what works on this machine, and how to fix the rest."""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable

import cv2
import numpy as np

from cvmask import __version__, models
from cvmask.cli import options
from cvmask.cli.progress import say
from cvmask.errors import CvmaskError, install
from cvmask.graph.check import inspect
from cvmask.graph.model_files import model_files
from cvmask.runtime import targets
from cvmask.runtime.net import engine_text, install_opencv, installed_wheels, missing_importer
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.av_encoder import SUFFIXES as AV_SUFFIXES
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sources.av_capture import AV_CURE
from cvmask.system.folders import cache_home
from cvmask.system.process import python_program, quiet

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `state` is OK, NOTE or PROBLEM; `cure` says what to do, if anything."""

    topic: str
    state: str
    text: str
    cure: str = ""


TIMEOUT_S = 300
OPENCL_TIMEOUT_S = 60

_CODE = """
import json, sys, time
from cvmask import load, scenes
from cvmask.errors import CvmaskError
try:
    model = load("shapes", target=sys.argv[1])
except CvmaskError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
frame = scenes.make_scene(7, (320, 320)).image
model.detect(frame)
began = time.perf_counter()
model.detect(frame)
spent_ms = 1000 * (time.perf_counter() - began)
seen = model.target
print(json.dumps({"effective": seen.effective, "device": seen.device, "reason": seen.reason, "ms": spent_ms}))
"""

_OPENCL_CODE = """
import json
from cvmask.cli.doctor import opencl_devices
from cvmask.runtime import targets
from cvmask.system.process import python_program, quiet
with quiet():
    seen = {"devices": opencl_devices(), "taken": targets.opencl_device()}
    seen["off"] = "" if seen["taken"] else targets.switched_off()
print(json.dumps(seen))
"""


def try_opencl(timeout_s: float = OPENCL_TIMEOUT_S) -> dict[str, Any]:
    """Find the OpenCL devices, in a process of their own.

    Returns
    -------
    ``devices``, as `opencl_devices` gives them, ``taken``, the name of the device that OpenCV uses, and ``off``,
    the variable that keeps it from using one; or else ``error``.
    """
    return _ask([_OPENCL_CODE], timeout_s)


def try_target(name: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """Try a target, in a process of its own.

    Returns
    -------
    ``effective``, ``device``, ``reason`` and ``ms`` (of one 320x320 frame), or else ``error``.
    """
    return _ask([_CODE, name], timeout_s)


def _ask(code_and_arguments: list[str], timeout_s: float) -> dict[str, Any]:
    """Run Python code, and return the JSON in the last line it prints, or the reason for a failure as ``error``."""
    python = python_program()
    if python is None:
        return {"error": "not tried: this program is not a Python interpreter"}
    command = [python, "-c", *code_and_arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:.0f} seconds"}
    if done.returncode == 0:
        try:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        except (ValueError, IndexError):
            return {"error": f"answered {done.stdout[-80:]!r}"}
    if done.returncode < 0:
        return {"error": f"the process crashed (signal {-done.returncode})"}
    return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}


def check_targets() -> Iterator[Finding]:
    """Report the OpenCL devices, and what each target really does, by running the bundled model on it."""
    opencl = _opencl()
    yield opencl
    for name in targets.NAMES:
        if opencl.state == PROBLEM and name != "cpu":  # OpenCV also starts OpenCL for CUDA and Vulkan
            yield Finding(f"target {name}", NOTE, "not tried: the OpenCL driver does not work")
        else:
            yield _target(name)


def _opencl() -> Finding:
    """Report all OpenCL devices, and the one that OpenCV uses."""
    if os.environ.get("OPENCV_OPENCL_RUNTIME") == "disabled":  # the driver is not called either
        return Finding("OpenCL", NOTE, "switched off", "unset OPENCV_OPENCL_RUNTIME=disabled to use it")
    seen = try_opencl()
    if "error" in seen:
        listed_in = os.environ.get("OCL_ICD_VENDORS", "/etc/OpenCL/vendors")
        cure = (
            "set OPENCV_OPENCL_RUNTIME=disabled to turn OpenCL off, or remove or reinstall its driver "
            f"(on Linux a file in {listed_in} names it)"
        )
        return Finding("OpenCL", PROBLEM, f"the driver failed to list its devices: {seen['error']}", cure)
    devices, taken = seen["devices"], seen["taken"]
    if not devices:
        what = "no OpenCL library" if devices is None else "an OpenCL library without devices"
        return Finding("OpenCL", NOTE, what, "install the driver of your GPU; without a GPU use target cpu")
    listed = "; ".join(f"{device} ({platform_name})" for platform_name, device in devices)
    cure = "" if taken else seen["off"] or f"OpenCV takes GPUs only; to run on a CPU device, {targets.TAKE_CPU}"
    return Finding("OpenCL", OK if taken else NOTE, f"{listed}. OpenCV takes {taken or 'none'}", cure)


def _target(name: str) -> Finding:
    seen = try_target(name)
    topic = f"target {name}"
    if "error" in seen:
        return Finding(topic, PROBLEM if name == "cpu" else NOTE, str(seen["error"]).removeprefix(f"{topic}: "))
    if name not in ("auto", seen["effective"]):
        return Finding(topic, NOTE, f"would run on {seen['effective']}: {seen['reason']}")
    where = f"runs on {seen['device']}" if name != "auto" else f"takes {seen['effective']}"
    why = f" ({seen['reason']})" if seen["reason"] else ""
    return Finding(topic, OK, f"{where}, {seen['ms']:.0f} ms a 320x320 frame{why}")


def check_video() -> Iterator[Finding]:
    """Report which video formats OpenCV writes, and whether PyAV can write H.264."""
    written: list[str] = []
    refused: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in CODECS.items():
            why = why_not_written(Path(folder) / f"clip{suffix}", use_av=False)
            (refused if why else written).append(f"{codec} ({suffix})")
    text = f"writes {', '.join(written) or 'nothing'}" + (f"; not {', '.join(refused)}" if refused else "")
    cure = "" if written else "install the wheel opencv-python, which brings FFmpeg"
    yield Finding("video", OK if written else PROBLEM, text, cure)
    yield _h264()


def _h264() -> Finding:
    topic, kinds = "video in H.264", ", ".join(AV_SUFFIXES)
    if not has_av():
        return Finding(topic, NOTE, f"not written: {kinds} are written as mp4v, without sound", AV_CURE)
    with tempfile.TemporaryDirectory() as folder:
        reasons = [why_not_written(Path(folder) / f"clip{suffix}", use_av=True) for suffix in AV_SUFFIXES]
    why = next(filter(None, reasons), "")
    if why:
        return Finding(topic, PROBLEM, f"cannot be written: {why}", f"pip uninstall av, or {AV_CURE} --upgrade")
    return Finding(topic, OK, f"writes {kinds}")


def why_not_written(path: Path, use_av: bool) -> str:
    """Write and read a video of three frames; return why that fails, or an empty text."""
    frame = np.full((48, 64, 3), 127, np.uint8)
    with quiet():
        try:
            with VideoFile(path, use_av=use_av) as video:
                for _ in range(3):
                    video.write(frame)
        except (CvmaskError, OSError, cv2.error) as error:
            return str(error).replace(str(path), f"a file of {path.suffix}")
        capture = cv2.VideoCapture(str(path))
        try:
            return "" if all(capture.read()[0] for _ in range(3)) else f"OpenCV cannot read the file of {path.suffix}"
        finally:
            capture.release()


OLDEST, TOO_NEW = (4, 8), (5, 1)
# What each of them imports.
EXTRAS = {
    "progress": ("tqdm",),
    "av": ("av",),
    "serve": ("fastapi", "uvicorn", "websockets", "python_multipart"),
    "ray": ("ray", "pyarrow"),
    "supervision": ("supervision",),
}


def check_versions() -> Iterator[Finding]:
    """Report the versions of Python, NumPy and OpenCV, and whether they are supported."""
    yield Finding("cvmask", OK, f"{__version__}, Python {platform.python_version()}, NumPy {np.__version__}")
    yield Finding("system", OK, f"{platform.system()} {platform.machine()}")
    installed = installed_wheels()
    named = ", ".join(f"{name} {its}" for name, its in installed.items()) or "not from a wheel"
    version = tuple(int(number) for number in re.findall(r"\d+", cv2.__version__)[:2])
    if len(installed) > 1:
        cure = f"pip uninstall {' '.join(installed)}, then install one of them"
        yield Finding("OpenCV", PROBLEM, f"several packages write to one folder: {named}", cure)
    elif not OLDEST <= version < TOO_NEW:
        yield Finding("OpenCV", PROBLEM, f"{cv2.__version__} ({named}); needed 4.8 to 5.0", install_opencv())
    elif lack := missing_importer():
        text, _, cure = lack.partition(": ")
        yield Finding("OpenCV", PROBLEM, text, cure)
    else:
        yield Finding("OpenCV", OK, f"{cv2.__version__} ({named}); runs graphs with {engine_text()}")


def check_cpu() -> Iterator[Finding]:
    """Report threads, and the instruction sets that OpenCV was built for and this CPU has."""
    marks = cv2.getCPUFeaturesLine().split()
    used = " ".join(mark.lstrip("*") for mark in marks if not mark.endswith("?"))
    missing = " ".join(mark.strip("*?") for mark in marks if mark.endswith("?"))
    text = f"{cv2.getNumThreads()} threads on {os.cpu_count()} CPUs; uses {used}"
    yield Finding("CPU", OK, text + (f"; this CPU lacks {missing}" if missing else ""))


def check_window() -> Iterator[Finding]:
    """Report whether --show can open a window."""
    line = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    kind = line[1] if line else "NONE"
    if kind == "NONE":
        cure = "to use --show, pip uninstall opencv-python-headless and pip install opencv-python"
        yield Finding("window", NOTE, "this OpenCV is built without windows", cure)
    elif sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Finding("window", NOTE, f"OpenCV has {kind}, but there is no display, so --show does not work")
    else:
        yield Finding("window", OK, kind)


def check_models() -> Iterator[Finding]:
    """Report which known models are installed, and whether their files are intact."""
    for model in models.known():
        topic = f"model {model.name}"
        if not _is_here(model.name):
            cure = "reinstall cvmask" if model.bundled else f"cvmask models download {model.name}"
            yield Finding(topic, PROBLEM if model.bundled else NOTE, "not installed", cure)
            continue
        report = models.verify(model.name)
        cure = ""
        if not report.ok and not model.bundled:
            cure = f"cvmask models remove {model.name}"
        elif not report.ok and _is_damaged(report.folder):
            cure = "reinstall cvmask"
        yield Finding(topic, OK if report.ok else PROBLEM, "; ".join(report.problems or report.passed), cure)


def check_extras() -> Iterator[Finding]:
    """Report optional packages."""
    for extra, modules in EXTRAS.items():
        state = "installed" if all(importlib.util.find_spec(module) for module in modules) else "not installed"
        if extra == "av" and state == "installed" and not has_av():
            state = "older than needed, or without H.264"
        good = state == "installed"
        yield Finding(f"extra {extra}", OK if good else NOTE, state, "" if good else install(extra))


def check_cache() -> Iterator[Finding]:
    """Report whether the cache folder can be written."""
    try:
        home = cache_home()
    except CvmaskError as error:
        yield Finding("cache folder", PROBLEM, str(error))
        return
    folder = next(place for place in (home, *home.parents) if place.exists())
    good = os.access(folder, os.W_OK | os.X_OK)
    cure = "" if good else "set CVMASK_HOME to a folder that you may write to"
    yield Finding("cache folder", OK if good else PROBLEM, "can be written" if good else "cannot be written", cure)


CHECKS = (
    check_versions, check_cpu, check_targets, check_video,
    check_window, check_models, check_extras, check_cache,
)  # fmt: skip


def _is_here(model: str) -> bool:
    try:
        return models.find(model) is not None
    except CvmaskError:  # there is no cache folder: `check_cache` reports it once
        return False


def _is_damaged(folder: Path) -> bool:
    """Return True if the model's files are wrong, False if only running them fails."""
    try:
        return bool(inspect(model_files(folder)).problems)
    except (CvmaskError, OSError):
        return True


WIDTH = 27
# Placeholders in bug reports for folders that would reveal the user.
_FOLDERS: dict[str, Callable[[], str | Path]] = {
    "CACHE": cache_home,
    "INSTALLED": lambda: Path(__file__).resolve().parents[2],
    "PYTHON": lambda: sys.prefix,
    "TEMPORARY": tempfile.gettempdir,
    "HERE": os.getcwd,
    "HOME": lambda: os.path.expanduser("~"),
}
EPILOG = """\
The exit code is 0 if nothing is wrong, else 1. The bundled model runs on every target: on a machine
with OpenCL the first time takes a while.
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "doctor",
        EPILOG,
        help="check what works on this machine and how to fix the rest",
        description="Check OpenCV, targets, video, windows and models on this machine.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON for a bug report, without personal paths")


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code: 1 if there is a problem."""
    return print_report(as_json=args.json)


def print_report(as_json: bool) -> int:
    """Print all findings; 1 if there is a problem."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            say(line(finding))
    if as_json:
        say(*without_paths(json.dumps([asdict(finding) for finding in findings], indent=1)).split("\n"))
    return int(any(finding.state == PROBLEM for finding in findings))


def examine() -> Iterator[Finding]:
    """Run all checks; a check that fails to run is a finding too."""
    for examine_one in CHECKS:
        try:
            yield from examine_one()
        except (CvmaskError, OSError, ValueError, RuntimeError) as error:
            yield Finding(examine_one.__name__.replace("check_", ""), PROBLEM, f"the check failed: {error}")


def line(finding: Finding) -> str:
    """Format a finding as a line."""
    sign = {"ok": "ok   ", "note": "note ", "problem": "WRONG"}[finding.state]
    cure = f"\n      {'':{WIDTH}} -> {finding.cure}" if finding.cure else ""
    return f"{sign} {finding.topic:{WIDTH}} {finding.text}{cure}"


def without_paths(text: str) -> str:
    """Replace folders that would reveal the user; `text` is JSON."""
    folders = {}
    for name, find in _FOLDERS.items():
        with suppress(CvmaskError, OSError):  # a user without a home, a deleted working folder
            folders[str(find())] = name
    for folder, name in sorted(folders.items(), key=lambda item: -len(item[0])):
        if len(folder) > 1:
            text = text.replace(json.dumps(folder)[1:-1], name)
    return re.sub(r'(/home/|/Users/|[A-Za-z]:\\\\+Users\\\\+)[^/\\" ]+', "HOME", text)


PLATFORM_NAME, DEVICE_NAME, ALL_DEVICES = 0x0902, 0x102B, 0xFFFFFFFF
_AT_MOST = 64


def opencl_devices() -> list[tuple[str, str]] | None:
    """Return the names of platform and device of each OpenCL device; None without an OpenCL library."""
    library = _library()
    if library is None:
        return None
    found = []
    for platform_id in _ids(library.clGetPlatformIDs):
        name = _text(library.clGetPlatformInfo, platform_id, PLATFORM_NAME)
        devices = _ids(library.clGetDeviceIDs, platform_id, ctypes.c_uint64(ALL_DEVICES))
        found += [(name, _text(library.clGetDeviceInfo, device, DEVICE_NAME)) for device in devices]
    return found


def _library() -> ctypes.CDLL | None:
    path = ctypes.util.find_library("OpenCL")
    for name in filter(None, (path, "libOpenCL.so.1", "OpenCL.dll")):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _ids(function: Any, *first: object) -> list[ctypes.c_void_p]:
    ids, count = (ctypes.c_void_p * _AT_MOST)(), ctypes.c_uint(0)
    failed = function(*first, ctypes.c_uint(_AT_MOST), ids, ctypes.byref(count))
    return [] if failed else [ctypes.c_void_p(ids[i]) for i in range(min(count.value, _AT_MOST))]


def _text(function: Any, of: ctypes.c_void_p, what: int) -> str:
    text = ctypes.create_string_buffer(256)
    function(of, ctypes.c_uint(what), ctypes.c_size_t(len(text)), text, None)
    return text.value.decode("utf-8", "replace").strip()
