"""Loads a model by name, folder or file, and runs it once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Union

import numpy as np

from cvmask import models
from cvmask.errors import ModelError
from cvmask.graph import split
from cvmask.graph.check import label_problems, prepare
from cvmask.graph.facts import GraphFacts, Resizer
from cvmask.graph.model_files import ModelFiles, model_files
from cvmask.graph.nodes import Graph
from cvmask.models.labels import names_file, read_names, unnamed_note
from cvmask.results.arrays import check_range, label_of, whole_number
from cvmask.results.classes import class_ids
from cvmask.runtime.model import MaskRCNN, ModelSpec, Settings
from cvmask.runtime.net import kept_text
from cvmask.runtime.resize import Size, parse_size
from cvmask.runtime.tiles import OVERLAP, Tile, tile_wh

PathLike = Union[str, "os.PathLike[str]"]


def load(
    model: PathLike = "coco",
    *,
    graph: PathLike | None = None,
    keep_graph: bool = False,
    labels: PathLike | Sequence[str] | None = None,
    target: str = "cpu",
    strict_target: bool = False,
    score_threshold: float = 0.5,
    mask_threshold: float | None = None,
    mask_paste: str = "tensorflow",
    classes: Iterable[str | int] | str | int | None = None,
    max_detections: int | None = None,
    proposals: int | None = None,
    size: Size = "auto",
    tile: Tile = None,
    overlap: float = OVERLAP,
) -> MaskRCNN:
    """Load a model; when this returns, it has run once.

    With glibc, a frame takes up to a tenth less time if the process has called
    `cvmask.system.process.reuse_large_blocks`, as the command does. Loading itself changes no setting of the process.

    Parameters
    ----------
    model
        A name from the zoo (`cvmask models list`), a folder, or a frozen graph (`.pb`). A folder holds
        ``frozen_inference_graph.pb`` and optionally ``graph.pbtxt``, ``labels.names`` (or a
        label map) and ``pipeline.config``.
    graph
        A text graph (`.pbtxt`) to use instead of the one found or made. If it contradicts the frozen graph, the
        frozen graph's values are used, and a note says so.
    keep_graph
        Run the text graph even if it contradicts the frozen graph.
    labels
        A file of names, one per line, a label map, or the names themselves: one for each class.
    target
        The device to run on, see `cvmask.runtime.targets`.
    strict_target
        Raise TargetError instead of running on another device.
    score_threshold
        In 0..1; detections need a higher score. It may be below the text graph's own floor.
    mask_threshold
        In 0..1; kept in ``settings`` for drawing and export. None: the usual one of `mask_paste`.
    mask_paste
        How soft masks become pixels: "tensorflow", as the Object Detection API does, cut at 0.5; or "tutorial", as
        OpenCV's tutorials do, cut at 0.3. Kept with the Detections.
    classes
        Names or 0-based ids to keep, or one comma-separated text; None for all.
    max_detections
        Keep at most this many, the best. None: as many as the model was exported for. A smaller limit per class in the
        model still applies.
    proposals
        Number of boxes that the first stage passes on. Fewer are faster, but results are approximate.
    size
        "auto" (as trained), "native" (as the frame is), a number (the short side) or "WxH".
    tile, overlap
        As in `Settings`: how large pictures are divided into tiles, unless `detect` is given other values.

    Raises
    ------
    ModelError
        If the model is missing, damaged, of another kind, or does not fit its text graph or labels.
    TargetError
        If the target is unknown, or this OpenCV was built without it, or its package is missing, or it fails and
        `strict_target` is set.
    TypeError, ValueError
        If an option is of another type, or out of range, or a class unknown.
    """
    # Options are checked before a large file is read.
    most = 100 if max_detections is None else max_detections
    settings = Settings(score_threshold, mask_threshold, None, most, mask_paste, tile, overlap)
    parse_size(size, Resizer())
    if proposals is not None:
        proposals = whole_number("proposals", proposals)
        check_range("proposals", proposals, 1, split.MAX_PROPOSALS)
    names_given = _names(labels)
    files = model_files(models.resolve(model), graph)
    kept, unkept = kept_text(keep_graph, target)
    report = prepare(files, kept)
    report.raise_problem()
    assert report.frozen is not None
    assert report.text is not None
    assert report.classes is not None
    names = labels_of(names_given, files, report.classes)
    unnamed = unnamed_note(files, report.classes) if names_given is None else ""
    left_out = unkept if report.files.text != files.text else ""
    text = report.text
    if score_threshold < split.score_floor(text):
        text = split.set_score_floor(text, score_threshold)
    if proposals is not None:
        text = split.set_proposals(text, proposals)
    own = split.max_detections(text)
    if max_detections is None and own > 0:
        settings = replace(settings, max_detections=own)
    elif 0 < own < settings.max_detections:
        text = split.set_max_detections(text, settings.max_detections)
    resizer = _resizer(size, report.facts, text, str(model))
    if tile is not None:
        tile_wh(tile, resizer)
    return MaskRCNN(
        ModelSpec(
            graph=report.frozen,
            text=text,
            labels=tuple(names),
            resizer=resizer,
            settings=settings if classes is None else replace(settings, classes=class_ids(classes, names)),
            target=target,
            strict_target=strict_target,
            origin=str(model),
            notes=(*report.notes, *filter(None, (left_out, unnamed))),
            max_of_a_class=report.facts.max_of_a_class if report.facts else None,
        )
    )


def _resizer(size: Size, known: GraphFacts | None, text: Graph, origin: str) -> Resizer:
    """Return the resizer for a user's `size`; ValueError if the graph takes pictures of one size only."""
    trained = known.resizer if known is not None else Resizer()  # not understood: pictures keep their size
    wanted = parse_size(size, trained)
    if trained.kind == "fixed" and wanted.fixed_wh != trained.fixed_wh and split.has_built_in_size(text):
        raise ValueError(
            f"{origin} is built for pictures of {trained} and resizes each to that; got size {size}: leave it out"
        )
    return wanted


def _names(given: PathLike | Sequence[str] | None) -> PathLike | list[str] | None:
    """Check labels that were given as names; return a file's path unchanged."""
    if given is None or isinstance(given, (str, os.PathLike)):
        return given
    wanted = "labels must be a file or a list of names"
    if not isinstance(given, (list, tuple, np.ndarray)):
        raise TypeError(f"{wanted}, got {type(given).__name__}")
    for name in given:
        if not isinstance(name, str):
            raise TypeError(f"{wanted}, got {name!r} in the list")
    return [str(name) for name in given]


def labels_of(given: PathLike | list[str] | None, files: ModelFiles, classes: int) -> Sequence[str]:
    """Return the given names, or those in the file that belongs to the model. ModelError if their number is wrong."""
    place: PathLike = files.graph
    if isinstance(given, list):
        names, place = given, "labels"
    else:
        found = given if given is not None else names_file(files, classes)
        place = found if found is not None else files.graph
        names = list(map(label_of, range(classes))) if found is None else read_names(found, classes)
    problems = label_problems(len(names), classes)
    if problems:
        raise ModelError(f"{place}: {problems[0]}")
    return names
