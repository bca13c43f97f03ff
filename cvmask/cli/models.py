"""cvmask models: list, download, check, inspect, convert and export models."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2

from cvmask import models
from cvmask.cli import options
from cvmask.cli.loading import download_with_progress
from cvmask.cli.progress import say
from cvmask.errors import CvmaskError, ModelError, SinkError, install
from cvmask.graph.check import (
    OPENCV_VERSIONS,
    Inspection,
    has_clipped_anchors,
    inspect,
    label_problems,
    prepare,
    unread,
)
from cvmask.graph.convert import convert
from cvmask.graph.facts import GraphFacts, Resizer
from cvmask.graph.graph_def import parse_graph, read_graph
from cvmask.graph.model_files import TEXT_FILE, ModelFiles, model_files, stands_for_folder
from cvmask.graph.nodes import Graph
from cvmask.graph.onnx_networks import parts_of
from cvmask.graph.onnx_whole import onnx_files
from cvmask.graph.split import set_score_floor
from cvmask.graph.text import print_text
from cvmask.models import zoo
from cvmask.models.labels import names_file, read_names, unnamed_note
from cvmask.models.load import labels_of
from cvmask.models.zoo import GRAPH_FILE, KnownModel, places
from cvmask.runtime.net import engine_text, kept_text
from cvmask.runtime.onnx_pair import as_asked, networks_of
from cvmask.runtime.targets import ONNX_RUNTIME, SELF_BUILT, has_onnxruntime, is_built
from cvmask.system.files import size_text, whole_file, write_whole


def _add_convert(actions: options.Subparsers) -> None:
    """Add the action."""
    about = "write the text graph that OpenCV needs beside a frozen graph, without TensorFlow"
    parser = options.add_verb(actions, "convert", help=about, description=about)
    parser.add_argument(
        "model", metavar="PB", help="a frozen graph (.pb), a folder with one, or a model's name"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a file, which is replaced, or a folder, which is made if the name ends in / "
        f"(default: {TEXT_FILE} beside the .pb, or named as the .pb if there are several)",
    )


def _convert(name: str, output: str | None) -> int:
    """Convert one graph and print the path of the text graph."""
    model = models.resolve(name)
    graph = model_files(model).graph
    target = _target(graph, output)
    text = print_text(convert(read_graph(graph)))
    write_whole(target, text.encode())
    say(target)
    return 0


def _target(graph: Path, output: str | None) -> Path:
    if output is None:
        target = graph.with_name(TEXT_FILE) if stands_for_folder(graph) else graph.with_suffix(".pbtxt")
        # It may have been made by hand, and nobody asked for that file to be replaced.
        if target.exists():
            raise SinkError(f"{target} already exists: name it with -o to replace it")
        return target
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(output)
    target = Path(output, TEXT_FILE) if is_folder else Path(output)
    if target.suffix == ".pb" or (target.exists() and target.samefile(graph)):
        raise ModelError(f"{target} would replace a graph: needed a .pbtxt to write to")
    return target


def _add_export(actions: options.Subparsers) -> None:
    """Add this action."""
    about = "write a frozen graph as ONNX, for ONNX Runtime, OpenVINO and others, without TensorFlow"
    parser = options.add_verb(actions, "export", help=about, description=about)
    parser.add_argument(
        "model", metavar="MODEL", help="a frozen graph (.pb), a folder with one, or a model's name"
    )
    parser.add_argument(
        "-o", "--output", metavar="DIR", required=True,
        help="a folder, made where it is missing; files of an earlier export are replaced",
    )  # fmt: skip
    parser.add_argument("--format", choices=("onnx",), default="onnx", help="what to write (default: onnx)")
    parser.add_argument(
        "--score-threshold", "--conf", type=options.share, metavar="T",
        help="leave out detections that do not score above T (default: what the model was exported with)",
    )  # fmt: skip


def _export(model: str, output: str, score_threshold: float | None) -> int:
    """Write the ONNX files of one model, all or none, and print their names."""
    files = model_files(models.resolve(model))
    report = prepare(files)
    report.raise_problem()
    assert report.text is not None
    assert report.classes is not None
    text = report.text if score_threshold is None else set_score_floor(report.text, score_threshold)
    parts = parts_of(read_graph(files.graph))
    parts = replace(parts, facts=as_asked(parts.facts, text))
    contents = onnx_files(parts, labels_of(None, files, report.classes))
    with contextlib.ExitStack() as stack:  # each gets its name when all are written
        places = [Path(output, name) for name in contents]
        for place, content in zip(places, contents.values()):
            stack.enter_context(whole_file(place, "wb")).write(content)
    for place in places:
        say(place)
    return 0


def _add_inspect(actions: options.Subparsers) -> None:
    """Add the action."""
    about = "describe a model file or folder, and report everything that is wrong with it"
    parser = options.add_verb(actions, "inspect", help=about, description=about)
    parser.add_argument("model", metavar="PATH", help="a file, a folder, or a model's name")
    parser.add_argument("--graph", metavar="PBTXT", help="a text graph to inspect with it")
    parser.add_argument(
        "--keep-graph", action="store_true", help="inspect as with this flag of predict: the text graph runs as it is"
    )


def _inspect(model: str, graph: str | None, keep_graph: bool) -> int:
    """Print the facts, then the problems; return 1 if there are any."""
    place = models.resolve(model)
    try:
        files = model_files(place, graph)
    except ModelError as error:
        say(place)
        _print_problem(place, str(error))
        return 1
    kept, unkept = kept_text(keep_graph)
    report = inspect(files, keep_text=kept)
    left_out = unkept if report.files.text != files.text else ""
    problems = [*report.problems, *_label_problems(report)]
    say(files.graph)
    for name, value in _facts(report, files):
        say(f"  {name + ':':<14}{value}")
    unnamed = unnamed_note(files, report.classes or 0)
    for note in (*report.notes, *filter(None, (left_out, unnamed))):
        say(f"  note: {note}")
    for problem in problems:
        _print_problem(files.graph, problem)
    return 1 if problems else 0


def _print_problem(place: Path, problem: str) -> None:
    """Print a problem under the name of the file or folder, without repeating that name."""
    say(f"  problem: {problem.removeprefix(f'{place}: ')}")


def _facts(report: Inspection, found: ModelFiles) -> Iterator[tuple[str, str]]:
    files, facts = report.files, report.facts
    yield "text graph", str(files.text) if files.text else "made from the graph"
    yield "labels", _labels_text(found, report.classes)
    if report.classes is not None:
        yield "classes", str(report.classes)
    if facts is not None:
        yield from _graph_facts(facts)
    if report.text is not None:
        yield from _support_facts(report.text, _onnxruntime_text(report))


def _labels_text(files: ModelFiles, classes: int | None) -> str:
    """Return which file the names come from."""
    path = files.labels if classes is None else names_file(files, classes)
    if path is not None:
        return str(path) if path == files.labels else f"{path} (a COCO model without a list of its own)"
    return "none beside it" + (f": class 0 to class {classes - 1}" if classes else "")


def _onnxruntime_text(report: Inspection) -> str:
    """Describe whether ONNX Runtime can run the model."""
    if not has_onnxruntime():
        return f"{ONNX_RUNTIME} after {install(ONNX_RUNTIME)}"
    assert report.text is not None
    try:
        if report.data is not None:
            networks_of(parts_of(parse_graph(report.data, "the graph")), report.text)
    except ModelError as error:
        return f"not {ONNX_RUNTIME}: {error}"
    return ONNX_RUNTIME


def _support_facts(text: Graph, onnxruntime: str) -> Iterator[tuple[str, str]]:
    """Yield what can run the model, judged by the layers in its text graph."""
    kinds, lacking = {node.op for node in text}, {node.op for node in unread(text)}
    if lacking:
        yield "OpenCV", f"not known: {', '.join(sorted(lacking))} of {len(kinds)} kinds of layer"
        return
    yield "OpenCV", f"{OPENCV_VERSIONS}, which read all of its {len(kinds)} kinds of layer (here {cv2.__version__})"
    clipped = " (anchors clipped by layers of their own)" if has_clipped_anchors(text) else ""
    own = [name for name in SELF_BUILT if is_built(name)]
    missing = ", ".join(name for name in SELF_BUILT if name not in own)
    built = f"; {missing} with an OpenCV that was built for it" if missing else ""
    yield "targets", f"{', '.join(['cpu', 'opencl', 'opencl-fp16', *own])}{clipped}{built}; {onnxruntime}"
    yield "runs with", engine_text()


def _graph_facts(facts: GraphFacts) -> Iterator[tuple[str, str]]:
    yield "backbone", facts.backbone
    shared = ", one for all classes" if facts.class_agnostic_masks else ""
    yield "masks", f"{facts.mask_size[1]}x{facts.mask_size[0]}{shared}"
    yield "crops", f"{facts.crop_size[1]}x{facts.crop_size[0]} of {facts.features}"
    yield "resizer", _resizer_text(facts.resizer)
    sides = ", ".join(f"{w:.0f}x{h:.0f}" for w, h in zip(facts.anchors.widths, facts.anchors.heights))
    (down, across), (top, left) = facts.anchors.stride, facts.anchors.offset
    every = f"{down:g}" if down == across else f"{across:g}x{down:g}"
    begin = f", from {left:g},{top:g}" if left or top else ""
    yield "anchors", f"{sides} at every {every} pixels{begin}"
    yield "proposals", str(facts.proposals)
    limit = "" if facts.max_of_a_class is None else f", at most {facts.max_of_a_class} of a class"
    yield "detections", f"{facts.max_detections}{limit}, score above {facts.second_stage.score_threshold:g}"
    yield "outputs", ", ".join(facts.outputs)


def _resizer_text(resizer: Resizer) -> str:
    how = "" if resizer.method == "bilinear" else f", {resizer.method}"
    if resizer.kind == "keep_aspect_ratio":
        return f"short side {resizer.min_dimension}, long side at most {resizer.max_dimension}{how}"
    if resizer.kind == "at_most":
        return f"long side at most {resizer.max_dimension}, smaller pictures as they are{how}"
    if resizer.kind == "at_least":
        return f"short side at least {resizer.min_dimension}, larger pictures as they are{how}"
    if resizer.kind == "fixed":
        return f"{resizer}{how}"
    return "none: pictures as they are"


def _label_problems(report: Inspection) -> list[str]:
    try:
        return _label_count_problems(report)
    except (CvmaskError, OSError) as error:  # one bad file does not hide the facts of the others
        return [str(error)]


def _label_count_problems(report: Inspection) -> list[str]:
    labels, classes = report.files.labels, report.classes
    if labels is None or classes is None:
        return []
    count = len(read_names(labels, classes))
    return [f"{labels}: {problem}" for problem in label_problems(count, classes)]


_EPILOG = """\
Models are stored in CVMASK_HOME (default: ~/.cache/cvmask). CVMASK_OFFLINE=1 forbids the network,
CVMASK_MIRROR=https://host/folder sets another server, HTTP_PROXY and HTTPS_PROXY are used.
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add this verb and its own verbs."""
    about = "list, download, check, convert, export and inspect models"
    parser = options.add_verb(subparsers, "models", _EPILOG, help=about)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    options.add_verb(actions, "list", help="list the known models, and which are installed")
    for action, text in (
        ("download", "download a model, or resume an interrupted download"),
        ("verify", "check the hashes of a model, and that it converts, splits and runs"),
        ("path", "print the folder of an installed model"),
        ("remove", "remove a downloaded model"),
    ):
        verb = options.add_verb(actions, action, help=text, description=text)
        or_folder = ", or a folder" if action == "verify" else ""
        verb.add_argument("name", metavar="NAME", help=f"one of: {', '.join(models.NAMES)}{or_folder}")
        if action == "download":
            verb.add_argument(
                "--force",
                action="store_true",
                help="accept a model with another hash than the listed or recorded one, if it works",
            )
    verb.add_argument(
        "--forget",
        action="store_true",
        help="also delete its recorded hash, so that the next download records a new one",
    )
    _add_convert(actions)
    _add_export(actions)
    _add_inspect(actions)


def run(args: argparse.Namespace) -> int:
    """Run the action; the exit code is 0 done, 1 failed, 130 interrupted."""
    if args.action == "list":
        return _list()
    if args.action == "convert":
        return _convert(args.model, args.output)
    if args.action == "export":
        return _export(args.model, args.output, args.score_threshold)
    if args.action == "inspect":
        return _inspect(args.model, args.graph, args.keep_graph)
    if args.action == "remove":
        return _remove(args.name, args.forget)
    if args.action == "download":
        return _download(args.name, args.force)
    return _verify(args.name) if args.action == "verify" else _path(args.name)


def _list() -> int:
    width = max(map(len, models.NAMES))
    states = [_state(model) for model in models.known()]
    for model, state in zip(models.known(), states):
        say(f"{model.name:{width}}  {state:{max(map(len, states))}}  {model.summary}")
    return 0


def _state(model: KnownModel) -> str:
    folder = models.find(model.name)
    if folder is not None:
        return f"installed ({size_text((folder / GRAPH_FILE).stat().st_size)})"
    if model.bundled:
        return "missing"
    part = places(model).part
    begun = f", {size_text(part.stat().st_size)} begun" if part.exists() else ""
    return f"to download ({size_text(model.archive_bytes)}{begun})"


def _download(name: str, force: bool) -> int:
    folder = models.find(name)
    if folder is not None:
        say(f"model {name!r} is already installed", error=True)
        say(folder)
        return 0
    try:
        folder = download_with_progress(name, force)
    except KeyboardInterrupt:
        say("interrupted: run the same command again to resume the download", error=True)
        return 130
    say(folder)
    return 0


def _verify(name: str) -> int:
    report = models.verify(name)
    say(report.folder)
    for line in report.passed:
        say(f"  ok    {line}")
    for line in report.problems:
        say(f"  WRONG {line}")
    return 0 if report.ok else 1


def _path(name: str) -> int:
    zoo.get(name)
    say(models.resolve(name))
    return 0


def _remove(name: str, forget: bool) -> int:
    gone = models.remove(name, forget=forget, say=_say)
    if not gone:
        folder = places(zoo.get(name)).folder
        raise ModelError(f"model {name!r} is not installed (looked at {folder})")
    for path in gone:
        say(f"removed {path}")
    return 0


def _say(line: str) -> None:
    say(line, error=True)
