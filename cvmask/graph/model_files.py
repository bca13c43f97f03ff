"""Recognizes files by their first bytes, explains those that are not frozen graphs, and finds the files of a model."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError
from cvmask.system.files import open_regular


class GraphFile:
    """A frozen graph on disk. Its bytes are in memory only while in use; the file must not change between reads.

    Raises
    ------
    ModelError
        If the path is not a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.path.abspath(path)  # absolute, because the program may change its working folder
        self._bytes: Callable[[], NDArray[np.uint8] | None] = lambda: None
        with open_regular(path) as file:
            self._state = _state(file)

    def read(self) -> NDArray[np.uint8]:
        """Return all bytes, shape (n,), read-only. The file is not read again while an earlier array is in use.

        Raises
        ------
        ModelError
            If the file cannot be read, or has changed.
        """
        known = self._bytes()
        if known is not None:
            return known
        with open_regular(self.path) as file:
            try:
                data = np.fromfile(file, np.uint8)
            except (OSError, MemoryError) as error:
                raise ModelError(f"{self.path}: cannot be read into memory: {error}") from None
            if _state(file) != self._state or data.size != os.fstat(file.fileno()).st_size:
                raise ModelError(f"{self.path}: the file has changed since the model was loaded: load it again")
        data.flags.writeable = False
        self._bytes = weakref.ref(data)
        return data


def _state(file: BinaryIO) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


_HEAD = 4096
_NEEDED = "cvmask needs the frozen_inference_graph.pb of an Object Detection API Mask R-CNN"
_EXPORT = "export it with the Object Detection API's export_inference_graph.py (TensorFlow 1)"
# kind: (description, cure)
CURES = {
    "lfs": ("a Git LFS pointer, not the file itself", "run `git lfs pull`, or download the file itself"),
    "html": ("a web page, not a model", "download the raw file, not the page that shows it"),
    "h5": ("a Keras or Matterport HDF5 file", f"{_NEEDED}; Matterport's weights cannot be converted"),
    "keras": ("a Keras model", _NEEDED),
    "tflite": ("a TensorFlow Lite model", _NEEDED),
    "onnx": ("an ONNX model", _NEEDED),
    "torch": ("a PyTorch file", _NEEDED),
    "saved_model": ("a SavedModel", f"use the frozen_inference_graph.pb beside it, or {_EXPORT}"),
    "tf2": ("a model of the TensorFlow 2 zoo", f"those cannot be frozen for OpenCV: {_NEEDED}"),
    "checkpoint": ("a training checkpoint", _EXPORT),
    "meta_graph": ("a MetaGraph of a training checkpoint", _EXPORT),
    "archive": ("an archive", "unpack it first"),
    "config": ("a pipeline.config", "give the .pb that was exported with it"),
    "label_map": ("a label map", "give it as labels, and the frozen graph as the model"),
    "dump": ("a frozen graph as text, not a text graph for OpenCV", "leave it out: one is made from the .pb"),
    "unknown": ("neither a frozen graph nor a text graph", _NEEDED),
}
_MAGIC = (
    (b"version https://git-lfs", "lfs"),
    (b"\x89HDF\r\n\x1a\n", "h5"),
    (b"\x80\x02", "torch"),
    (b"\x1f\x8b", "archive"),
    (b"BZh", "archive"),
    (b"\xfd7zXZ", "archive"),
)
_TEXTS = (
    (r"<(!doctype|html|\?xml|head)", "html"),
    (r"(node|library|versions)\s*[:{<]", "text"),
    (r"model_checkpoint_path", "checkpoint"),
    (r"(model|train_config|eval_config)\s*[:{<]", "config"),
    (r"item\s*[:{<[]", "label_map"),
)

# Descriptions of networks other than Mask R-CNN, shared by the frozen graph and the text graph.
FASTER_RCNN = "a Faster R-CNN (it gives boxes and no masks)"
ONE_STAGE = "a one-stage detector such as SSD (it gives boxes and no masks)"


@dataclass(frozen=True)
class Kind:
    """The kind of a file or folder.

    `name` is `graph` (binary), `text` (a text graph), `folder`, or a key of `CURES`. `problem` says in
    one line why it cannot be used and what to do; it is empty if the path may be usable.
    """

    path: Path
    name: str
    problem: str = ""


def identify(path: str | os.PathLike[str]) -> Kind:
    """Recognize a file or folder by its name and its first bytes.

    Raises
    ------
    ModelError
        If it is missing, empty, a pipe or a device, or unreadable.
    """
    path = Path(path)
    if os.path.isdir(path):  # False where Path.is_dir raises; opening the file then gives the reason
        return _folder(path)
    with open_regular(path) as file:
        head = file.read(_HEAD)
        name = _kind(path, head)
        if name == "text" and _is_dump(file, head):
            name = "dump"
    return kind_of(path, name)


_STAGE_OP = re.compile(rb"""op\s*:\s*["'](DetectionOutput|NonMaxSuppression|CombinedNonMaxSuppression)""")
_PIECE = 1 << 20


def _is_dump(file: BinaryIO, head: bytes) -> bool:
    """Return True if the text uses TensorFlow's suppression op, which text graphs for OpenCV never do."""
    piece = head
    while piece:
        found = _STAGE_OP.search(piece)
        if found is not None:
            return found[1] != b"DetectionOutput"
        more = file.read(_PIECE)
        piece = piece[-100:] + more if more else b""
    return False


def kind_of(path: Path, name: str) -> Kind:
    """Return the kind of that name, with its problem as a sentence."""
    if name not in CURES:
        return Kind(path, name)
    what, cure = CURES[name]
    return Kind(path, name, f"{path}: {what}: {cure}")


def _kind(path: Path, head: bytes) -> str:
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(b"PK\x03\x04"):
        return {".keras": "keras", ".pt": "torch", ".pth": "torch"}.get(path.suffix.lower(), "archive")
    if head[257:262] == b"ustar":
        return "archive"
    if re.search(r"\.ckpt|\.(index|data-\d+-of-\d+)$", path.name):
        return "meta_graph" if path.suffix == ".meta" else "checkpoint"
    return _protobuf(path, head) or _text(head)


def _protobuf(path: Path, head: bytes) -> str:
    """Return the kind of a protobuf file.

    Graphs begin with a node (field 1, bytes); ONNX and SavedModel with a version (field 1, a number).
    """
    if path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and re.search(rb"onnx|pytorch|ai\.onnx", head)):
        return "onnx"
    if head[:1] == b"\x08" or path.name == "saved_model.pb":
        return "saved_model"
    binary = re.search(rb"[\x00-\x08\x0e-\x1f]", head[:512])
    if head[:1] == b"\x0a" and binary:
        return "meta_graph" if path.suffix == ".meta" else "graph"
    return "unknown" if binary else ""


def _text(head: bytes) -> str:
    text = head.decode("utf-8", "replace").lstrip("\ufeff")
    text = re.sub(r"\A(\s|#[^\n]*(\n|\Z))+", "", text)
    for pattern, name in _TEXTS:
        if re.match(pattern, text, re.IGNORECASE):
            return name
    return "unknown"


def _folder(path: Path) -> Kind:
    try:
        names = set(os.listdir(path))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if any(name.endswith(".pb") and name != "saved_model.pb" for name in names):
        return Kind(path, "folder")
    if "saved_model" in names and "checkpoint" in names:
        return kind_of(path, "tf2")
    if names & {"saved_model.pb", "saved_model", "variables"}:
        return kind_of(path, "saved_model")
    if any(".ckpt" in name for name in names):
        return kind_of(path, "checkpoint")
    found = ", ".join(sorted(names)[:5]) or "nothing"
    return Kind(path, "unknown", f"{path}: a folder without a .pb file (it holds {found}): {_NEEDED}")


CACHED = ".cvmask.pbtxt"  # how the names of text graphs made by cvmask end
TEXT_FILE = "graph.pbtxt"
_GRAPH = "frozen_inference_graph.pb"
_LABELS = ("labels.names", "label_map.pbtxt", "labels.txt", "classes.txt")  # else the only label map or .names


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model. All but the graph are optional; `notes` say what was left out, and why."""

    graph: Path
    text: Path | None = None
    labels: Path | None = None
    config: Path | None = None
    notes: tuple[str, ...] = ()


def model_files(path: str | os.PathLike[str], text: str | os.PathLike[str] | None = None) -> ModelFiles:
    """Find the files of a model that is given as a folder or as a `.pb`.

    Raises
    ------
    ModelError
        If it is neither, or a folder with no graph or with several.
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
    labels, notes = _labels_beside(graph, own)
    notes += tuple(
        f"{kind.problem.rpartition(': leave')[0]}: it is left out"
        for kind in map(_kind_beside, sorted(folder.glob("*.pbtxt")))
        if kind.name == "dump" and (own or kind.path.stem == graph.stem)
    )
    return ModelFiles(
        graph=graph,
        text=Path(text) if text is not None else _text_beside(graph, own),
        labels=labels,
        config=next(filter(_is_file, [folder / "pipeline.config"]), None) if own else None,
        notes=notes,
    )


def stands_for_folder(graph: Path) -> bool:
    """Return True if the folder's general files belong to this graph: it has the usual name or is the only one."""
    return graph.name == _GRAPH or len(list(graph.parent.glob("*.pb"))) == 1


def _only_graph(folder: Path) -> Path:
    if os.path.lexists(folder / _GRAPH):  # a broken link is reported when it is read
        return folder / _GRAPH
    found = sorted(folder.glob("*.pb"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        raise ModelError(f"{folder}: which graph? Give one of: {names}")
    return found[0]


def _text_beside(graph: Path, own: bool) -> Path | None:
    """Find the text graph beside a graph: one of the same name or, if `own`, `graph.pbtxt` or the only one."""
    for name in ((TEXT_FILE,) if own else ()) + (f"{graph.stem}.pbtxt",):
        if _is_file(graph.parent / name) and _kind_beside(graph.parent / name).name not in ("label_map", "dump"):
            return graph.parent / name
    found = [path for path in sorted(graph.parent.glob("*.pbtxt")) if _is_text_graph(path)]
    return found[0] if own and len(found) == 1 else None


def _labels_beside(graph: Path, own: bool) -> tuple[Path | None, tuple[str, ...]]:
    """Find the class names beside a graph; a note says if several files qualify and none is used."""
    if not own:
        named = graph.with_suffix(".names")
        return (named if _is_file(named) else None), ()
    for name in _LABELS:
        if _is_file(graph.parent / name):
            return graph.parent / name, ()
    maps = [path for path in sorted(graph.parent.glob("*.pbtxt")) if _kind_beside(path).name == "label_map"]
    for found in (maps, [path for path in sorted(graph.parent.glob("*.names")) if _is_file(path)]):
        if len(found) == 1:
            return found[0], ()
        if found:
            names = ", ".join(path.name for path in found)
            return None, (f"several files of class names: none is used; give one of {names} as labels",)
    return None, ()


def _kind_beside(path: Path) -> Kind:
    """Return the kind of a file that the user did not name; its name is empty if it cannot be read."""
    try:
        return identify(path)
    except ModelError:
        return Kind(path, "")


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # Path.is_file raises where a folder may not be searched


def _is_text_graph(path: Path) -> bool:
    if path.name.endswith(CACHED) or path.name in _LABELS or not _is_file(path):
        return False
    if _is_file(path.with_suffix(".pb")):  # that one's
        return False
    try:
        return identify(path).name not in ("label_map", "config", "dump")
    except ModelError:
        return True  # reported when it is read
