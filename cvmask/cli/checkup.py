"""What `cvmask doctor` looks at: every check gives findings, in words."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cvmask import __version__, models
from cvmask.cli.checkup_targets import check_targets
from cvmask.cli.checkup_video import check_video
from cvmask.cli.finding import NOTE, OK, PROBLEM, Finding
from cvmask.errors import CvmaskError
from cvmask.graph.check import check
from cvmask.graph.folder import model_files
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.system.folders import cache_home

OLDEST, TOO_NEW = (4, 8), (5, 1)
WHEELS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
# What each of them imports.
EXTRAS = {
    "progress": ("tqdm",),
    "av": ("av",),
    "serve": ("fastapi", "uvicorn", "websockets", "python_multipart"),
    "ray": ("ray", "pyarrow"),
    "supervision": ("supervision",),
}


def check_versions() -> Iterator[Finding]:
    """Python, NumPy and OpenCV, and whether they go together."""
    yield Finding("cvmask", OK, f"{__version__}, Python {platform.python_version()}, NumPy {np.__version__}")
    yield Finding("system", OK, f"{platform.system()} {platform.machine()}")
    installed = [name for name in WHEELS if _version_of(name)]
    named = ", ".join(f"{name} {_version_of(name)}" for name in installed) or "not from a wheel"
    version = tuple(int(number) for number in re.findall(r"\d+", cv2.__version__)[:2])
    if len(installed) > 1:
        cure = f"pip uninstall {' '.join(installed)}, then install one of them"
        yield Finding("OpenCV", PROBLEM, f"several packages write to one folder: {named}", cure)
    elif not OLDEST <= version < TOO_NEW:
        cure = "pip install 'opencv-python>=4.8,<5.1'"
        yield Finding("OpenCV", PROBLEM, f"{cv2.__version__} ({named}); needed 4.8 to 5.0", cure)
    else:
        yield Finding("OpenCV", OK, f"{cv2.__version__} ({named})")


def check_cpu() -> Iterator[Finding]:
    """Threads, and which of its instruction sets OpenCV has code for and this CPU has."""
    marks = cv2.getCPUFeaturesLine().split()
    used = " ".join(mark.lstrip("*") for mark in marks if not mark.endswith("?"))
    missing = " ".join(mark.strip("*?") for mark in marks if mark.endswith("?"))
    text = f"{cv2.getNumThreads()} threads on {os.cpu_count()} CPUs; uses {used}"
    yield Finding("CPU", OK, text + (f"; this CPU lacks {missing}" if missing else ""))


def check_window() -> Iterator[Finding]:
    """Whether --show can open a window."""
    line = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    kind = line[1] if line else "NONE"
    if kind == "NONE":
        cure = "to use --show, pip uninstall opencv-python-headless and pip install opencv-python"
        yield Finding("window", NOTE, "this OpenCV is built without windows", cure)
    elif sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        yield Finding("window", NOTE, f"OpenCV has {kind}, but this session has no display: no --show here")
    else:
        yield Finding("window", OK, kind)


def check_models() -> Iterator[Finding]:
    """Which known models are at hand, and whether they are what they should be."""
    for model in models.known():
        topic = f"model {model.name}"
        if not _is_here(model.name):
            cure = "reinstall cvmask" if model.bundled else f"cvmask models download {model.name}"
            yield Finding(topic, PROBLEM if model.bundled else NOTE, "not here", cure)
            continue
        report = models.verify(model.name)
        cure = ""
        if not report.ok and not model.bundled:
            cure = f"cvmask models remove {model.name}"
        elif not report.ok and _is_damaged(report.folder):
            cure = "reinstall cvmask"
        yield Finding(topic, OK if report.ok else PROBLEM, "; ".join(report.problems or report.passed), cure)


def check_extras() -> Iterator[Finding]:
    """Optional packages."""
    for extra, modules in EXTRAS.items():
        state = "installed" if all(importlib.util.find_spec(module) for module in modules) else "not installed"
        if extra == "av" and state == "installed" and not has_av():
            state = "older than needed, or without H.264"
        good = state == "installed"
        yield Finding(f"extra {extra}", OK if good else NOTE, state, "" if good else f"pip install 'cvmask[{extra}]'")


def check_cache() -> Iterator[Finding]:
    """Whether the cache folder can be written."""
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
    except CvmaskError:  # there is no cache folder: `check_cache` says so, once
        return False


def _is_damaged(folder: Path) -> bool:
    """Whether its files are wrong, not what runs them."""
    try:
        return bool(check(model_files(folder)).problems)
    except (CvmaskError, OSError):
        return True


def _version_of(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
