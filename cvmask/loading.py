"""From what a user calls a model to one that has run once."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Union

import numpy as np

from cvmask import bundled, zoo
from cvmask.graph import facts, patch
from cvmask.graph.prepare import prepare
from cvmask.label_map import read_label_map
from cvmask.model_files import ModelFiles, find_files, is_label_map
from cvmask.palette import read_labels
from cvmask.runtime.model import MaskRCNN, Settings
from cvmask.runtime.resize import Resizer, Size, parse_size

PathLike = Union[str, "os.PathLike[str]"]
COCO_CLASSES = 90


def load(
    model: PathLike = "coco",
    *,
    graph: PathLike | None = None,
    labels: PathLike | Sequence[str] | None = None,
    target: str = "cpu",
    strict_target: bool = False,
    score_threshold: float = 0.5,
    mask_threshold: float = 0.3,
    classes: Iterable[str | int] | None = None,
    max_detections: int = 100,
    proposals: int | None = None,
    size: Size = "auto",
) -> MaskRCNN:
    """Load a model; when this returns, it has run once.

    Parameters
    ----------
    model
        A name from the zoo (`cvmask models list`), a folder, or a frozen graph (`.pb`). A folder holds
        ``frozen_inference_graph.pb`` and, where there are any, ``graph.pbtxt``, ``labels.names`` (or a
        label map) and ``pipeline.config``.
    graph
        A text graph (`.pbtxt`) to use instead of the one found or made.
    labels
        A file of names, one a line, a label map, or the names themselves: one for each class.
    target
        Where it runs, see `cvmask.runtime.targets`.
    strict_target
        Raise TargetError rather than run somewhere else.
    score_threshold
        In 0..1; detections need a higher score. Takes effect below the text graph's own floor too.
    mask_threshold
        In 0..1; kept in ``settings`` for those that draw and export.
    classes
        Names or 0-based ids to keep; None for all.
    max_detections
        At most so many, the best.
    proposals
        Boxes that the first stage hands on. Fewer are faster and approximate: results change.
    size
        "auto" (as trained), "native" (as the frame is), a number (the short side) or "WxH".

    Raises
    ------
    ModelError
        If the model is not at hand, damaged, of another kind, or does not fit its text graph or labels.
    TargetError
        If the target is unknown, or does not run and `strict_target` is set.
    ValueError
        If an option is out of range, or a class unknown.
    """
    settings = Settings(
        score_threshold, mask_threshold, None, max_detections
    )  # checked before anything is read
    files = find_files(zoo.resolve(model))
    prepared = prepare(files.graph, Path(graph) if graph is not None else files.text, files.config)
    names = _labels(labels, files, prepared.classes)
    chosen = None if classes is None else class_ids(classes, names)
    text = prepared.text
    if score_threshold < patch.score_floor(text):
        text = patch.set_score_floor(text, score_threshold)
    if proposals is not None:
        text = patch.set_proposals(text, proposals)
    return MaskRCNN(
        np.fromfile(files.graph, np.uint8),
        text,
        names,
        parse_size(size, _resizer(prepared.resizer)),
        replace(settings, classes=chosen),
        target,
        strict_target,
        str(model),
    )


def _resizer(trained: facts.Resizer) -> Resizer:
    sampling = (
        "align_corners" if trained.align_corners else "half_pixel" if trained.half_pixel_centers else "legacy"
    )
    if trained.kind == "keep_aspect_ratio":
        return Resizer("keep_aspect_ratio", trained.min_dimension, trained.max_dimension, sampling=sampling)
    if trained.kind == "fixed_shape":
        return Resizer("fixed", fixed_wh=(trained.width, trained.height), sampling=sampling)
    return Resizer()


def _labels(given: PathLike | Sequence[str] | None, files: ModelFiles, count: int) -> Sequence[str]:
    """Names from what was given, from beside the model, or of COCO where the count says so."""
    if given is not None and not isinstance(given, (str, os.PathLike)):
        return list(given)
    path = Path(given) if given is not None else files.labels
    if path is not None:
        names = read_label_map(path) if is_label_map(path) else read_labels(path)
        return _padded(names, count) if is_label_map(path) else names
    if count == COCO_CLASSES:
        return read_labels(bundled.path("mscoco_labels.names"))
    return [f"class {number}" for number in range(count)]


def _padded(names: list[str], count: int) -> list[str]:
    # A label map may leave out the last ids, as it may any other.
    return names + [f"class {number}" for number in range(len(names), count)]


def class_ids(classes: Iterable[str | int], labels: Sequence[str]) -> tuple[int, ...]:
    """Turn names and ids into ids, sorted; ValueError names one that does not exist."""
    return tuple(sorted({_class_id(item, labels) for item in classes}))


def _class_id(item: str | int, labels: Sequence[str]) -> int:
    text = str(item).strip()
    for number, label in enumerate(labels):
        if label.casefold() == text.casefold():
            return number
    if text.isdigit() and int(text) < len(labels):
        return int(text)
    near = difflib.get_close_matches(text, labels, 1)
    hint = (
        f", did you mean {near[0]!r}?"
        if near
        else f": names and ids 0 to {len(labels) - 1} are in the labels"
    )
    raise ValueError(f"there is no class {text!r}{hint}")
