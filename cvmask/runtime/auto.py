"""Opening a model on a target; for "auto", measuring which one is faster."""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import suppress
from typing import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError, ModelError, TargetError
from cvmask.runtime import targets
from cvmask.runtime.pair import Pair
from cvmask.runtime.targets import Target
from cvmask.system.files import write_whole
from cvmask.system.folders import cache_home
from cvmask.system.quiet import quiet

BOXES, RUNS = 4, 3

_MEASURED: dict[str, dict[str, float]] = {}


def open_pair(make: Callable[[str], Pair], name: str, strict: bool) -> tuple[Pair, Target]:
    """Make the networks on a target, run them once and see what ran.

    Where OpenCV falls back to the CPU this makes the networks anew, as for the CPU.

    Raises
    ------
    TargetError
        If something else than `name` would run and `strict` is set.
    """
    pair, target = _try(make, name)
    if strict and target.fell_back:
        raise TargetError(f"target {name} does not run here: {target.reason}")
    if pair is None or target.effective == "cpu" != name:
        pair = make("cpu")
        pair.warm_up()
    return pair, target


def fastest_pair(
    make: Callable[[str], Pair], graph: NDArray[np.uint8], size_wh: tuple[int, int]
) -> tuple[Pair, Target]:
    """Make the networks on whatever runs a frame of `size_wh` sooner: CPU or OpenCL.

    What was measured is remembered in the cache folder, for each graph, size, device and OpenCV.
    """
    with quiet():
        device = targets.opencl_device()
        why_none = "" if device else targets.switched_off() or "there is no OpenCL device"
    cpu, _ = open_pair(make, "cpu", False)
    if not device:
        return cpu, Target("auto", "cpu", "CPU", why_none)
    key = hashlib.sha256(graph.data)
    key.update(repr((size_wh, device, cv2.__version__, cv2.getNumThreads())).encode())
    seconds = _remembered(key.hexdigest())
    if seconds and seconds["cpu"] <= seconds["opencl"]:
        return cpu, Target("auto", "cpu", "CPU", _reason(seconds, size_wh))
    try:
        pair, target = open_pair(make, "opencl", True)
        if not seconds:
            seconds = {"cpu": _seconds(cpu, size_wh), "opencl": _seconds(pair, size_wh)}
            _remember(key.hexdigest(), seconds)
    except (TargetError, ModelError) as error:
        return cpu, Target("auto", "cpu", "CPU", str(error))
    if seconds["cpu"] <= seconds["opencl"]:
        return cpu, Target("auto", "cpu", "CPU", _reason(seconds, size_wh))
    return pair, Target("auto", "opencl", target.device, _reason(seconds, size_wh))


def _try(make: Callable[[str], Pair], name: str) -> tuple[Pair | None, Target]:
    try:
        pair = make(name)
        pair.warm_up()
    except ModelError as error:
        if name == "cpu":
            raise
        return None, Target(name, "cpu", "CPU", str(error))
    return pair, targets.observe(pair.detector, name)


def _seconds(pair: Pair, size_wh: tuple[int, int]) -> float:
    """The least that a frame takes, once kernels are compiled and memory is laid out."""
    pair.warm_up(size_wh, BOXES)
    spent = []
    for _ in range(RUNS):
        began = time.perf_counter()
        pair.warm_up(size_wh, BOXES)
        spent.append(time.perf_counter() - began)
    return min(spent)


def _reason(seconds: dict[str, float], size_wh: tuple[int, int]) -> str:
    times = ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in seconds.items())
    return f"measured at {size_wh[0]}x{size_wh[1]}: {times}"


def _remembered(key: str) -> dict[str, float] | None:
    if key not in _MEASURED:
        with suppress(OSError, ValueError, TypeError, KeyError, CvmaskError):
            known = json.loads((cache_home() / "targets" / f"{key}.json").read_text())
            _MEASURED[key] = {name: float(known[name]) for name in ("cpu", "opencl")}
    return _MEASURED.get(key)


def _remember(key: str, seconds: dict[str, float]) -> None:
    _MEASURED[key] = seconds
    with suppress(CvmaskError):  # a folder that cannot be written costs a measurement next time, no more
        write_whole(cache_home() / "targets" / f"{key}.json", json.dumps(seconds).encode())
