"""Names of classes, files and servers are anybody's: what would steer a terminal is spelled out."""

from __future__ import annotations

import ast
import json
import os
import re
from pathlib import Path

import cv2
import pytest
from zoo_server import RESNET50, clean_home, serving

import cvmask.cli
from cvmask import scenes
from cvmask.cli.main import main
from cvmask.system.process import printable

# Clears the screen, sets the title, goes up a line, ends the line, turns the direction.
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b1A\r\n\u2028\u202eevil"
SHAPES = 8

needs_names = pytest.mark.skipif(os.name == "nt", reason="no such names there")


@pytest.fixture
def shown(capfd):
    """Run a command; give its exit code and its lines, in which nothing may steer a terminal."""

    def run(*args):
        try:
            code = main([str(arg) for arg in args])
        except SystemExit as end:
            code = end.code
        said = "".join(capfd.readouterr())
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", said)
        return code, said.splitlines()

    return run


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / f"a{EVIL}.png"
    plain = tmp_path / "plain.png"
    cv2.imwrite(str(plain), scenes.make_scene(5, (160, 160), objects=2).image)
    plain.rename(path)
    return path


def test_everything_is_printed_in_one_place():
    """`say` and the bars escape; a print() of its own would not."""
    for path in Path(cvmask.cli.__file__).parent.glob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        prints = [one for one in calls if isinstance(one.func, ast.Name) and one.func.id == "print"]
        assert not prints or path.name == "progress.py", f"{path.name}:{prints[0].lineno} prints past the escape"


def test_printable_keeps_text_and_spells_the_rest():
    assert printable("grün 人 \U0001f469\u200d\U0001f680 \\n") == "grün 人 \U0001f469\u200d\U0001f680 \\n"
    assert printable("\x1b[2J\n\r\x9b\u202e") == r"\x1b[2J\n\r\x9b\u202e"


@needs_names
def test_names_of_classes_and_pictures(shown, picture, tmp_path):
    labels = tmp_path / "labels"
    labels.write_text("".join(f"\x1b[31mname{number}\x9b\n" for number in range(SHAPES)), "utf-8")
    code, lines = shown("predict", "-m", "shapes", "--labels", labels, picture, "-o", tmp_path / "out")
    assert code == 0
    assert len(lines) == 1
    assert r"\x1b[31mname" in lines[0]
    assert r"\n\u2028\u202eevil.png" in lines[0]


@needs_names
@pytest.mark.parametrize("verb", ["predict", "render", "models"])
def test_names_of_files_in_errors(shown, tmp_path, verb):
    bad = tmp_path / f"bad{EVIL}.jsonl"
    bad.write_text("nothing")
    args = {
        "predict": ["predict", "-m", "shapes", bad.with_suffix(".png")],
        "render": ["render", bad.with_suffix(".mp4"), bad, "-o", tmp_path / "out.mp4"],
        "models": ["models", "inspect", bad],
    }[verb]
    code, lines = shown(*args)
    assert code == 1
    assert any("evil" in line for line in lines)
    assert len(lines) <= 2


def test_names_in_arguments(shown):
    code, lines = shown("predict", f"--unknown{EVIL}", "x.png")
    assert code == 2
    assert len(lines) == 1


def test_names_of_classes_in_json_lines(shown, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), scenes.make_scene(5, (96, 96), objects=1).image)
    record = {"labels": [EVIL], "name": EVIL, "size": [EVIL]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n")
    code, lines = shown("render", tmp_path / "a.png", tmp_path / "a.jsonl", "-o", tmp_path / "out.jsonl")
    assert code in (0, 1, 2)
    assert lines


def test_the_phrase_of_a_server(shown, tmp_path, monkeypatch):
    clean_home(monkeypatch, tmp_path / "home")

    def refuse(handler, content):
        handler.send_response(404, "gone \x1b[2J\x9b1A")
        handler.end_headers()

    with serving({}) as server:
        server.behaviours = [refuse]
        monkeypatch.setenv("CVMASK_MIRROR", server.url)
        code, lines = shown("models", "download", RESNET50.name)
    assert code == 1
    assert r"404 gone \x1b[2J\x9b1A" in lines[-1]


def test_an_overlong_label_stops_no_run(shown, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), scenes.make_scene(5, (160, 160), objects=2).image)
    (tmp_path / "labels").write_text("\n".join("x" * 100_000 + str(number) for number in range(SHAPES)))
    args = ["predict", "-m", "shapes", "--labels", tmp_path / "labels", tmp_path / "a.png", "-o", tmp_path / "out"]
    code, _ = shown(*args, "--save-json", "--save", "coco,labelme,yolo,csv,crops")
    assert code == 0
    assert (tmp_path / "out" / "a.png").exists()
