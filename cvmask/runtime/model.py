"""`MaskRCNN`, which turns a frame into Detections, its settings and its specification."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError, TargetError
from cvmask.graph import split
from cvmask.graph.facts import Resizer
from cvmask.graph.model_files import GraphFile
from cvmask.graph.nodes import Graph
from cvmask.results.arrays import Picture, check_frame, check_range, label_of, whole_number
from cvmask.results.classes import class_ids
from cvmask.results.detections import Detections
from cvmask.results.masks import check_mask_paste, threshold_of
from cvmask.runtime import targets
from cvmask.runtime.decode import keep_rows, limit_rows, to_detections
from cvmask.runtime.net import OnnxNet, OnnxRuntimeNet, engine, reason
from cvmask.runtime.onnx_pair import OnnxPair
from cvmask.runtime.pair import WARM_UP_WH, Pair, fastest_pair, open_pair
from cvmask.runtime.resize import to_blob
from cvmask.runtime.targets import ONNX_RUNTIME, Target
from cvmask.runtime.tiles import OVERLAP, Progress, Tile, check_tile, detect_tiled, tile_wh
from cvmask.system.process import give_back

USUAL_WH = (640, 480)  # the frame that target="auto" measures with, resized as the model wants it


@dataclass(frozen=True)
class Settings:
    """Settings of a detection.

    Attributes
    ----------
    score_threshold
        In 0..1; detections need a higher score.
    mask_threshold
        In 0..1; where drawing and exports cut masks. None: the usual threshold of `mask_paste`.
    classes
        0-based ids to keep, None for all. The mask head does not run for the others.
    max_detections
        Keep at most this many, the best.
    mask_paste
        How soft masks become pixels, one of `cvmask.results.masks.MASK_PASTES`; kept with the Detections.
    tile
        Side in pixels of overlapping tiles that are processed in addition to the whole frame, or "auto" for the
        model's own size; None for no tiles. ``max_detections`` then holds for each tile.
    overlap
        0 to 0.8: the share of its side by which a tile overlaps the next one.
    """

    score_threshold: float = 0.5
    mask_threshold: float | None = None
    classes: tuple[int, ...] | None = None
    max_detections: int = 100
    mask_paste: str = "tensorflow"
    tile: Tile = None
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        check_tile(self.tile, self.overlap)
        check_range("score_threshold", self.score_threshold, 0, 1)
        threshold_of(check_mask_paste(self.mask_paste), self.mask_threshold)
        whole_number("max_detections", self.max_detections)
        for number in self.classes or ():
            whole_number("a class", number, least=0)


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """Everything that a `MaskRCNN` is made of, for loading, cloning and pickling.

    Attributes
    ----------
    graph
        The bytes of the binary GraphDef, shape (n,), or its file, which is read again when the bytes are needed
        again: for a clone, a copy in another process, or the fingerprint.
    text
        Its text graph.
    labels
        One name for each class. None: "class 0", "class 1" and so on.
    resizer
        How frames are resized.
    settings
        What to look for.
    target
        One of `targets.NAMES`.
    strict_target
        Whether to raise TargetError instead of running on another device.
    origin
        What messages call the model.
    notes
        What is worth saying about its files, a sentence each.
    max_of_a_class
        Most objects of one class, None for no limit. A text graph cannot express it.
    """

    graph: NDArray[np.uint8] | GraphFile
    text: Graph
    labels: tuple[str, ...] | None = None
    resizer: Resizer = field(default_factory=Resizer)
    settings: Settings = field(default_factory=Settings)
    target: str = "cpu"
    strict_target: bool = False
    origin: str = "model"
    notes: tuple[str, ...] = ()
    max_of_a_class: int | None = None

    def read_graph(self) -> NDArray[np.uint8]:
        """Give the bytes of the graph, shape (n,). ModelError if its file is gone or has changed."""
        return self.graph.read() if isinstance(self.graph, GraphFile) else self.graph


class MaskRCNN:
    """A loaded model; `cvmask.load` makes one.

    Two networks share one binary graph: the detector finds boxes, then the mask head runs on the boxes that pass
    the settings. The result equals that of the whole graph, bit for bit.

    Attributes
    ----------
    labels
        One name for each class.
    target
        The requested and the effective target.
    settings, resizer
        As in the specification; both may be replaced between two frames. Settings that the loaded networks do not
        support raise ValueError: scores below the floor of the text graph, and classes that do not exist. A
        ``max_detections`` above that of the text graph has no effect.
    notes
        What is worth saying about its files.
    origin
        What messages call the model.
    graph_bytes
        The size of the binary graph.

    Parameters
    ----------
    spec
        What the model is made of.

    Raises
    ------
    ModelError
        If the graph cannot be loaded, split or run, or has another number of classes than labels.
    TargetError
        If the target is unknown, or is not what runs and ``strict_target`` is set.
    """

    _PUBLIC = frozenset({"graph_bytes", "labels", "notes", "origin", "resizer", "settings", "target"})

    def __init__(self, spec: ModelSpec) -> None:
        targets.check_name(spec.target)
        self._spec = spec
        self._score_floor = split.score_floor(spec.text)
        text = spec.text
        self._limits: tuple[int, int] | None = None
        if spec.max_of_a_class is not None:  # the network gives all rows; otherwise one class could displace the others
            self._limits = spec.max_of_a_class, split.max_detections(text)
            text = split.set_max_detections(text, None)
        self.origin, self.notes, self.resizer = spec.origin, spec.notes, spec.resizer
        self._lock = threading.Lock()

        data = spec.read_graph()
        self.graph_bytes = data.size

        self._pair, self.target = _networks(spec, data, text)
        if isinstance(self._pair, OnnxPair):
            self._limits = None  # it applies the limit per class itself
        self.labels = _checked_labels(spec.labels, int(self._pair.mask_shape[0]), spec.origin)
        self.settings = spec.settings
        give_back()

    @property
    def settings(self) -> Settings:
        """What it looks for."""
        return self._settings

    @settings.setter
    def settings(self, settings: Settings) -> None:
        self._settings = self._checked(settings)

    def _checked(self, settings: Settings) -> Settings:
        """Give the settings, if the loaded networks can serve them; ValueError if not."""
        floor = self._score_floor
        if settings.score_threshold < floor and not math.isclose(settings.score_threshold, floor, rel_tol=1e-6):
            raise ValueError(
                f"score_threshold {settings.score_threshold:g}: this model gives no scores below {floor:g}; "
                "load it with the lower one"
            )
        classes = len(self.labels) if self._pair.mask_shape[0] > 1 else None  # one mask may serve all classes
        for number in settings.classes or ():
            if classes is not None and number >= classes:
                raise ValueError(f"there is no class {number}: this model has classes 0 to {classes - 1}")
        return settings

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse unknown attributes: setting them would do nothing."""
        if not name.startswith("_") and name not in self._PUBLIC:
            cure = f"model.settings = dataclasses.replace(model.settings, {name}=...)"
            known = name in Settings.__dataclass_fields__
            raise AttributeError(f"a model has no attribute {name!r}" + (f": use {cure}" if known else ""))
        super().__setattr__(name, value)

    def detect(
        self,
        frame: Picture,
        *,
        score_threshold: float | None = None,
        classes: Iterable[str | int] | str | int | None = None,
        tile: Tile = None,
        overlap: float | None = None,
        clones: Sequence[MaskRCNN] = (),
        on_tile: Progress = None,
    ) -> Detections:
        """Find objects in one frame. Thread-safe: calls run one after the other; see `clone`.

        Parameters
        ----------
        frame
            uint8, shape (H, W, 3), BGR; not changed.
        score_threshold, classes, tile, overlap
            Override the settings; names of classes are taken too.
        clones
            Models that share the tiles with this one.
        on_tile
            Called with the number of finished tiles, and of all tiles.

        Returns
        -------
        Detections in pixels of the frame, best first.

        Raises
        ------
        TypeError, ValueError
            If it is not a frame, or there is no such class or tile; the message says what to do.
        """
        given: dict[str, Any] = {"score_threshold": score_threshold, "tile": tile, "overlap": overlap}
        if classes is not None:
            given["classes"] = class_ids(classes, self.labels)
        given = {name: value for name, value in given.items() if value is not None}
        settings = self._checked(replace(self.settings, **given)) if given else self.settings
        if settings.tile is None:
            return self._detect(frame, _ignore, settings)
        frame = check_frame(frame)
        size_wh = tile_wh(settings.tile, self.resizer)
        detect = [lambda view, one=one: one._detect(view, _ignore, settings) for one in (self, *clones)]
        return detect_tiled(detect, frame, size_wh, settings.overlap, settings.mask_threshold, on_tile)

    def __call__(self, frame: Picture, **options: Any) -> Detections:
        """Do as `detect` does."""
        return self.detect(frame, **options)

    def detect_timed(self, frame: Picture) -> tuple[Detections, dict[str, float]]:
        """Like `detect`, and return the milliseconds of its stages: resize, detector, mask head, decode."""
        spent_ms: dict[str, float] = {}
        last = time.perf_counter()

        def note(stage: str) -> None:
            nonlocal last
            now = time.perf_counter()
            spent_ms[stage] = spent_ms.get(stage, 0.0) + 1000 * (now - last)
            last = now

        return self._detect(frame, note, self.settings), spent_ms

    def __repr__(self) -> str:
        return f"<MaskRCNN {self.origin}: {len(self.labels)} classes, {self.resizer}, on {self.target.effective}>"

    def clone(self) -> MaskRCNN:
        """Make a copy with networks of its own, for parallel work."""
        return MaskRCNN(self._as_it_is())

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process or on another machine loads its networks there.
        return MaskRCNN, (replace(self._as_it_is(), graph=self._spec.read_graph()),)

    def fingerprint(self) -> str:
        """Give a SHA-256 of the graph, its text and the labels: models with the same one find the same."""
        sums = hashlib.sha256(self._spec.read_graph().data)
        texts = [self._pair.parts.detector_text, self._pair.parts.mask_head_text, *self.labels]
        if self._limits is not None:
            texts.append(str(self._limits))
        sums.update("\n".join(texts).encode())
        return sums.hexdigest()

    def _as_it_is(self) -> ModelSpec:
        """Specify another model like this one, with the resizer and settings that it has now."""
        return replace(self._spec, resizer=self.resizer, settings=self.settings)

    def _blob(self, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return to_blob(frame, self.resizer)
        except cv2.error as error:
            height, width = frame.shape[:2]
            raise ModelError(f"OpenCV cannot resize a frame of {width}x{height}: {reason(error)}") from None

    def _detect(self, frame: Picture, note: Callable[[str], None], settings: Settings) -> Detections:
        frame = check_frame(frame)
        blob = self._blob(frame)
        note("resize")
        with self._lock:
            rows, features = self._pair.detect(blob)
            if not np.isfinite(rows).all():
                raise ModelError(f"{self.origin}: the network gives boxes or scores that are NaN")
            note("detector")
            if self._limits is not None:
                rows = limit_rows(rows, *self._limits)
            kept = keep_rows(rows, settings.score_threshold, settings.classes, settings.max_detections)
            note("decode")
            masks = self._pair.masks(features, kept)
            note("mask head")
        detections = to_detections(kept, masks, (frame.shape[0], frame.shape[1]), settings.mask_paste, self.labels)
        note("decode")
        return detections


def _networks(spec: ModelSpec, data: NDArray[np.uint8], text: Graph) -> tuple[Pair | OnnxPair, Target]:
    """Make the networks on the target that is asked for, or on the CPU; TargetError if another is required."""
    # A graph may accept pictures of one size only.
    warm_up_wh = spec.resizer.fixed_wh if spec.resizer.kind == "fixed" else WARM_UP_WH

    def make(name: str) -> Pair:
        return Pair(data, text, name, spec.origin, warm_up_wh)

    def make_onnx(network: type[OnnxNet | OnnxRuntimeNet]) -> OnnxPair:
        pair = OnnxPair(data, spec.text, spec.origin, warm_up_wh, network)
        pair.warm_up()
        return pair

    onnx, why = engine() == "onnx", ""
    if spec.target == ONNX_RUNTIME:
        try:
            return make_onnx(OnnxRuntimeNet), Target(ONNX_RUNTIME, ONNX_RUNTIME, "CPU", engine="onnx")
        except ModelError as error:
            why = str(error)
    elif onnx and spec.target != "cpu":
        why = "OpenCV runs ONNX networks on the CPU only"
    target = Target(spec.target, "cpu", "CPU", why, engine())
    if why and spec.strict_target and target.fell_back:
        raise TargetError(f"target {spec.target} does not run here: {why}")
    if onnx:
        return make_onnx(OnnxNet), target
    if why:
        return open_pair(make, "cpu", False)[0], target
    if spec.target == "auto":
        return fastest_pair(make, data, spec.resizer.target_wh(USUAL_WH))
    return open_pair(make, spec.target, spec.strict_target)


def _ignore(stage: str) -> None:
    pass


def _checked_labels(labels: Sequence[str] | None, count: int, origin: str) -> tuple[str, ...]:
    """Return the labels, if their number fits the model's."""
    if labels is None:
        return tuple(map(label_of, range(count)))
    if count not in (1, len(labels)):
        raise ModelError(
            f"{origin} has {count} classes, but there are {len(labels)} labels: give one line per class"
        )
    return tuple(labels)
