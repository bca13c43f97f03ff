"""Which files make up a model: the graph, its text graph, labels and config."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.graph.model_files import identify

CACHED = ".cvmask.pbtxt"  # the end of the name of a text graph that cvmask has made itself
TEXT_FILE = "graph.pbtxt"
_GRAPH = "frozen_inference_graph.pb"
_LABELS = ("labels.names", "label_map.pbtxt", "labels.txt")


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model; all but the graph may be missing."""

    graph: Path
    text: Path | None = None
    labels: Path | None = None
    config: Path | None = None


def model_files(path: str | os.PathLike[str], text: str | os.PathLike[str] | None = None) -> ModelFiles:
    """The files of a model that is given as a folder or as a `.pb`.

    Raises
    ------
    ModelError
        If it is neither, or a folder in which there is no graph, or more than one.
    """
    path = Path(path)
    kind = identify(path)
    if kind.problem:
        raise ModelError(kind.problem)
    if kind.name == "text":
        raise ModelError(f"{path}: a text graph: give the .pb as the model, and this file as its graph")
    graph = _only_graph(path) if kind.name == "folder" else path
    folder = graph.parent
    own = stands_for_folder(graph)
    return ModelFiles(
        graph=graph,
        text=Path(text) if text is not None else _text_beside(graph, own),
        labels=next(filter(_is_file, (folder / name for name in _LABELS)), None) if own else None,
        config=next(filter(_is_file, [folder / "pipeline.config"]), None) if own else None,
    )


def stands_for_folder(graph: Path) -> bool:
    """Whether what bears no graph's name belongs to this one: it has the usual name, or is the only one."""
    return graph.name == _GRAPH or len(list(graph.parent.glob("*.pb"))) == 1


def _only_graph(folder: Path) -> Path:
    if os.path.lexists(folder / _GRAPH):  # a broken link is said when it is read
        return folder / _GRAPH
    found = sorted(folder.glob("*.pb"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder}: which graph? Give one of: {names}")
    return found[0]


def _text_beside(graph: Path, own: bool) -> Path | None:
    """The text graph beside a graph: one of its name; of the folder's own `graph.pbtxt` too, or the only one there."""
    for name in ((TEXT_FILE,) if own else ()) + (f"{graph.stem}.pbtxt",):
        if _is_file(graph.parent / name):
            return graph.parent / name
    found = [path for path in sorted(graph.parent.glob("*.pbtxt")) if _is_text_graph(path)]
    return found[0] if own and len(found) == 1 else None


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # Path.is_file raises where a folder may not be searched


def _is_text_graph(path: Path) -> bool:
    if path.name.endswith(CACHED) or path.name in _LABELS or not _is_file(path):
        return False
    if _is_file(path.with_suffix(".pb")):  # that one's
        return False
    try:
        return identify(path).name not in ("label_map", "config")
    except ModelError:
        return True  # said when it is read
