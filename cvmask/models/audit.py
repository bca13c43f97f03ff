"""Whether a model that is at hand is what it should be, and works."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.models.record import Record, digest, read_record
from cvmask.models.self_check import self_check
from cvmask.models.table import GRAPH_FILE, NAMES, get
from cvmask.models.zoo import places, resolve


@dataclass(frozen=True)
class Report:
    """What was looked at: each entry is a line; no `problems` means that all is well."""

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
        passed.append("no hash is known for a model of your own: its files are not compared with anything")
    found = self_check(path)
    if found:
        problems.extend(found)
    else:
        passed.append("the graph converts and splits, and detector plus mask head equal the whole graph")
    return Report(path, tuple(passed), tuple(problems))


def _check_hashes(name: str, folder: Path, passed: list[str], problems: list[str]) -> None:
    model = get(name)
    if model.bundled:
        passed.append("bundled with the package: came with its installation")
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
        passed.append("no hash is known: it was not downloaded by cvmask, which would have recorded one")


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
