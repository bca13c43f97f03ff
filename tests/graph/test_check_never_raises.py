"""cvmask.graph.check.check: whatever the files are, there is a report and no exception, and no waiting."""

from __future__ import annotations

import os
import random
import shutil
import socket
from pathlib import Path

import pytest
from graph_builder import message
from unprivileged import run_unprivileged

from cvmask.errors import ModelError
from cvmask.graph.check import inspect
from cvmask.graph.model_files import ModelFiles
from cvmask.graph.protobuf import fields
from cvmask.system import folders

FOLDER = folders.path("models/shapes")
GRAPH, TEXT = FOLDER / "frozen_inference_graph.pb", FOLDER / "graph.pbtxt"
TINY = Path(__file__).parents[1] / "data" / "tiny_plain.pb"
posix = pytest.mark.skipif(os.name != "posix", reason="files of that kind: needs a POSIX system")


def folder(path):
    path.mkdir()


def broken_link(path):
    path.symlink_to(path.parent / "nowhere")


def link_to_itself(path):
    path.symlink_to(path)


def link_to(target):
    def make(path):
        if not os.path.exists(target):
            pytest.skip(f"{target}: this system has none")
        path.symlink_to(target)

    return make


def bound_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


KINDS = {
    "missing": (lambda path: None, "No such file"),
    "empty": (Path.touch, "is empty"),
    "folder": (folder, "needed a file|a folder"),
    "pipe": (lambda path: os.mkfifo(path), "got a pipe"),
    "socket": (bound_socket, "a device or socket"),
    "broken link": (broken_link, "No such file"),
    "link to itself": (link_to_itself, "symbolic links"),
    "endless": (link_to("/dev/zero"), "a device or socket"),
    "null": (link_to("/dev/null"), "a device or socket"),
    "terminal": (link_to("/dev/tty"), "a device or socket|No such device"),
    "pseudo file of no size": (link_to("/proc/self/mem"), "is empty|cannot be read"),
    "noise": (lambda path: path.write_bytes(bytes(range(256)) * 9), "neither a frozen|no text graph: leave it out"),
}


@posix
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_any_kind_are_a_problem_in_words(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    make, words = KINDS[kind]
    odd = Path("odd.pb")
    make(odd)
    for files in (ModelFiles(odd), ModelFiles(GRAPH, odd), ModelFiles(odd, TEXT)):
        report = inspect(files)
        assert len(report.problems) == 1
        with pytest.raises(ModelError, match=words):
            report.raise_problem()
        assert "\n" not in report.problems[0]
    with_config = inspect(ModelFiles(GRAPH, TEXT, config=odd))
    assert with_config.problems == ()
    assert len(with_config.notes) == 1


@pytest.mark.parametrize("name", ["n" * 5000, "a\0b", "x/" * 3000 + "x.pb"])
def test_names_that_no_system_takes_are_a_problem(name):
    for files in (ModelFiles(Path(name)), ModelFiles(GRAPH, Path(name))):
        assert len(inspect(files).problems) == 1


@posix
def test_a_file_in_place_of_a_folder_is_a_problem():
    assert "Not a directory" in inspect(ModelFiles(GRAPH / "x.pb")).problems[0]


LOOK = """
from pathlib import Path
from cvmask.errors import ModelError
from cvmask.graph.check import inspect
from cvmask.graph.model_files import ModelFiles, model_files
place = Path({place!r})
print(inspect(ModelFiles(place / "closed.pb")).problems[0])
print(inspect(ModelFiles(place / "closed" / "a.pb")).problems[0])
print(inspect(ModelFiles(place / "open.pb", config=place / "closed.pb")).notes[0])
for path in ("closed", "listed", "closed/a.pb"):
    try:
        print(inspect(model_files(place / path)).problems[0])
    except ModelError as error:
        print(error)
"""


def test_files_without_permission_are_a_problem(tmp_path):
    shutil.copy(GRAPH, tmp_path / "open.pb")
    shutil.copy(GRAPH, tmp_path / "closed.pb")
    (tmp_path / "closed.pb").chmod(0)
    for name, mode in (("closed", 0), ("listed", 0o444)):
        (tmp_path / name).mkdir()
        shutil.copy(GRAPH, tmp_path / name / "a.pb")
        (tmp_path / name).chmod(mode)
    lines = run_unprivileged(LOOK.format(place=str(tmp_path)), tmp_path / "home").splitlines()
    assert len(lines) == 6
    assert all("ermission denied" in line for line in lines), lines


@posix
def test_a_cache_file_of_another_kind_is_passed_by(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    shutil.copy(GRAPH, tmp_path / "model.pb")
    beside = tmp_path / "model.cvmask.pbtxt"
    for make in (os.mkfifo, os.mkdir, link_to("/dev/zero")):
        make(beside)
        report = inspect(ModelFiles(tmp_path / "model.pb"))
        assert report.problems == ()
        assert report.facts.classes == 8
        os.rmdir(beside) if beside.is_dir() else beside.unlink()


def test_facts_that_were_found_survive_the_first_problem(tmp_path):
    text = tmp_path / "graph.pbtxt"
    text.write_text("<html>")
    report = inspect(ModelFiles(GRAPH, text))
    assert "a web page" in report.problems[0]
    text.write_text(TEXT.read_text().replace('op: "Sigmoid"', 'op: "Hat"'))
    report = inspect(ModelFiles(GRAPH, text), label_count=80)
    assert "OpenCV is not known to have a layer for Hat" in report.notes[0]
    assert "80 labels for 8 classes" in report.problems[0]
    assert (report.facts.classes, report.facts.mask_size) == (8, (15, 15))


def test_a_graph_that_cannot_be_converted_keeps_its_facts(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    path = tmp_path / "a.pb"
    path.write_bytes(TINY.read_bytes().replace(b"\x12\x05Relu6", b"\x12\x05Celu6"))
    report = inspect(ModelFiles(path))
    assert any("Celu6" in problem for problem in report.problems)
    assert report.facts.classes == 3


def mutated(rng: random.Random, nodes: list[bytes]) -> bytes:
    """A graph whose nodes have lost an input or an attribute, or have another's."""
    nodes = list(nodes)
    for _ in range(rng.choice([1, 1, 2, 5])):
        index = rng.randrange(len(nodes))
        parts = [raw for _, raw in raw_fields(nodes[index])]
        spare = [raw for number, raw in raw_fields(nodes[rng.randrange(len(nodes))]) if number != 1]
        where = rng.randrange(1, len(parts))
        parts[where : where + 1] = rng.choice([[], spare[:1], spare[-1:], [parts[where]] * 2])
        nodes[index] = b"".join(parts)
    return b"".join(message(1, node) for node in nodes)


def raw_fields(data: bytes) -> list[tuple[int, bytes]]:
    """The number of each field of a message, and the field as it stands there."""
    found = [(number, start) for number, _, _, start in fields(memoryview(data))]
    ends = [start for _, start in found[1:]] + [len(data)]
    return [(number, data[start:end]) for (number, start), end in zip(found, ends)]


def node_bodies(data: bytes) -> list[bytes]:
    return [bytes(value) for number, _, value, _ in fields(memoryview(data)) if number == 1]


@pytest.mark.parametrize("seed", range(8))
def test_graphs_put_together_wrongly_are_a_problem_or_load(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    rng = random.Random(seed)
    nodes = node_bodies(TINY.read_bytes())
    path = tmp_path / "a.pb"
    kinds = set()
    for _ in range(12):
        path.write_bytes(mutated(rng, nodes))
        report = inspect(ModelFiles(path))
        assert (report.text is None) <= bool(report.problems)
        kinds.add(bool(report.problems))
    assert True in kinds


def test_text_graphs_put_together_wrongly_are_a_problem_or_load(tmp_path):
    rng, lines, path = random.Random(3), TEXT.read_text().split("\n"), tmp_path / "graph.pbtxt"
    problems = 0
    for _ in range(40):
        some = list(lines)
        for _ in range(3):
            where = rng.randrange(len(some))
            some[where : where + 1] = rng.choice([[], [lines[rng.randrange(len(lines))]]])
        path.write_text("\n".join(some))
        problems += bool(inspect(ModelFiles(GRAPH, path)).problems)
    assert problems > 10
