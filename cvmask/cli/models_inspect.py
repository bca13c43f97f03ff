"""The verb ``models inspect``: what a file or folder is, and every problem with its cure."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2

from cvmask import models
from cvmask.errors import CvmaskError, ModelError
from cvmask.graph.check import Inspection, check, label_problems
from cvmask.graph.facts import GraphFacts, ResizerFacts
from cvmask.graph.folder import model_files
from cvmask.graph.model_files import identify
from cvmask.graph.nodes import Graph
from cvmask.graph.support import OPENCV_VERSIONS, has_clipped_anchors, unread
from cvmask.models.labels import read_label_map, read_labels
from cvmask.runtime.targets import SELF_BUILT, is_built


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this action."""
    about = "say what a model file or folder is, and everything that is wrong with it"
    parser = actions.add_parser("inspect", help=about, description=about)
    parser.add_argument("model", metavar="PATH", help="a file, a folder, or a model's name")
    parser.add_argument("--graph", metavar="PBTXT", help="a text graph to look at with it")


def run(args: argparse.Namespace) -> int:
    """Print what is known, then the problems; 1 if there are any."""
    place = models.resolve(args.model)
    try:
        files = model_files(place, args.graph)
    except ModelError as error:
        print(place)
        _print_problem(place, str(error))
        return 1
    report = check(files)
    problems = [*report.problems, *_label_problems(report)]
    print(files.graph)
    for name, value in _facts(report):
        print(f"  {name + ':':<14}{value}")
    for note in report.notes:
        print(f"  note: {note}")
    for problem in problems:
        _print_problem(files.graph, problem)
    return 1 if problems else 0


def _print_problem(place: Path, problem: str) -> None:
    """Below the name of the file or folder, which is not said again."""
    print(f"  problem: {problem.removeprefix(f'{place}: ')}")


def _facts(report: Inspection) -> Iterator[tuple[str, str]]:
    files, facts = report.files, report.facts
    yield "text graph", str(files.text) if files.text else "made from the graph"
    yield "labels", str(files.labels) if files.labels else "none beside it"
    if report.classes is not None:
        yield "classes", str(report.classes)
    if facts is not None:
        yield from _graph_facts(facts)
    if report.text is not None:
        yield from _support_facts(report.text)


def _support_facts(text: Graph) -> Iterator[tuple[str, str]]:
    """What takes the model, from the layers in its text graph."""
    kinds, lacking = {node.op for node in text}, {node.op for node in unread(text)}
    if lacking:
        yield "OpenCV", f"not known: {', '.join(sorted(lacking))} of {len(kinds)} kinds of layer"
        return
    yield "OpenCV", f"{OPENCV_VERSIONS}, which read all of its {len(kinds)} kinds of layer (here {cv2.__version__})"
    clipped = " (anchors clipped by layers of their own)" if has_clipped_anchors(text) else ""
    own = [name for name in SELF_BUILT if is_built(name)]
    missing = ", ".join(name for name in SELF_BUILT if name not in own)
    built = f"; {missing} with an OpenCV that was built for it" if missing else ""
    yield "targets", f"{', '.join(['cpu', 'opencl', 'opencl-fp16', *own])}{clipped}{built}"


def _graph_facts(facts: GraphFacts) -> Iterator[tuple[str, str]]:
    yield "backbone", facts.backbone
    yield "masks", f"{facts.mask_size[1]}x{facts.mask_size[0]}"
    yield "resizer", _resizer_text(facts.resizer)
    sides = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in zip(facts.anchors.widths, facts.anchors.heights))
    yield "anchors", f"{sides} at every {facts.anchors.stride[0]:g} pixels"
    yield "proposals", str(facts.proposals)
    yield "detections", f"{facts.max_detections}, score above {facts.second_stage.score_threshold:g}"
    yield "outputs", ", ".join(facts.outputs)


def _resizer_text(resizer: ResizerFacts) -> str:
    if resizer.kind == "keep_aspect_ratio":
        return f"short side {resizer.min_dimension}, long side at most {resizer.max_dimension}"
    if resizer.kind == "fixed_shape":
        return f"{resizer.width}x{resizer.height}"
    return "none: pictures as they are"


def _label_problems(report: Inspection) -> list[str]:
    try:
        return _label_count_problems(report)
    except (CvmaskError, OSError) as error:  # one bad file does not hide what is known of the others
        return [str(error)]


def _label_count_problems(report: Inspection) -> list[str]:
    labels, classes = report.files.labels, report.classes
    if labels is None or classes is None:
        return []
    if identify(labels).name == "label_map":
        # It may leave ids out, but not name more than there are.
        count = max(len(read_label_map(labels)), classes)
    else:
        count = len(read_labels(labels))
    return [f"{labels}: {problem}" for problem in label_problems(count, classes)]
