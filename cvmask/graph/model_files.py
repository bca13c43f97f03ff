"""What kind of file this is, told from its first bytes, and what to do where it is no frozen graph."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.graph.files import open_regular

_HEAD = 4096
_NEEDED = "cvmask needs the frozen_inference_graph.pb of an Object Detection API Mask R-CNN"
_EXPORT = "export it with the Object Detection API's export_inference_graph.py (TensorFlow 1)"
# kind: what to call it, what to do about it
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
    (r"item\s*[:{<]", "label_map"),
)

# What networks are called that are no Mask R-CNN, whichever kind of graph shows it.
FASTER_RCNN = "a Faster R-CNN (it gives boxes and no masks)"
ONE_STAGE = "a one-stage detector such as SSD (it gives boxes and no masks)"


@dataclass(frozen=True)
class Kind:
    """What a path turned out to be.

    `name` is `graph` (binary), `text` (a text graph), `folder`, or a key of `CURES`. `problem` says in
    one line why it cannot be used and what to do; it is empty where it may be usable.
    """

    path: Path
    name: str
    problem: str = ""


def identify(path: str | os.PathLike[str]) -> Kind:
    """The kind of a file or folder, from its name and its first bytes.

    Raises
    ------
    ModelError
        If it is missing, empty, a pipe or a device, or may not be read.
    """
    path = Path(path)
    if os.path.isdir(path):  # where Path.is_dir raises, this says no, and opening the file says why
        return _folder(path)
    with open_regular(path) as file:
        head = file.read(_HEAD)
    return kind_of(path, _kind(path, head))


def kind_of(path: Path, name: str) -> Kind:
    """The kind of that name, its problem spelled out."""
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
    """Graphs begin with a node (field 1, bytes); ONNX and SavedModel with a version (field 1, a number)."""
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
