"""The text graph that a model is loaded with, given or made, and what is known of the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.graph.convert import convert_with_facts
from cvmask.graph.describe import describe
from cvmask.graph.facts import Resizer
from cvmask.graph.nodes import Graph
from cvmask.graph.split import final_detections
from cvmask.graph.text import read_text
from cvmask.graph.wire import read_graph


@dataclass(frozen=True)
class Prepared:
    """A text graph that is ready to be split and loaded.

    Attributes
    ----------
    text
        The text graph.
    classes
        How many classes it tells apart.
    resizer
        How the model was trained to resize pictures; kind "unknown" where neither graph nor config say.
    """

    text: Graph
    classes: int
    resizer: Resizer


def prepare(graph: Path, text: Path | None = None, config: Path | None = None) -> Prepared:
    """Read or make the text graph of a frozen graph.

    Parameters
    ----------
    graph
        The binary graph.
    text
        Its text graph, where there is one; made from `graph` otherwise.
    config
        The training's pipeline.config.

    Raises
    ------
    ModelError
        If a file cannot be read, is something else, or cannot be converted.
    """
    frozen = read_graph(graph)
    if text is None:
        made, facts = convert_with_facts(frozen)
        return Prepared(made, facts.classes, facts.resizer)
    given = read_text(text)
    try:
        resizer = describe(frozen).resizer
    except ModelError:  # a text graph of one's own may go with a graph that is not the API's
        resizer = Resizer("unknown")
    return Prepared(given, int(final_detections(given).get("num_classes", "i", 0)), resizer)


def convert_file(graph: Path) -> Graph:
    """The text graph of a frozen graph; ModelError as of `prepare`."""
    return convert_with_facts(read_graph(graph))[0]
