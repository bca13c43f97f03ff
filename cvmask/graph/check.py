"""Checks the files of a model before OpenCV sees them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError
from cvmask.graph import cache
from cvmask.graph.compare import contradiction_note, contradictions, facts_as_run
from cvmask.graph.convert import convert_with_facts
from cvmask.graph.describe import read_facts
from cvmask.graph.facts import GraphFacts
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.layers import stripped
from cvmask.graph.model_files import GraphFile, ModelFiles, identify
from cvmask.graph.nodes import NUMPY_DTYPES, Graph, Node, RefusedError, understood
from cvmask.graph.split import final_detections, split
from cvmask.graph.text import Message, Word, parse_fields, read_text
from cvmask.system import folders
from cvmask.system.files import open_regular

OPENCV_VERSIONS = "4.8 to 5.0"
# The ops that Mask R-CNNs consist of. All of these versions read all of them; a test tries each.
_READ = """
    Abs Add AddN AddV2 AvgPool BatchToSpaceND BiasAdd ClipByValue Concat ConcatV2 Const Conv2D
    Conv2DBackpropInput CropAndResize DepthwiseConv2dNative DetectionOutput Elu Exp ExpandDims Flatten
    FusedBatchNorm FusedBatchNormV3 Identity LeakyRelu MatMul MaxPool Mean Mul Pack Pad Placeholder PriorBox
    RealDiv Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor Sigmoid Slice Softmax SpaceToBatchND
    Split Squeeze StridedSlice Sub Sum Tanh Transpose
"""
READ = frozenset(_READ.split())


def unread(graph: Iterable[Node]) -> list[Node]:
    """Return the layers that OpenCV is not known to read."""
    return [node for node in graph if node.op not in READ]


def support_notes(text: Graph) -> list[str]:
    """Return reasons why a text graph may not run in any supported version of OpenCV."""
    nodes = unread(text)
    if not nodes:
        return []
    ops = ", ".join(sorted({node.op for node in nodes}))
    return [
        f"{text.origin}: OpenCV is not known to have a layer for {ops} (node {nodes[0].name!r}); "
        "if it refuses the model, leave this file out; a matching one is then made from the frozen graph"
    ]


def has_clipped_anchors(text: Graph) -> bool:
    """Return True if the graph clips anchors, which on OpenCL needs layers of its own."""
    return any(node.op == "PriorBox" and node.get("clip", "b", False) for node in text)


_MAX_BYTES = 1 << 20


def read_config(path: str | os.PathLike[str]) -> Message:
    """Read the `model { faster_rcnn { ... } }` part of a pipeline.config.

    Raises
    ------
    ModelError
        If the file cannot be read, or has no such part.
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
    """Return the differences between a config and the graph, one sentence each. The graph is what runs."""
    resizer, anchors = facts.resizer, facts.anchors
    post = ("second_stage_post_processing", "batch_non_max_suppression")
    mask = ("second_stage_box_predictor", "mask_rcnn_box_predictor")
    grid = ("first_stage_anchor_generator", "grid_anchor_generator")
    keep, fixed = ("image_resizer", "keep_aspect_ratio_resizer"), ("image_resizer", "fixed_shape_resizer")
    pairs: list[tuple[tuple[str, ...], float]] = [
        (("num_classes",), facts.classes),
        ((*keep, "min_dimension"), resizer.min_dimension),
        ((*keep, "max_dimension"), resizer.max_dimension),
        (
            ("image_resizer", "conditional_shape_resizer", "size_threshold"),
            max(resizer.min_dimension, resizer.max_dimension),
        ),
        ((*fixed, "height"), resizer.fixed_wh[1]),
        ((*fixed, "width"), resizer.fixed_wh[0]),
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
    """Return the messages at this path of nested names."""
    if not names:
        yield message
        return
    for key, value, _ in message.fields:
        if key == names[0] and isinstance(value, Message):
            yield from _messages(value, *names[1:])


T = TypeVar("T")
_NEEDED_TIMES = 3  # the file, its parsed form and the layers' own copies, all at once while loading


@dataclass(frozen=True, eq=False)
class Inspection:
    """The result of `inspect`: the text graph to run, the facts if they could be read, and every problem.

    `files` are the files in use: one that was left out is None, and a note says why. `facts` describe what runs.
    `frozen` is the file of the frozen graph and `data` its bytes, shape (n,), both None if it could not be read.
    """

    files: ModelFiles
    text: Graph | None
    facts: GraphFacts | None
    classes: int | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    frozen: GraphFile | None
    data: NDArray[np.uint8] | None

    def raise_problem(self) -> None:
        """Raise the first problem as a ModelError."""
        if self.problems:
            raise ModelError(self.problems[0])


def inspect(files: ModelFiles, label_count: int | None = None, keep_text: bool = False) -> Inspection:
    """Check the files of a model and report everything that would stop them from working. Writes nothing.

    A text graph that contradicts its frozen graph is left out, or with `keep_text` only noted.
    Never raises: a file that cannot be read is a problem in the report, and the other files are still checked.
    """
    return _Look(files).report(label_count, keep_text)


def prepare(files: ModelFiles, keep_text: bool = False) -> Inspection:
    """Inspect the files of a model, and cache a converted text graph for the next load.

    It is written beside the model or, if that folder is read-only, to the cache folder. Never raises, like `inspect`.
    """
    look = _Look(files)
    report = look.report(None, keep_text)
    if look.converted_key and report.text is not None and report.facts is not None and not report.problems:
        cache.keep(files.graph, look.converted_key, report.text, report.facts)
    return report


class _Look:
    """Checks one file after the other, and collects the problems.

    `converted_key` is the fingerprint of the frozen graph, if it was converted and no text graph was kept for it.
    """

    def __init__(self, files: ModelFiles) -> None:
        self.files = files
        self.problems: list[str] = []
        self.notes = list(files.notes)
        self.converted_key = ""
        self._source: GraphFile | None = None
        self._data: NDArray[np.uint8] | None = None
        self._kinds_fit = self._try(_check_kinds, files) is not None
        self.frozen: Graph | None = None
        if self._kinds_fit:
            self.problems += self._try(memory_problems, files.graph) or []
            self._source = self._try(GraphFile, files.graph)
        if self._source is not None:
            self._data = self._try(self._source.read)

    def report(self, label_count: int | None, keep_text: bool) -> Inspection:
        """Check everything."""
        text, facts = self._converted() if self.files.text is None else self._own_text(keep_text)
        classes = facts.classes if facts else _classes(text)
        if classes is not None and label_count is not None:
            self.problems += label_problems(label_count, classes)
        if self.files.config is not None and facts is not None:
            self._compare_config(self.files.config, facts)
        problems, notes = tuple(self.problems), tuple(self.notes)
        return Inspection(self.files, text, facts, classes, problems, notes, self._source, self._data)

    def _converted(self) -> tuple[Graph | None, GraphFacts | None]:
        """Convert the frozen graph: the text graph and the facts, or only the facts if it cannot be converted."""
        key, known = "", None
        if self._data is not None:
            key, known = cache.find(self.files.graph, self._data)
        if known is not None:  # only text graphs that passed every check are cached
            return known
        self._parse()
        if self.frozen is None:
            return None, None
        if self.problems:  # the cause; its consequences would only hide it
            return None, self._facts([])
        self.converted_key = key
        return self._try(convert_with_facts, self.frozen) or (None, self._facts([]))

    def _parse(self) -> None:
        if self._data is not None:
            self.frozen = self._try(parse_graph, self._data, self.files.graph.name)
        if self.frozen is not None:
            self.problems += self._try(export_problems, self.frozen) or self._try(weight_problems, self.frozen) or []

    def _own_text(self, keep: bool) -> tuple[Graph | None, GraphFacts | None]:
        """Return the text graph to run and the facts, for a model that came with a text graph.

        The given text graph is compared with the frozen graph. If they differ, the one converted from the frozen
        graph runs, or with `keep` the given one.
        """
        self._parse()
        found: list[str] = []
        made, facts = self._made(found)
        text = self._try(read_text, self.files.text) if self._kinds_fit else None
        if text is None:
            return None, facts
        if self.frozen is not None:
            self.problems += self._try(mismatches, self.frozen, text, facts is not None) or []
        self.notes += support_notes(text)
        if self._try(split, text) is None:
            return None, facts
        self.notes += [
            f"the text graph is used unchecked, because the frozen graph was not understood: {why}" for why in found
        ]
        if self.frozen is None or self.problems:
            return text, facts
        differ = self._try(contradictions, text, made, self.frozen, facts) if made is not None else None
        if differ:
            self.notes.append(contradiction_note(text, differ, keep))
            if not keep:
                self.files = replace(self.files, text=None)
                return made, facts
        if facts is None or (made is not None and not differ):
            return text, facts
        return text, self._try(facts_as_run, facts, text, self.frozen)

    def _made(self, problems: list[str]) -> tuple[Graph | None, GraphFacts | None]:
        """Convert the frozen graph as in `_converted`, and add the reasons for a failure to `problems`.

        If no other text graph would help, they are added to the problems of the model instead.
        """
        if self.frozen is None:
            return None, None
        try:
            return convert_with_facts(self.frozen)
        except RefusedError as error:
            self.problems.append(str(error))
        except ModelError as error:
            problems.append(str(error))
        return None, self._facts([])

    def _compare_config(self, config: Path, facts: GraphFacts) -> None:
        """Note where the config and the graph disagree. A config that cannot be read is only noted as well."""
        found: list[str] = []
        self.notes += self._try(lambda: disagreements(facts, read_config(config)), into=found) or found

    def _facts(self, problems: list[str]) -> GraphFacts | None:
        return self._try(read_facts, self.frozen, into=problems) if self.frozen is not None else None

    def _try(self, function: Callable[..., T], *args: object, into: list[str] | None = None) -> T | None:
        """Call a function. If it raises, add the reason to the problems and return None."""
        problems = self.problems if into is None else into
        # `read_facts` and `convert` translate such errors for frozen graphs; here it is the text graph or the config.
        where = str(self.files.text or self.files.config or self.files.graph)
        try:
            with understood(where, "leave it out, or take the one that was made for this model"):
                return function(*args)
        except ModelError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(f"{error.filename or self.files.graph}: cannot be read: {error.strerror or error}")
        return None


def _check_kinds(files: ModelFiles) -> bool:
    kind = identify(files.graph)
    other = identify(files.text) if files.text is not None else None
    if kind.name == "text" and other is not None and other.name == "graph":
        raise ModelError(f"{files.graph} and {files.text} are swapped: the first is the text graph; exchange them")
    for found, needed in ((kind, "graph"), (other, "text")):
        if found is None or found.name == needed:
            continue
        if needed == "text" and found.name == "unknown" and not os.path.isdir(found.path):
            raise ModelError(f"{found.path}: no text graph: leave it out; a matching one is made from the graph")
        what = "a binary frozen graph" if needed == "graph" else "a text graph (.pbtxt)"
        raise ModelError(found.problem or f"{found.path}: needed {what}, got a {found.name} file")
    return True


def mismatches(frozen: Graph, text: Graph, can_convert: bool = True) -> list[str]:
    """Return the constants and classes of a text graph that its frozen graph does not have.

    The cure in the message depends on `can_convert`: whether a matching text graph can be made.
    """
    cure = "leave it out; a matching one is then made" if can_convert else "find the one made for it"
    readable = (node for node in text if node.op != "Const")
    missing = [
        name for node in readable for name in node.sources() if name not in text and not _holds(frozen, name)
    ]
    if not missing:
        return _class_mismatch(frozen, text, cure)
    total = len(set(missing))
    return [
        f"{text.origin} belongs to another model than {frozen.origin}: it reads {total} constants that the graph "
        f"does not hold, such as {missing[0]}; {cure}"
    ]


def _holds(frozen: Graph, name: str) -> bool:
    return name in frozen and frozen[name].op in ("Const", "Identity")


def _class_mismatch(frozen: Graph, text: Graph, cure: str) -> list[str]:
    classes = _classes(text)
    sizes = [
        frozen[name].get("value", "tensor").size
        for node in text
        if node.op in ("BiasAdd", "Add")
        for name in node.sources()
        if "ClassPredictor" in name and name in frozen and frozen[name].op == "Const"
    ]
    if classes is None or not sizes or classes + 1 in sizes or classes in sizes:
        return []
    return [
        f"{text.origin} is made for {classes} classes, {frozen.origin} has {max(sizes) - 1}: {cure}"
    ]


def _classes(text: Graph | None) -> int | None:
    if text is None:
        return None
    try:
        return int(final_detections(text).get("num_classes", "i", 0)) or None
    except ModelError:
        return None


def label_problems(labels: int, classes: int) -> list[str]:
    """Return what is wrong with `labels` labels for a model of `classes` classes; [] if nothing is."""
    if labels == classes:
        return []
    problem = f"{labels} labels for {classes} classes"
    if (labels, classes) == (80, 90):
        return [
            f"{problem}: COCO's list without its gaps, names are off by up to ten; "
            f"give {folders.path('mscoco_labels.names')}, which has them"
        ]
    if labels == classes + 1:
        return [f"{problem}: class ids are off by one; take the background out of the list"]
    return [f"{problem}: needed one line for each class, in the order of their ids"]


# Ops that only conversion tools put into a graph, and settings of a pipeline.config that show in the scopes of nodes.
_WITHOUT = "give the frozen graph that went into it, or export it again without"
_OPS_OF_TOOLS = {
    "FusedResizeAndPadConv2D": "it went through optimize_for_inference, which joins a resize with a convolution; "
    f"{_WITHOUT}",
    "FusedPadConv2D": f"it went through a transform that joins paddings with convolutions; {_WITHOUT}",
    "Dequantize": f"its weights were turned into 8 bits (quantize_weights); {_WITHOUT}",
    "Quantize": f"it was quantized to 8 bits; {_WITHOUT}",
    "FakeQuant": "it was trained for 8 bits (graph_rewriter, quantization); export it again without",
    "_Fused": f"it went through TensorFlow's own optimizer (grappler); {_WITHOUT}",
    "TRTEngineOp": f"it was converted for TensorRT; {_WITHOUT}",
}
_SCOPES = {
    "MatMulCropAndResize": "it crops by multiplying matrices (use_matmul_crop_and_resize), which OpenCV does not; "
    "export it again without",
    "ClassAgnosticNonMaxSuppression": "boxes of all classes are suppressed together (use_class_agnostic_nms), OpenCV "
    "does it class by class; export it again without",
}


def export_problems(frozen: Graph) -> list[str]:
    """Return the export settings and later conversions that keep a graph from running, one sentence each."""
    found: dict[str, str] = {}
    for node in frozen:
        for begin, problem in _OPS_OF_TOOLS.items():
            if node.op.startswith(begin):
                found.setdefault(problem, f"{frozen.origin}: {node.name} is a {node.op}: {problem}")
        for scope, problem in _SCOPES.items():
            if f"/{scope}" in f"/{node.name}":
                found.setdefault(problem, f"{frozen.origin}: {problem}")
    return list(found.values())


def weight_problems(frozen: Graph) -> list[str]:
    """Return a problem if weights were stripped from the graph, or are NaN or infinite."""
    empty = stripped(frozen)
    if not empty:
        return _not_finite(frozen)
    return [
        f"{frozen.origin}: its weights were stripped: {len(empty)} layers have none, such as {empty[0]}; "
        "take the file that was exported, before anything made it smaller"
    ]


def _not_finite(frozen: Graph) -> list[str]:
    """Find weights that are NaN or infinite, which a ReLU would hide. Scalars are limits, and may be infinite."""
    for node in frozen:
        tensor = node.get("value", "tensor") if node.op == "Const" else None
        if tensor is None or tensor.dtype not in NUMPY_DTYPES or np.dtype(NUMPY_DTYPES[tensor.dtype]).kind != "f":
            continue
        values = node.array()
        odd = ~np.isfinite(values) if values.ndim else np.isnan(values)
        if odd.any():
            return [
                f"{frozen.origin}: {int(odd.sum())} of {values.size} weights of {node.name} are NaN or "
                "infinite: export it again from an earlier checkpoint, or get the file again"
            ]
    return []


def memory_problems(path: Path) -> list[str]:
    """Return a problem if loading the graph takes more memory than is free."""
    size, free = os.path.getsize(path), available_memory()
    if free is None or size * _NEEDED_TIMES <= free:
        return []
    need, have = size * _NEEDED_TIMES / 1e9, free / 1e9
    return [f"{path}: loading it takes about {need:.1f} GB of memory, {have:.1f} GB are free"]


def available_memory() -> int | None:
    """Return the bytes of free memory, None if the system does not report them."""
    try:
        lines: Iterable[str] = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
