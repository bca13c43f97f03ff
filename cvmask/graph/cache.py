"""Converted text graphs, kept beside the model or, where that is read-only, in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask import __version__
from cvmask.errors import CvmaskError, ModelError, SinkError
from cvmask.graph.facts import Anchors, GraphFacts, Resizer, Suppression
from cvmask.graph.model_files import CACHED
from cvmask.graph.nodes import Graph
from cvmask.graph.text import parse_text, print_text
from cvmask.system.files import open_regular, write_private, write_whole
from cvmask.system.folders import cache_home

# Change the number when a conversion gives another text graph or refuses other graphs within one release.
# Cache files of another version are not used.
_VERSION = f"{__version__}-6"
_MAX_LINE = 200
_MAX_BYTES = 64 << 20  # a text graph has no weights


Known = tuple[Graph, GraphFacts]


def find(path: str | os.PathLike[str], data: NDArray[np.uint8]) -> tuple[str, Known | None]:
    """Return the fingerprint of the frozen graph at `path`, whose bytes are `data`, and its cache entry, if any."""
    with ThreadPoolExecutor(1) as other:
        # The file beside the graph usually belongs to it, so it is parsed while the graph is hashed.
        hashing = other.submit(fingerprint, data)
        beside, found = _load(_beside(Path(path)))
        key = hashing.result()
    if beside != key:
        place = _at_home(key)
        beside, found = _load(place) if place is not None else ("", None)
    return key, found if beside == key else None


def keep(path: str | os.PathLike[str], key: str, graph: Graph, facts: GraphFacts) -> None:
    """Write the conversion of the frozen graph at `path` to the cache. Failures to write are ignored."""
    # The text graph has no room for the facts: they are written before it, as a comment.
    text = f"# {json.dumps(asdict(facts))}\n{print_text(graph)}"
    data = text.encode("utf-8", "surrogateescape")
    for place in (_beside(Path(path)), _at_home(key)):
        with contextlib.suppress(SinkError, OSError):
            if place is not None:
                write = write_whole if place == _beside(Path(path)) else write_private
                write(place, _first_line(key, data) + data)
            break


def fingerprint(data: NDArray[np.uint8]) -> str:
    """The SHA-256 of the bytes of a graph, in hexadecimal."""
    return hashlib.sha256(data.data).hexdigest()


def _beside(path: Path) -> Path:
    return path.with_name(path.stem + CACHED)


def _at_home(key: str) -> Path | None:
    try:
        return cache_home() / "graphs" / f"{key}{CACHED}"
    except CvmaskError:
        return None


def _first_line(key: str, rest: bytes) -> bytes:
    """Return the line that names the graph and hashes the rest, so that truncated or edited files are not used."""
    return f"# cvmask {_VERSION} {key} {hashlib.sha256(rest).hexdigest()}\n".encode()


def _load(path: Path) -> tuple[str, Known | None]:
    """Return the fingerprint in a cache file and its content; "" and None if it is missing or damaged."""
    try:
        with open_regular(path) as file:
            first, rest = file.readline(_MAX_LINE), file.read(_MAX_BYTES)
        key = first.split(b" ")[3].decode()
        if first != _first_line(key, rest):
            return "", None
        text = rest.decode("utf-8", "surrogateescape")
        return key, (parse_text(text, path.name), facts_from(json.loads(text[2 : text.index("\n")])))
    except (OSError, ValueError, LookupError, TypeError, ModelError):
        return "", None


def facts_from(data: dict[str, Any]) -> GraphFacts:
    """Rebuild GraphFacts from JSON written with `dataclasses.asdict`."""
    plain = _with_tuples(data)
    plain.update(
        resizer=Resizer(**_with_tuples(data["resizer"])),
        anchors=Anchors(**_with_tuples(data["anchors"])),
        first_stage=Suppression(**data["first_stage"]),
        second_stage=Suppression(**data["second_stage"]),
    )
    return GraphFacts(**plain)


def _with_tuples(data: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
