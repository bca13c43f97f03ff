"""Reads class names: one per line, or label maps of the Object Detection API."""

from __future__ import annotations

import os
import re
from pathlib import Path

from cvmask.errors import CvmaskError, ModelError
from cvmask.graph.model_files import ModelFiles, identify
from cvmask.graph.text import Message, Word, parse_fields
from cvmask.models.zoo import NAMES
from cvmask.results.arrays import label_of
from cvmask.system import folders
from cvmask.system.files import MAX_TEXT_BYTES, open_regular, read_text, size_text

COCO_CLASSES = 90
COCO_NAMES = "mscoco_labels.names"
_MAX_ID = 100_000
_BACKGROUND = "background"  # the only name that the Object Detection API allows for id 0
_NO_LABELS = ("lfs", "html", "text", "config")  # text files that could be mistaken for names
_NEEDED = f"each item needs an id from 1 to {_MAX_ID} and a name"
# The folder names and text graphs of models that are known to be trained on COCO.
_OF_COCO = re.compile(r"mask_rcnn_\w+_coco(_\d{4}_\d\d_\d\d)?")


def names_file(files: ModelFiles, classes: int) -> Path | None:
    """Return the file of class names to use if none was given; None if the classes have no names.

    It is the file beside the model. COCO's names, which come with cvmask, are used for models of the zoo only: those
    whose folder or text graph is named as in the zoo, or whose pipeline.config names COCO's label map.

    Raises
    ------
    CvmaskError
        If this installation lacks the bundled file.
    """
    if files.labels is not None:
        return files.labels
    return folders.path(COCO_NAMES) if classes == COCO_CLASSES and _is_of_coco(files) else None


def unnamed_note(files: ModelFiles, classes: int) -> str:
    """Return a note for a model without names that has as many classes as COCO, otherwise an empty text."""
    if classes != COCO_CLASSES or names_file(files, classes) is not None:
        return ""
    return (
        f"there are no class names beside the model, so they are class 0 to class {classes - 1}; "
        f"if it was trained on COCO, give {folders.path(COCO_NAMES)} as labels"
    )


def _is_of_coco(files: ModelFiles) -> bool:
    folder = files.graph.absolute().parent.name
    names = [folder, files.graph.stem, *([files.text.stem] if files.text is not None else [])]
    if folder in NAMES or any(_OF_COCO.fullmatch(name) for name in names):
        return True
    try:
        return files.config is not None and "mscoco_label_map" in read_text(files.config)
    except CvmaskError:
        return False


def read_names(path: str | os.PathLike[str], classes: int = 0) -> list[str]:
    """Read class names, one per line, or a label map, which may leave out ids up to `classes`.

    Raises
    ------
    CvmaskError
        If the file cannot be read, or is neither.
    """
    path = Path(path)
    kind = identify(path)
    if kind.name in _NO_LABELS:
        problem = kind.problem or f"{path}: a text graph"
        raise ModelError(f"{problem}; needed class names, one per line, or a label map")
    if kind.name != "label_map" and path.suffix != ".pbtxt":
        return read_labels(path)
    names = read_label_map(path)
    return names + list(map(label_of, range(len(names), classes)))


def read_label_map(path: Path) -> list[str]:
    """Read names in the order of their ids: line i (from 0) names id i + 1.

    The map is in protobuf's text format, a StringIntLabelMap of the Object Detection API. An id that it leaves out is
    called "class i"; id 0 may be the background. display_name takes precedence over name.

    Raises
    ------
    ModelError
        If it is not a label map, an item has no id from 1 to 100000 or no name, two share an id, or there are none.
    """
    names: dict[int, str] = {}
    try:
        for field, value, line in parse_fields(_text(path)).fields:
            if field != "item" or not isinstance(value, Message):
                raise ModelError(f"line {line}: a label map needs items such as item {{ id: 1 name: 'cat' }}")
            number, name = _item(value)
            if number in names:
                raise ModelError(f"line {line}: two items have the id {number}")
            names[number] = name
    except ModelError as error:
        raise ModelError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None
    names.pop(0, None)
    if not names:
        raise ModelError(f"{path}: a label map needs items such as item {{ id: 1 name: 'cat' }}, found none")
    return [names.get(number, label_of(number - 1)) for number in range(1, max(names) + 1)]


def _text(path: Path) -> str:
    with open_regular(path) as file:
        raw = file.read(MAX_TEXT_BYTES + 1)
    if len(raw) > MAX_TEXT_BYTES:
        raise ModelError(f"too large for a label map (more than {size_text(MAX_TEXT_BYTES)})")
    return _decoded(raw, "must be UTF-8 text")


def _decoded(raw: bytes, needed: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{needed}, got byte {raw[error.start]:#x}") from None


def _item(item: Message) -> tuple[int, str]:
    """Return the id and the name of one item."""
    found: dict[str, Word] = {}
    for field, value, line in item.fields:
        if field not in ("id", "name", "display_name"):
            continue  # such as keypoints, which have ids and names of their own
        if field in found or not isinstance(value, Word):
            raise ModelError(f"line {line}: an item needs one {field}")
        found[field] = value
    number = found.get("id")
    # Python 3.11 and later refuse to convert thousands of digits, and no id has that many.
    known = number.integer() if number is not None and number.kind == "number" and len(number.text) < 20 else 0
    spelled = (_string(found[field]) for field in ("display_name", "name") if field in found)
    names = [name for name in spelled if name.strip()]
    if known == 0 and number is not None and number.text == "0" and _BACKGROUND in names:
        return 0, _BACKGROUND
    if not 1 <= known <= _MAX_ID or not names:
        got = " ".join(f"{field}: {word.text}" for field, word in found.items())
        raise ModelError(f"line {item.line}: {_NEEDED}, got {got[:80]!r}")
    return known, names[0]


def _string(word: Word) -> str:
    return _decoded(word.raw(), f"line {word.line}: a name must be UTF-8")


def read_labels(path: str | os.PathLike[str]) -> list[str]:
    """Read class names, one per line: line i (from 0) names class_id i.

    Raises
    ------
    CvmaskError
        If the file cannot be read, is empty, or has an empty line between names.
    """
    # Not splitlines(): a name may contain Unicode line separators.
    lines = [line.strip() for line in read_text(path).rstrip().split("\n")]
    if lines == [""]:
        raise CvmaskError(f"{path}: a labels file needs one class name per line, got an empty file")
    if "" in lines:
        raise CvmaskError(f"{path}: line {lines.index('') + 1} is empty, but every line must name one class")
    return lines
