"""Ctrl-C and SIGTERM while a folder of pictures is annotated, in a process of its own."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import pytest
from conftest import ROOT

from cvmask import scenes
from cvmask.system.interrupts import raise_if_interrupted, terminated_as_interrupted

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

# Stops at the third picture, in the place that is asked for, and waits there for the signal.
_PROGRAM = """
    import os, sys, time
    sys.path.insert(0, sys.argv.pop(1))
    place = sys.argv.pop(1)
    from cvmask import MaskRCNN
    from cvmask.cli.main import main

    def waiting_in(function):
        calls = []
        def call(*arguments):
            calls.append(arguments)
            if len(calls) == 3:
                print("here", flush=True)
                for _ in range(600):  # a signal that comes just before a sleep does not end that one
                    time.sleep(0.1)
            return function(*arguments)
        return call

    if place == "detecting":
        detect = MaskRCNN.detect
        waiting = waiting_in(lambda self, frame: detect(self, frame))
        MaskRCNN.detect = lambda self, frame: waiting(self, frame)
    elif place == "writing":  # the file is complete under its other name, but not where it belongs
        os.replace = waiting_in(os.replace)
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(work: Path) -> Path:
    """Give a folder with five scenes."""
    (work / "in").mkdir()
    for seed in range(5):
        cv2.imwrite(str(work / "in" / f"s{seed}.png"), scenes.make_scene(seed, objects=3).image)
    return work


def interrupted(place: str, number: int, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run `predict` over the folder until it waits at `place`, and send it the signal."""
    program = [sys.executable, "-c", textwrap.dedent(_PROGRAM), str(ROOT), place]
    command = ["predict", "-m", "shapes", "--size", "64", "in", "-o", "out", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*program, *command], **pipes) as child:  # type: ignore[call-overload]
        shown = []
        while "here\n" not in shown:
            shown.append(child.stdout.readline())
            assert shown[-1], child.stderr.read()
        child.send_signal(number)
        rest, err = child.communicate(timeout=60)
        return subprocess.CompletedProcess(command, child.returncode, "".join(shown) + rest, err)


@pytest.mark.parametrize("place", ["detecting", "writing"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_folder_keeps_what_was_finished_and_nothing_half(
    folder: Path, place: str, number: int
) -> None:
    done = interrupted(place, number)
    assert (done.returncode, done.stderr) == (130, "cvmask: interrupted\n")
    assert sorted(os.listdir("out")) == ["s0.png", "s1.png"]
    for name in os.listdir("out"):
        assert cv2.imread(f"out/{name}").shape == (320, 320, 3)
        assert f"{Path('in') / name}: 320x320" in done.stdout
    assert sorted(os.listdir()) == ["in", "out"]


def test_an_interrupted_folder_finishes_the_files_that_hold_many_pictures(folder: Path) -> None:
    done = interrupted("detecting", signal.SIGINT, "--save", "coco,csv", "--save-json")
    assert done.returncode == 130
    names = ["coco.json", "coco_results.json", "detections.csv", "s0.json", "s0.png", "s1.json", "s1.png"]
    assert sorted(os.listdir("out")) == names
    images = json.loads(Path("out/coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["s0.png", "s1.png"]
    with open("out/detections.csv", encoding="utf-8") as file:
        assert {row["name"] for row in csv.DictReader(file)} <= {"s0.png", "s1.png"}


def test_an_interrupt_that_a_library_swallowed_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    with terminated_as_interrupted():
        raise_if_interrupted()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_if_interrupted()
    assert signal.getsignal(signal.SIGINT) is before
