"""Hashes: of files, and the record of what a first download brought."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.system.disk import writing_to

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Digest:
    """What a file's content is known by."""

    n_bytes: int
    sha1: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """Where a model came from and what it was then; ``files`` by their name in the model's folder."""

    source: str
    recorded: str
    archive: Digest
    files: dict[str, Digest]


def digest(path: Path) -> Digest:
    """Read a file once and hash it."""
    # sha1 is what the zoo's files are known by, not what they are protected by.
    sha1, sha256, n_bytes = hashlib.sha1(usedforsecurity=False), hashlib.sha256(), 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            sha1.update(chunk)
            sha256.update(chunk)
            n_bytes += len(chunk)
    return Digest(n_bytes, sha1.hexdigest(), sha256.hexdigest())


def new_record(source: str, archive: Digest, folder: Path) -> Record:
    """Describe a model that has just come."""
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
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        files = {name: Digest(**entry) for name, entry in data["files"].items()}
        return Record(data["source"], data["recorded"], Digest(**data["archive"]), files)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the record {path} cannot be read ({error}): delete it to have the next download recorded anew"
        ) from error


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all.

    Raises
    ------
    ModelError
        If the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.new")
    with writing_to(path.parent):
        beside.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
        os.replace(beside, path)
