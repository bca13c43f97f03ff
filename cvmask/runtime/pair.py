"""Detector and mask head on one target."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import Callable, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError, ModelError, TargetError
from cvmask.graph.convert import clip_apart, scale_by_proposal
from cvmask.graph.graph_def import needed_part, node_places
from cvmask.graph.nodes import Graph
from cvmask.graph.split import split
from cvmask.runtime import targets
from cvmask.runtime.net import KEEPS_FIRST_RUN, Net
from cvmask.runtime.targets import Target
from cvmask.system.files import read_text, write_private
from cvmask.system.folders import cache_home
from cvmask.system.process import quiet

# Where the first run decides on algorithms (`net.KEEPS_FIRST_RUN`) it is Winograd's where a map has 12 pixels a side.
# At a sixteenth of this size all have, as those of usual frames; smaller ones would take 1.2 times as long.
WARM_UP_WH = (192, 192)
_STRIDES = 64  # sizes that differ by a multiple of it have the same paddings in every layer of the backbones
_KEPT_DETECTORS = 2  # a folder holds upright and lying pictures
# Away from the CPU every new count of boxes compiles kernels: these are all that are used.
ROW_COUNTS = (1, 2, 4, 8, 16, 32, 64, 100)
# On the CPU many boxes go so many at a time: a tenth faster than 100 at once, in a tenth of the memory.
ROWS_AT_A_TIME = 10


class Pair:
    """Two networks that share one binary graph. Not safe from several threads.

    Parameters
    ----------
    graph
        The bytes of the binary GraphDef, shape (n,).
    text
        Its text graph.
    target
        Of `targets.NAMES`, but not "auto".
    origin
        Name of the model in messages.
    warm_up_wh
        Width and height of the picture that `warm_up` takes.

    Raises
    ------
    ModelError
        If the graph cannot be loaded or split.
    """

    def __init__(
        self,
        graph: NDArray[np.uint8],
        text: Graph,
        target: str,
        origin: str,
        warm_up_wh: tuple[int, int] = WARM_UP_WH,
    ) -> None:
        self._on_cpu = target == "cpu"
        self._warm_up_wh = warm_up_wh
        self._seen: set[tuple[int, ...]] = set()
        self.mask_shape: tuple[int, ...] = ()  # shape of one object's masks, known after the first run
        text = scale_by_proposal(text)
        self.parts = parts = split(clip_apart(text) if target.startswith("opencl") else text)
        places = node_places(graph, origin)
        with nullcontext() if self._on_cpu else quiet(), ThreadPoolExecutor(1) as other:
            # Loading is mostly reading the graph on one core; the detector's takes longer.
            part = needed_part(graph, places, parts.detector)
            detector = other.submit(self._make_detector, part, origin)
            self._remake = partial(self._make_detector, part, origin) if self._on_cpu and KEEPS_FIRST_RUN else None
            part = needed_part(graph, places, parts.mask_head)
            self.mask_head = Net(part, parts.mask_head_text, [parts.masks], origin)
            self.detector = detector.result()
            for net in (self.detector, self.mask_head):
                targets.prefer(net, target)
        self._detectors = {_paddings(warm_up_wh[::-1]): self.detector}

    def detect(self, blob: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Rows (1, 1, n, 7) and the feature map (1, c, h, w) of a blob (1, 3, H, W)."""
        if self._remake is not None:
            self._choose_detector(self._remake, _paddings(blob.shape[2:]))
        rows, features = self._run(self.detector, {self.parts.image: blob}, blob.shape)
        return rows, features

    def _make_detector(self, part: NDArray[np.uint8], origin: str) -> Net:
        parts = self.parts
        return Net(part, parts.detector_text, [parts.detections, parts.features], origin)

    def _choose_detector(self, remake: Callable[[], Net], key: tuple[int, int, bool]) -> None:
        """Choose a detector whose first run had the same paddings; others would give wrong features."""
        if key not in self._detectors:
            while len(self._detectors) >= _KEPT_DETECTORS:
                del self._detectors[next(iter(self._detectors))]
            self._detectors[key] = remake()
        self.detector = self._detectors[key] = self._detectors.pop(key)  # the last one is the most recent

    def masks(self, features: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Masks (n, classes, h, w), range 0 to 1, of n rows (1, 1, n, 7)."""
        count = rows.shape[2]
        if not count:
            return np.zeros((0, *self.mask_shape), np.float32)
        rows = rows if self._on_cpu else padded(rows)
        step = ROWS_AT_A_TIME if self._on_cpu else rows.shape[2]
        parts = [self._head(features, rows[:, :, i : i + step]) for i in range(0, rows.shape[2], step)]
        return (parts[0] if len(parts) == 1 else np.concatenate(parts))[:count]

    def _head(self, features: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = {self.parts.features: features, self.parts.detections: np.ascontiguousarray(rows)}
        return self._run(self.mask_head, inputs, (*features.shape, rows.shape[2]))[0]

    def warm_up(self, size_wh: tuple[int, int] | None = None, boxes: int = 1) -> None:
        """Run both networks once, on a black picture and boxes that cover it."""
        width, height = size_wh or self._warm_up_wh
        blob = np.zeros((1, 3, height, width), np.float32)
        _, features = self.detect(blob)
        row = np.array([0, 0, 1, 0, 0, 1, 1], np.float32)
        self.mask_shape = self.masks(features, np.tile(row, (1, 1, boxes, 1))).shape[1:]

    def _run(
        self, net: Net, inputs: Mapping[str, NDArray[np.float32]], shape: tuple[int, ...]
    ) -> list[NDArray[np.float32]]:
        """Run forward, silently if a new shape makes OpenCL compile kernels."""
        is_new = not self._on_cpu and shape not in self._seen
        with quiet() if is_new else nullcontext():
            outputs = net.forward(inputs)
        self._seen.add(shape)
        return outputs


def _paddings(size: Sequence[int]) -> tuple[int, int, bool]:
    """Return what paddings and algorithms depend on for this height and width."""
    height, width = size
    return height % _STRIDES, width % _STRIDES, min(height, width) < min(WARM_UP_WH)


def padded(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Repeat the last row until there are as many as one of `ROW_COUNTS`."""
    count = rows.shape[2]
    wanted = next((n for n in ROW_COUNTS if n >= count), count)
    return cast("NDArray[np.float32]", np.pad(rows, ((0, 0), (0, 0), (0, wanted - count), (0, 0)), mode="edge"))


BOXES, RUNS = 4, 3

_MEASURED: dict[str, dict[str, float]] = {}


def open_pair(make: Callable[[str], Pair], name: str, strict: bool) -> tuple[Pair, Target]:
    """Make the networks on a target, run them once and check what ran.

    If OpenCV falls back to the CPU, the networks are made again for the CPU.

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
    """Make the networks on the faster target for frames of `size_wh`: CPU or OpenCL.

    The measurement is cached for each graph, size, device and OpenCV; the next time only the faster one is made.
    """
    with quiet():
        device = targets.opencl_device()
        why_none = "" if device else targets.switched_off() or "there is no OpenCL device"

    def on_cpu(why: str, pair: Pair | None = None) -> tuple[Pair, Target]:
        return pair or open_pair(make, "cpu", False)[0], Target("auto", "cpu", "CPU", why)

    if not device:
        return on_cpu(why_none)
    key = hashlib.sha256(graph.data)
    key.update(repr((size_wh, device, cv2.__version__, cv2.getNumThreads())).encode())
    seconds = _remembered(key.hexdigest())
    if seconds and seconds["cpu"] <= seconds["opencl"]:
        return on_cpu(_reason(seconds, size_wh))
    cpu = None if seconds else open_pair(make, "cpu", False)[0]
    try:
        pair, target = open_pair(make, "opencl", True)
        if cpu is not None:
            seconds = {"cpu": _seconds(cpu, size_wh), "opencl": _seconds(pair, size_wh)}
            _remember(key.hexdigest(), seconds)
    except (TargetError, ModelError) as error:
        return on_cpu(str(error), cpu)
    assert seconds is not None
    if seconds["cpu"] <= seconds["opencl"]:
        return on_cpu(_reason(seconds, size_wh), cpu)
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
    """Return the shortest time of a frame, after a warm-up."""
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
        with suppress(RecursionError, ValueError, TypeError, KeyError, CvmaskError):
            known = json.loads(read_text(cache_home() / "targets" / f"{key}.json", follow_links=False))
            _MEASURED[key] = {name: float(known[name]) for name in ("cpu", "opencl")}
    return _MEASURED.get(key)


def _remember(key: str, seconds: dict[str, float]) -> None:
    _MEASURED[key] = seconds
    with suppress(CvmaskError, OSError):  # if the folder cannot be written, the next run measures again
        write_private(cache_home() / "targets" / f"{key}.json", json.dumps(seconds).encode())
