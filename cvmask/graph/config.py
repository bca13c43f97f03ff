"""What a pipeline.config says, held against what the frozen graph says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.graph.facts import GraphFacts
from cvmask.graph.files import open_regular
from cvmask.graph.text_fields import Message, Word, parse_fields

_MAX_BYTES = 1 << 20


def read_config(path: str | os.PathLike[str]) -> Message:
    """The `model { faster_rcnn { ... } }` part of a pipeline.config.

    Raises
    ------
    ModelError
        If the file cannot be read, or is no such config.
    """
    with open_regular(path) as file:
        text = file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    try:
        found = next(_messages(parse_fields(text), "model", "faster_rcnn"), None)
    except ModelError as error:
        raise ModelError(f"{Path(path).name}: {error}") from None
    if found is None:
        raise ModelError(f"{Path(path).name}: no model {{ faster_rcnn {{ ... }} }} in it")
    return found


def disagreements(facts: GraphFacts, config: Message) -> list[str]:
    """Where a config and the graph differ, a sentence each. The graph is what is run."""
    resizer, anchors = facts.resizer, facts.anchors
    post = ("second_stage_post_processing", "batch_non_max_suppression")
    mask = ("second_stage_box_predictor", "mask_rcnn_box_predictor")
    grid = ("first_stage_anchor_generator", "grid_anchor_generator")
    keep, fixed = ("image_resizer", "keep_aspect_ratio_resizer"), ("image_resizer", "fixed_shape_resizer")
    pairs: list[tuple[tuple[str, ...], float]] = [
        (("num_classes",), facts.classes),
        ((*keep, "min_dimension"), resizer.min_dimension),
        ((*keep, "max_dimension"), resizer.max_dimension),
        ((*fixed, "height"), resizer.height),
        ((*fixed, "width"), resizer.width),
        ((*grid, "height_stride"), anchors.stride[0]),
        ((*grid, "width_stride"), anchors.stride[1]),
        (("first_stage_nms_iou_threshold",), facts.first_stage.iou_threshold),
        (("first_stage_nms_score_threshold",), facts.first_stage.score_threshold),
        (("first_stage_max_proposals",), facts.first_stage.max_total),
        ((*post, "iou_threshold"), facts.second_stage.iou_threshold),
        ((*post, "score_threshold"), facts.second_stage.score_threshold),
        ((*post, "max_detections_per_class"), facts.second_stage.max_per_class),
        ((*post, "max_total_detections"), facts.second_stage.max_total),
        ((*mask, "mask_height"), facts.mask_size[0]),
        ((*mask, "mask_width"), facts.mask_size[1]),
    ]
    return [sentence for path, value in pairs for sentence in _compare(config, path, value)]


def _compare(config: Message, path: tuple[str, ...], value: float) -> Iterator[str]:
    *scope, name = path
    for message in _messages(config, *scope):
        for key, word, _ in message.fields:
            if key == name and isinstance(word, Word) and abs(word.real() - value) > 1e-4:
                yield f"{name} is {word.text} in the config and {value:g} in the graph"


def _messages(message: Message, *names: str) -> Iterator[Message]:
    """The messages that lie under these names, one within the other."""
    if not names:
        yield message
        return
    for key, value, _ in message.fields:
        if key == names[0] and isinstance(value, Message):
            yield from _messages(value, *names[1:])
