"""Which files make a model: a folder, or a `.pb` with what lies beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError

GRAPH_NAME = "frozen_inference_graph.pb"
TEXT_NAME = "graph.pbtxt"
LABELS_NAME = "labels.names"
CONFIG_NAME = "pipeline.config"


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. Only the graph is necessary.

    Attributes
    ----------
    graph
        The binary GraphDef.
    text
        Its text graph.
    labels
        One name a line, or a label map of the Object Detection API.
    config
        The training's pipeline.config.
    """

    graph: Path
    text: Path | None = None
    labels: Path | None = None
    config: Path | None = None


def find_files(place: Path) -> ModelFiles:
    """Find the files of a model.

    Parameters
    ----------
    place
        A folder, or a `.pb` file: then its own pbtxt is the one of the same name, or any that the
        folder's rules would find if this is the folder's only graph.

    Raises
    ------
    ModelError
        If a folder has no graph, or several of which none has the usual name, or several text graphs.
    """
    folder = place if place.is_dir() else place.parent
    graph = _graph_in(folder) if place.is_dir() else place
    return ModelFiles(
        graph=graph,
        text=_text_for(graph),
        labels=_labels_in(folder),
        config=_existing(folder / CONFIG_NAME),
    )


def _graph_in(folder: Path) -> Path:
    usual = folder / GRAPH_NAME
    if usual.exists():
        return usual
    graphs = sorted(p for p in folder.glob("*.pb") if p.is_file())
    if len(graphs) == 1:
        if graphs[0].name == "saved_model.pb":
            raise ModelError(
                f"{folder} is a SavedModel; needed {GRAPH_NAME}: export the model as a frozen graph "
                "with the Object Detection API of TensorFlow 1"
            )
        return graphs[0]
    found = ", ".join(p.name for p in graphs) or "none"
    raise ModelError(f"{folder}: needed {GRAPH_NAME} or one .pb file, found {found}: name the file itself")


def _text_for(graph: Path) -> Path | None:
    folder = graph.parent
    for usual in (folder / TEXT_NAME, graph.with_suffix(".pbtxt")):
        if usual.exists():
            return usual
    if len([p for p in folder.glob("*.pb") if p.is_file()]) > 1:
        return None  # it may belong to another graph
    texts = sorted(p for p in folder.glob("*.pbtxt") if p.is_file() and not is_label_map(p))
    if len(texts) > 1:
        names = ", ".join(p.name for p in texts)
        raise ModelError(f"{folder}: several text graphs ({names}): name one with graph= or --graph")
    return texts[0] if texts else None


def _labels_in(folder: Path) -> Path | None:
    usual = folder / LABELS_NAME
    if usual.exists():
        return usual
    maps = sorted(p for p in folder.glob("*.pbtxt") if p.is_file() and is_label_map(p))
    names = sorted(p for p in folder.glob("*.names") if p.is_file())
    found = maps + names
    return found[0] if len(found) == 1 else None


def is_label_map(path: Path) -> bool:
    """Whether a pbtxt holds the items of a label map, and not a graph."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError:
        return False
    lines = (line.split(b"#")[0].strip() for line in head.splitlines())
    first = next((line for line in lines if line), b"")
    return first.startswith(b"item")


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None
