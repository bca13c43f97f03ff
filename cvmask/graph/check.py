"""What is wrong with these files, said before cv2 sees them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.graph.cache import converted
from cvmask.graph.config import disagreements, read_config
from cvmask.graph.constants import stripped
from cvmask.graph.describe import describe
from cvmask.graph.facts import GraphFacts
from cvmask.graph.folder import ModelFiles
from cvmask.graph.kinds import identify
from cvmask.graph.nodes import Graph
from cvmask.graph.split import final_detections, split
from cvmask.graph.text import read_text
from cvmask.graph.wire import read_graph

_NEEDED_TIMES = 3  # the file, its parsed form and the layers' own copies, all at once while loading


@dataclass(frozen=True)
class Inspection:
    """What `check` found: the text graph to run, the facts where they could be read, and every problem."""

    files: ModelFiles
    text: Graph | None
    facts: GraphFacts | None
    classes: int | None
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def raise_problem(self) -> None:
        """Raise the first problem as a ModelError."""
        if self.problems:
            raise ModelError(self.problems[0])


def check(files: ModelFiles, label_count: int | None = None) -> Inspection:
    """Look at the files of a model, and say everything that would keep them from working.

    Never raises: what cannot be read is a problem in the report.
    """
    problems: list[str] = []
    notes: list[str] = []
    text, facts = _graphs(files, problems, notes)
    classes = facts.classes if facts else _classes(text)
    if classes is not None and label_count is not None:
        problems += label_problems(label_count, classes)
    if files.config is not None and facts is not None:
        try:
            notes += disagreements(facts, read_config(files.config))
        except ModelError as error:
            notes.append(str(error))
    return Inspection(files, text, facts, classes, tuple(problems), tuple(notes))


def _graphs(
    files: ModelFiles, problems: list[str], notes: list[str]
) -> tuple[Graph | None, GraphFacts | None]:
    """The text graph and the facts; what goes wrong is appended."""
    try:
        _check_kinds(files)
        frozen = read_graph(files.graph)
        problems += [*memory_problems(files.graph), *weight_problems(frozen)]
        if files.text is None:
            return converted(files.graph)
        text = read_text(files.text)
        problems += mismatches(frozen, text)
        split(text)
    except ModelError as error:
        problems.append(str(error))
        return None, None
    try:
        return text, describe(frozen)
    except ModelError as error:
        notes.append(f"the text graph is used as it is, the frozen graph was not understood: {error}")
        return text, None


def _check_kinds(files: ModelFiles) -> None:
    kind = identify(files.graph)
    other = identify(files.text) if files.text is not None else None
    if kind.name == "text" and other is not None and other.name == "graph":
        raise ModelError(f"{files.graph} and {files.text} are swapped: the first is the text graph")
    for found, needed in ((kind, "graph"), (other, "text")):
        if found is None or found.name == needed:
            continue
        what = "a binary frozen graph" if needed == "graph" else "a text graph (.pbtxt)"
        raise ModelError(found.problem or f"{found.path}: needed {what}, got a {found.name} file")


def mismatches(frozen: Graph, text: Graph) -> list[str]:
    """What a text graph reads that its frozen graph does not hold."""
    readable = (node for node in text if node.op != "Const")
    missing = [
        name for node in readable for name in node.sources() if name not in text and not _holds(frozen, name)
    ]
    if not missing:
        return _class_mismatch(frozen, text)
    total = len(set(missing))
    return [
        f"{text.origin} is of another model than {frozen.origin}: it reads {total} constants that the graph "
        f"does not hold, {missing[0]} for one; leave it out, and a fitting one is made from the graph"
    ]


def _holds(frozen: Graph, name: str) -> bool:
    return name in frozen and frozen[name].op in ("Const", "Identity")


def _class_mismatch(frozen: Graph, text: Graph) -> list[str]:
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
        f"{text.origin} is made for {classes} classes, {frozen.origin} has {max(sizes) - 1}: "
        "leave it out, and a fitting one is made from the graph"
    ]


def _classes(text: Graph | None) -> int | None:
    if text is None:
        return None
    try:
        return int(final_detections(text).get("num_classes", "i", 0)) or None
    except ModelError:
        return None


def label_problems(labels: int, classes: int) -> list[str]:
    """What is wrong with a list of that many labels for a model of that many classes."""
    if labels == classes:
        return []
    problem = f"{labels} labels for {classes} classes"
    if (labels, classes) == (80, 90):
        return [
            f"{problem}: COCO's list without its gaps, names are off by up to ten; use mscoco_labels.names"
        ]
    if labels == classes + 1:
        return [f"{problem}: class ids are off by one; take the background out of the list"]
    return [f"{problem}: needed one line for each class, in the order of their ids"]


def weight_problems(frozen: Graph) -> list[str]:
    """Weights that were taken out of the graph."""
    empty = stripped(frozen)
    if not empty:
        return []
    return [f"{frozen.origin}: its weights were stripped: {len(empty)} layers have none, {empty[0]} for one"]


def memory_problems(path: Path) -> list[str]:
    """A graph that does not fit into memory while it is loaded."""
    size, free = os.path.getsize(path), available_memory()
    if free is None or size * _NEEDED_TIMES <= free:
        return []
    need, have = size * _NEEDED_TIMES / 1e9, free / 1e9
    return [f"{path}: loading it takes about {need:.1f} GB of memory, {have:.1f} GB are free"]


def available_memory() -> int | None:
    """Bytes of memory that are free for use, None where the system does not say."""
    try:
        lines: Iterable[str] = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        return None
