"""cvmask.graph.compare: a text graph that contradicts its frozen graph, and which of the two runs."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from graph_builder import filled, own_model, shared

from cvmask.errors import ModelError
from cvmask.graph import describe
from cvmask.graph.anatomy import Anatomy, dissect
from cvmask.graph.check import inspect
from cvmask.graph.compare import contradictions, facts_as_run
from cvmask.graph.convert import _Builder, convert
from cvmask.graph.describe import facts_of
from cvmask.graph.facts import GraphFacts
from cvmask.graph.graph_def import read_graph
from cvmask.graph.model_files import model_files
from cvmask.graph.nodes import Graph, RefusedError
from cvmask.graph.text import print_text, read_text
from cvmask.system import folders

SHAPES = folders.path("models/shapes")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(SHAPES, tmp_path / "mine"))


def edit(model: Path, node: str, before: str, after: str) -> None:
    """Change the text of one node of the text graph."""
    path = model / "graph.pbtxt"
    blocks = re.split(r"(?m)^(?=node \{)", path.read_text())
    changed = [b.replace(before, after) if f'  name: "{node}"\n' in b else b for b in blocks]
    assert changed != blocks
    path.write_text("".join(changed))


def attr(key: str, value: str) -> str:
    return f'key: "{key}"\n    value {{\n      {value}\n'


EDITS = [
    ("proposals", attr("step", "f: 8.0"), attr("step", "f: 16.0"), "step is 16, not 8"),
    ("proposals", attr("offset", "f: 0.0"), attr("offset", "f: 0.5"), "offset is 0.5, not 0"),
    ("proposals", "float_val: 66.0", "float_val: 60.0", "anchor widths is 24, 40, 60"),
    ("proposals", "float_val: 0.2", "float_val: 0.1", "variance of the first stage is 0.1, 0.1, 0.1, 0.1"),
    ("proposals", attr("clip", "b: true"), attr("clip", "b: false"), "clipping of anchors is 0, not 1"),
    ("proposals/variance", "float_val: 0.2", "float_val: 1.0", "variance of the second stage is 0.1, 0.1, 1, 1"),
    ("variance_encoded/flatten", '"variance_encoded"', '"SecondStageBoxPredictor/Reshape2"',
     "variance of the second stage is 1, 1, 1, 1"),
    ("detection_out", "f: 0.7", "f: 0.3", "IoU threshold of the first stage is 0.3, not 0.7"),
    ("detection_out", "i: 32", "i: 5", "number of rows of the first stage is 5, not 32"),
    ("detection_out", "i: -1", "i: 20", "top_k of the first stage is 20, not -1"),
    ("detection_out_final", "f: 0.5", "f: 0.9", "IoU threshold of the second stage is 0.9, not 0.5"),
    ("detection_out_final", "f: 0.02", "f: 0.6", "score floor of the second stage is 0.6, not 0.02"),
    ("detection_out_final", "i: 100", "i: 3", "number of rows of the second stage is 3, not 100"),
    ("detection_out_final", attr("clip", "b: true"), attr("clip", "b: false"), "clipping in the second stage"),
    ("detection_out_final", "i: 9", "i: 0", "background_label_id of the second stage is 0, not 9"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "before", "after", "words"), EDITS)
def test_the_frozen_graph_wins_and_a_note_names_the_number(
    model: Path, node: str, before: str, after: str, words: str
) -> None:
    sound = inspect(model_files(SHAPES))
    edit(model, node, before, after)
    report = inspect(model_files(model))
    assert not report.problems
    assert report.files.text is None
    assert any("contradicts the frozen graph" in note and words in note for note in report.notes)
    assert report.text is not None
    assert print_text(report.text) == print_text(convert(read_graph(SHAPES / "frozen_inference_graph.pb")))
    assert report.facts == sound.facts


def test_the_attributes_of_layers_are_held_against_the_frozen_graph(model: Path) -> None:
    text = (model / "graph.pbtxt").read_text()
    changed = re.sub(r'(key: "strides"\s*value \{\s*list \{\s*i: 1\s*)i: 2', r"\1i: 1", text, count=1)
    assert changed != text
    (model / "graph.pbtxt").write_text(changed)
    notes = inspect(model_files(model)).notes
    assert any("strides of " in note and "[1, 1, 2, 1], not [1, 2, 2, 1]" in note for note in notes)


def test_a_text_graph_that_agrees_runs_as_it_is(model: Path) -> None:
    report = inspect(model_files(model))
    assert (report.files.text, report.notes, report.problems) == (model / "graph.pbtxt", (), ())


def test_the_given_text_graph_is_kept_when_asked_and_the_facts_are_its_own(model: Path) -> None:
    edit(model, "proposals", attr("step", "f: 8.0"), attr("step", "f: 16.0"))
    edit(model, "detection_out", "i: 32", "i: 5")
    report = inspect(model_files(model), keep_text=True)
    assert report.files.text == model / "graph.pbtxt"
    assert "runs as it is, as asked" in report.notes[0]
    assert report.facts is not None
    assert (report.facts.anchors.stride, report.facts.proposals) == ((16.0, 16.0), 5)


def test_opencv_s_own_text_graph_is_held_against_an_export_of_another_day() -> None:
    given = read_text(shared("graphs", "mask_rcnn_inception_v2_coco_2018_01_28.pbtxt"))
    frozen = read_graph(filled("mask_rcnn_inception_v2"))
    assert contradictions(given, convert(frozen), frozen) == [
        "clipping in the first stage is 1, not 0",
        "score floor of the second stage is 0.3, not 0",
        "clipping in the second stage is 1, not 0",
    ]


def made_with(parts: Anatomy, facts: GraphFacts) -> Graph:
    return Graph(_Builder(parts, facts).build(), "made")


@pytest.fixture(scope="module")
def tiny() -> tuple[Anatomy, GraphFacts]:
    parts = dissect(read_graph(own_model("tiny_plain")))
    return parts, facts_of(parts)


@pytest.mark.parametrize(
    ("stride", "offset", "words"),
    [
        ((8.0, 16.0), (0.0, 4.0), []),
        ((8.0, 8.0), (0.0, 0.0), ["step is 8, not 8, 16", "offset is 0, not 0, 0.25"]),
        ((16.0, 8.0), (0.0, 4.0), ["step is 16, 8, not 8, 16", "offset is 0, 0.5, not 0, 0.25"]),
        ((8.0, 16.0), (2.0, 4.0), ["offset is 0.25, not 0, 0.25"]),
    ],
)
def test_anchors_that_differ_along_the_axes_are_compared(
    tiny: tuple[Anatomy, GraphFacts], stride: tuple[float, float], offset: tuple[float, float], words: list[str]
) -> None:
    parts, facts = tiny
    anchors = replace(facts.anchors, stride=(8.0, 16.0), offset=(0.0, 4.0))
    made = made_with(parts, replace(facts, anchors=anchors))
    given = made_with(parts, replace(facts, anchors=replace(anchors, stride=stride, offset=offset)))
    assert contradictions(given, made, parts.graph) == words
    run = facts_as_run(facts, given, parts.graph).anchors
    assert (run.stride, run.offset) == (stride, offset)


def test_all_rows_beside_a_limit_of_a_class_are_no_contradiction(tiny: tuple[Anatomy, GraphFacts]) -> None:
    parts, facts = tiny
    rule = replace(facts.second_stage, max_per_class=2, max_total=100)
    limited = replace(facts, second_stage=rule)
    made = made_with(parts, limited)
    for total, words in ((100, []), (50, ["number of rows of the second stage is 50, not 6"])):
        given = made_with(parts, replace(facts, second_stage=replace(rule, max_per_class=100, max_total=total)))
        assert contradictions(given, made, parts.graph, limited) == words


def test_a_graph_that_is_refused_is_refused_with_a_text_graph_too(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not inspect(model_files(model)).problems

    def refuse(parts: Anatomy) -> None:
        raise RefusedError("its resizer is not supported")

    def puzzle(parts: Anatomy) -> None:
        raise ModelError("its anchors are a puzzle")

    monkeypatch.setattr(describe, "resizer_of", refuse)
    assert inspect(model_files(model)).problems == ("its resizer is not supported",)
    monkeypatch.setattr(describe, "resizer_of", puzzle)
    report = inspect(model_files(model))
    assert (report.problems, report.files.text) == ((), model / "graph.pbtxt")
    assert "the frozen graph was not understood: its anchors are a puzzle" in report.notes[0]
