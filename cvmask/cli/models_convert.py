"""The verb ``models convert``: the text graph of a frozen graph, as a file of its own."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cvmask import models
from cvmask.errors import ModelError, SinkError
from cvmask.graph.convert import convert
from cvmask.graph.folder import TEXT_FILE, model_files, stands_for_folder
from cvmask.graph.graph_def import read_graph
from cvmask.graph.text import print_text
from cvmask.system.files import write_whole


def add_parser(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add this action."""
    about = "write the text graph that OpenCV needs beside a frozen graph, without TensorFlow"
    parser = actions.add_parser("convert", help=about, description=about)
    parser.add_argument(
        "model", metavar="PB", help="a frozen graph (.pb), a folder with one, or a model's name"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="a file, replaced if it is there, or a folder, which is made where the name ends in / "
        f"(default: {TEXT_FILE} beside the .pb; beside several of its own name)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert one graph and print where its text is."""
    model = models.resolve(args.model)
    graph = model_files(model).graph
    target = _target(graph, args.output)
    text = print_text(convert(read_graph(graph)))
    write_whole(target, text.encode())
    print(target)
    return 0


def _target(graph: Path, output: str | None) -> Path:
    if output is None:
        target = graph.with_name(TEXT_FILE) if stands_for_folder(graph) else graph.with_suffix(".pbtxt")
        # It may have been made by hand, and nobody asked for that file to be replaced.
        if target.exists():
            raise SinkError(f"{target} is there already: name it with -o to replace it")
        return target
    is_folder = output.endswith(("/", os.sep)) or os.path.isdir(output)
    target = Path(output, TEXT_FILE) if is_folder else Path(output)
    if target.suffix == ".pb" or (target.exists() and target.samefile(graph)):
        raise ModelError(f"{target} would replace a graph: needed a .pbtxt to write to")
    return target
