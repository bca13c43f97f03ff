"""Verifies an installed model: its hashes, and that it runs."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError, ModelError
from cvmask.graph.check import inspect
from cvmask.graph.convert import convert_with_facts
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.model_files import model_files
from cvmask.graph.nodes import Graph
from cvmask.graph.split import has_built_in_size, set_max_detections, set_score_floor, split
from cvmask.graph.text import print_text
from cvmask.models.zoo import GRAPH_FILE, NAMES, KnownModel, get, places, resolve
from cvmask.runtime.net import Net, engine
from cvmask.runtime.onnx_pair import OnnxPair
from cvmask.system.files import read_text, regular_handle, write_private, writing_to

_NOISE_SIZE = (160, 160)  # height and width, for models that take any size
# Few, because the whole graph runs its mask head on every row, even on empty ones.
_ROWS = 8
# Measured results were identical to the bit, but a processor's kernels may depend on the row count.
_TOLERANCE = 1e-5


def self_check(model: Path) -> list[str]:
    """Run a model's picture-free self-check.

    Parameters
    ----------
    model
        A model's folder, or a ``.pb``.

    Returns
    -------
    One line for each problem; none if the graph converts and splits, and detector plus mask head
    give the same result on noise as the whole graph. Without a TensorFlow importer, if its ONNX networks find
    something in noise.
    """
    try:
        files = model_files(model)
        report = inspect(files)
        report.raise_problem()
        assert report.data is not None
        text, facts = convert_with_facts(parse_graph(report.data, files.graph.name))
        size = facts.resizer.fixed_wh[::-1] if has_built_in_size(text) else _NOISE_SIZE
        differs = _onnx_problem if engine() == "onnx" else split_differs
        problem = differs(report.data, text, files.graph.name, size)
    except CvmaskError as error:
        return [str(error)]
    return [] if problem is None else [problem]


def _onnx_problem(graph: NDArray[np.uint8], text: Graph, origin: str, size: tuple[int, int]) -> str | None:
    """Run the ONNX networks on seeded noise; ModelError if they cannot be made or run."""
    pair = OnnxPair(graph, set_max_detections(set_score_floor(text, 0.0), _ROWS), origin)
    rows, features = pair.detect(np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32))
    masks = pair.masks(features, rows)
    if not masks.size:
        return f"{origin}: the ONNX networks find nothing in noise"
    return None if 0 <= masks.min() <= masks.max() <= 1 else f"{origin}: the ONNX networks give masks beyond 0 to 1"


def split_differs(
    graph: NDArray[np.uint8], text: Graph, origin: str, size: tuple[int, int] = _NOISE_SIZE
) -> str | None:
    """Return how detector plus mask head differ from the whole graph on seeded noise; None if they do not.

    Parameters
    ----------
    graph
        The bytes of the binary GraphDef, shape (n,).
    text
        Its text graph.
    size
        Height and width of the noise.

    Raises
    ------
    ModelError
        If it cannot be split, loaded or run.
    """
    # Scores on noise are low: with a floor there would be no rows to compare.
    text = set_max_detections(set_score_floor(text, 0.0), _ROWS)
    parts = split(text)
    noise = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    whole = Net(graph, print_text(text), [parts.detections, parts.masks], origin)
    rows, masks = whole.forward({parts.image: noise})
    detector = Net(graph, parts.detector_text, [parts.detections, parts.features], origin)
    split_rows, features = detector.forward({parts.image: noise})
    found = int(np.count_nonzero(rows[0, 0, :, 2]))
    if not found:
        return f"{origin}: the whole graph finds nothing in noise, so there is nothing to compare"
    # Half of them, as the mask head sees it in use: fewer rows than the whole graph's.
    kept = np.ascontiguousarray(split_rows[:, :, : (found + 1) // 2])
    head = Net(graph, parts.mask_head_text, [parts.masks], origin)
    split_masks = head.forward({parts.features: features, parts.detections: kept})[0]
    return _difference(rows, split_rows, origin, "boxes and scores") or _difference(
        masks[: len(split_masks)], split_masks, origin, "masks"
    )


def _difference(whole: NDArray[np.float32], parts: NDArray[np.float32], origin: str, what: str) -> str | None:
    if whole.shape != parts.shape:
        return f"{origin}: split gives {what} of shape {parts.shape}, whole {whole.shape}"
    # With a NaN the maximum is NaN, which does not count as below the tolerance.
    largest = float(np.abs(whole - parts).max())
    if largest <= _TOLERANCE:
        return None
    return f"{origin}: split and whole differ by {largest:.3g} in {what}, needed at most {_TOLERANCE:g}"


_CHUNK_BYTES = 1 << 20
_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class Digest:
    """Size and hashes of a file."""

    n_bytes: int
    sha1: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """Source and hashes of a model at its first download; ``files`` by name in the model's folder."""

    source: str
    recorded: str
    archive: Digest
    files: dict[str, Digest]


def digest(path: Path) -> Digest:
    """Read a file once and hash it."""
    # The zoo publishes only sha1: it identifies the files and does not protect them.
    sha1, sha256, n_bytes = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    with open(path, "rb", opener=regular_handle) as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha1.update(chunk)
            sha256.update(chunk)
            n_bytes += len(chunk)
    return Digest(n_bytes, sha1.hexdigest(), sha256.hexdigest())


def new_record(source: str, archive: Digest, folder: Path) -> Record:
    """Describe a model that was just downloaded."""
    files = {path.name: digest(path) for path in sorted(folder.iterdir())}
    recorded = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return Record(source, recorded, archive, files)


def read_record(path: Path) -> Record | None:
    """Read a record; None if there is none.

    Raises
    ------
    ModelError
        If there is one that cannot be read.
    """
    if not os.path.lexists(path):
        return None
    try:
        data = json.loads(read_text(path, max_bytes=_RECORD_BYTES, follow_links=False))
        files = {name: Digest(**entry) for name, entry in data["files"].items()}
        return Record(data["source"], data["recorded"], Digest(**data["archive"]), files)
    except (CvmaskError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")[:200]
        raise ModelError(
            f"the record {path} cannot be read ({reason}): delete it to have the next download recorded anew"
        ) from error


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all.

    Raises
    ------
    ModelError
        If the folder cannot be written.
    """
    with writing_to(path.parent):
        write_private(path, (json.dumps(asdict(record), indent=2) + "\n").encode())


@dataclass(frozen=True)
class Report:
    """The result of a verification: one line per check; no `problems` means that the model is fine."""

    folder: Path
    passed: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(name_or_path: str) -> Report:
    """Hash a model's files, and run its picture-free self-check.

    Raises
    ------
    ModelError
        If there is no such model at hand.
    """
    path = resolve(name_or_path)
    passed: list[str] = []
    problems: list[str] = []
    if name_or_path in NAMES:
        _check_hashes(name_or_path, path, passed, problems)
    else:
        passed.append("no hash is known for a model of your own: its files were not compared")
    found = self_check(path)
    if found:
        problems.extend(found)
    else:
        passed.append("the graph converts and splits, and detector plus mask head equal the whole graph")
    return Report(path, tuple(passed), tuple(problems))


def _check_hashes(name: str, folder: Path, passed: list[str], problems: list[str]) -> None:
    model = get(name)
    if model.bundled:
        passed.append("bundled with the package")
        return
    if model.graph_sha1 is not None:
        found = digest(folder / GRAPH_FILE).sha1
        _compare(GRAPH_FILE, "known sha1", found, model.graph_sha1, passed, problems)
    try:
        record = read_record(places(model).record)
    except ModelError as error:
        problems.append(str(error))
        return
    if record is not None:
        _check_record(folder, record, passed, problems)
    elif model.graph_sha1 is None:
        passed.append("no hash is known: cvmask did not download this model, so none was recorded")


def _check_record(folder: Path, record: Record, passed: list[str], problems: list[str]) -> None:
    kind = f"sha256 of {record.recorded}"
    for file_name, expected in record.files.items():
        path = folder / file_name
        if path.is_file():
            _compare(file_name, kind, digest(path).sha256, expected.sha256, passed, problems)
        else:
            problems.append(f"{file_name} is missing: remove the model and download it again")


def _compare(
    file_name: str, kind: str, found: str, expected: str, passed: list[str], problems: list[str]
) -> None:
    if found == expected:
        passed.append(f"{file_name} has the {kind}")
    else:
        problems.append(
            f"{file_name} has {found}, the {kind} is {expected}: remove the model and download it again"
        )


def difference(model: KnownModel, archive: Digest, recorded: Record | None) -> str | None:
    """Return how an archive differs from the known hash; None if it does not differ or no hash is known."""
    if model.archive_sha1 is not None:
        same = archive.sha1 == model.archive_sha1
        return None if same else f"its sha1 is {archive.sha1}, needed {model.archive_sha1}"
    if archive.sha256 == model.listed_sha256 or (recorded is not None and archive.sha256 == recorded.archive.sha256):
        return None
    if recorded is None:
        listed = f"its sha256 is {archive.sha256}, the Open Model Zoo lists {model.listed_sha256}"
        return listed if model.listed_sha256 is not None else None
    return (
        f"its sha256 is {archive.sha256}, the first download ({recorded.recorded}, from {recorded.source}) "
        f"had {recorded.archive.sha256}"
    )


def cure(model: KnownModel, recorded: Record | None) -> str:
    """Return what to do about a difference."""
    another = "try again from another network, or set CVMASK_MIRROR to another server"
    if model.archive_sha1 is None:
        return f"{another}; to accept this file anyway, run 'cvmask models download {model.name} --force'"
    return another


def hash_text(model: KnownModel, archive: Digest, recorded: Record | None, record_path: Path) -> str:
    """Return what an accepted archive was compared with."""
    if model.archive_sha1 is not None:
        return f"the archive has the known sha1 {archive.sha1}"
    if archive.sha256 == model.listed_sha256:
        return f"the archive has the sha256 that the Open Model Zoo lists, {archive.sha256}"
    if recorded is not None and archive.sha256 == recorded.archive.sha256:
        return f"the archive has the sha256 recorded on {recorded.recorded}, {archive.sha256}"
    how = f"sha256 {archive.sha256} is recorded in {record_path} and checked from now on"
    if model.listed_sha256 is None:
        return f"no hash of this archive was known: {how}"
    return f"forced: the Open Model Zoo lists another hash; {how}"
