"""Converted text graphs, kept beside the model or, where that is read-only, in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cvmask.errors import CvmaskError, ModelError, SinkError
from cvmask.files import write_whole
from cvmask.graph.facts import Anchors, GraphFacts, ResizerFacts, Suppression
from cvmask.graph.files import open_regular
from cvmask.graph.folder import CACHED
from cvmask.graph.nodes import Graph
from cvmask.graph.text import parse_text, print_text
from cvmask.home import cache_home

_VERSION = 3  # of what convert makes: a higher number leaves older files unused
_CHUNK = 1 << 22
_MAX_BYTES = 64 << 20  # a text graph has no weights


def find(path: str | os.PathLike[str], key: str) -> tuple[Graph, GraphFacts] | None:
    """The text graph and the facts that are kept for the frozen graph at `path`; None where there are none.

    `key` is the graph's `fingerprint`.
    """
    found = (_load(place, key) for place in _places(Path(path), key))
    return next((known for known in found if known is not None), None)


def keep(path: str | os.PathLike[str], key: str, graph: Graph, facts: GraphFacts) -> Graph:
    """Keep what was converted, and give the text graph as `find` will; nothing is said where it cannot be kept."""
    path = Path(path)
    text = _header(key, facts) + print_text(graph)
    for place in _places(path, key):
        with contextlib.suppress(SinkError):
            write_whole(place, text.encode("utf-8", "surrogateescape"))
            break
    return parse_text(text, path.name)


def fingerprint(path: str | os.PathLike[str]) -> str:
    """A hash of all bytes of a file: 160 bits in hexadecimal. ModelError if it cannot be read."""
    digest = hashlib.blake2b(digest_size=20)
    with open_regular(path) as file:
        while True:
            chunk = file.read(_CHUNK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def _places(path: Path, key: str) -> Iterator[Path]:
    yield path.with_name(path.stem + CACHED)
    with contextlib.suppress(CvmaskError):  # there may be no home
        yield cache_home() / "graphs" / f"{key}{CACHED}"


def _header(key: str, facts: GraphFacts) -> str:
    """Comment lines that hold what is not in the text graph itself."""
    return f"# cvmask {_VERSION} {key}\n# {json.dumps(asdict(facts))}\n"


def _load(path: Path, key: str) -> tuple[Graph, GraphFacts] | None:
    """What a cache file holds; None where there is none, or where it is of another graph or damaged."""
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
        first, second, _ = text.split("\n", 2)
        if first != f"# cvmask {_VERSION} {key}":
            return None
        return parse_text(text, path.name), facts_from(json.loads(second[2:]))
    except (OSError, ValueError, TypeError, KeyError, ModelError):
        return None


def facts_from(data: dict[str, Any]) -> GraphFacts:
    """GraphFacts out of what `dataclasses.asdict` and JSON have made of them."""
    plain: dict[str, Any] = {}
    for key, value in data.items():
        plain[key] = tuple(value) if isinstance(value, list) else value
    anchors: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in data["anchors"].items()
    }
    plain.update(
        resizer=ResizerFacts(**data["resizer"]),
        anchors=Anchors(**anchors),
        first_stage=Suppression(**data["first_stage"]),
        second_stage=Suppression(**data["second_stage"]),
    )
    return GraphFacts(**plain)
