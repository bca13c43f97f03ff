"""A fact that is read off a graph and never used makes wrong answers in silence: each changes something."""

from __future__ import annotations

import contextlib
from dataclasses import fields, is_dataclass, replace

import pytest
from graph_builder import own_model

from cvmask.cli.models import _graph_facts
from cvmask.graph import convert as converting
from cvmask.graph.anatomy import dissect
from cvmask.graph.describe import facts_of
from cvmask.graph.graph_def import read_graph
from cvmask.graph.text import print_text

# What runs has these from the constants and layers of the frozen graph itself; the facts are for people to see.
SHOWN = {"backbone", "mask_size", "class_agnostic_masks", "crop_size", "features", "outputs"}
SMALLER = {"max_per_class": 3, "max_total": 4}  # below the other of the two limits: only the lower one counts


def leaves(facts, path=()):
    """The way to each field that is no dataclass itself; each of several numbers on its own."""
    for field in fields(facts):
        value, way = getattr(facts, field.name), (*path, field.name)
        if is_dataclass(value):
            yield from leaves(value, way)
        elif isinstance(value, tuple) and value and isinstance(value[0], (int, float)):
            yield from ((*way, number) for number in range(len(value)))
        else:
            yield way


def changed(value, path):
    """The same with another value at the end of the path."""
    if not path:
        if isinstance(value, bool):
            return not value
        return value + 0.25 if isinstance(value, float) else value + 1 if isinstance(value, int) else f"{value}x"
    first, *rest = path
    if isinstance(first, int):
        return (*value[:first], changed(value[first], rest), *value[first + 1 :])
    new = SMALLER.get(first) if not rest else None
    return replace(value, **{first: changed(getattr(value, first), rest) if new is None else new})


@pytest.fixture(scope="module")
def parts():
    return dissect(read_graph(own_model("tiny_plain")))


@pytest.fixture(scope="module")
def facts(parts):
    return facts_of(parts)


def what_runs(parts, facts):
    """The text graph, the resizer and the limit of a class: all that a model is loaded with but its weights."""
    text = print_text(converting.Graph(converting._Builder(parts, facts).build(), "tiny"))
    return text, facts.resizer, facts.max_of_a_class


EXAMPLE = facts_of(dissect(read_graph(own_model("tiny_plain"))))
USED = [path for path in leaves(EXAMPLE) if path[0] not in SHOWN]


@pytest.mark.parametrize("path", USED, ids=lambda path: ".".join(map(str, path)))
def test_a_fact_changes_what_runs(parts, facts, path):
    other = changed(facts, path)
    if path == ("resizer", "kind"):
        other = replace(facts, resizer=replace(facts.resizer, kind="at_most"))
    with contextlib.suppress(converting.ModelError):  # refused: that will do
        assert what_runs(parts, other) != what_runs(parts, facts)


@pytest.mark.parametrize("path", [path for path in leaves(EXAMPLE) if path[0] in SHOWN], ids=str)
def test_a_fact_that_changes_nothing_is_shown(facts, path):
    assert list(_graph_facts(changed(facts, path))) != list(_graph_facts(facts))
