"""What would overwrite a source or another result is refused before anything is done."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.cli.main import main
from cvmask.errors import SinkError
from cvmask.results.detections import Detections
from cvmask.streams.pipeline import annotate
from cvmask.streams.sources import Images

SHAPES = ["-m", "shapes", "--size", "128"]


@pytest.fixture
def two_folders(clip_mp4: Path) -> Path:
    """Give the folder of x/p.png, y/p.png, x/a.mp4 and y/a.mp4."""
    for folder in ("x", "y"):
        os.mkdir(folder)
        shutil.copy(clip_mp4, f"{folder}/a.mp4")
        cv2.imwrite(f"{folder}/p.png", np.full((48, 64, 3), ord(folder), np.uint8))
    return clip_mp4.parent


class Nothing:
    """Finds nothing."""

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        return Detections.empty((frame.shape[0], frame.shape[1]))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("verb", ["predict", "edit --effect spotlight"])
@pytest.mark.parametrize("name", ["p.png", "a.mp4"])
def test_no_result_replaces_another_source(
    verb: str, name: str, two_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(two_folders)
    assert main([*verb.split(), f"x/{name}", f"y/{name}", "-o", "y", *SHAPES]) == 1
    said = f"y/{name} would replace another source: give another name or folder with -o"
    assert capsys.readouterr().err == f"cvmask: error: {said}\n"
    assert content(two_folders) == before


def test_results_of_one_name_go_elsewhere(two_folders: Path) -> None:
    assert main(["predict", "x/p.png", "y/p.png", "x/a.mp4", "y/a.mp4", "-o", "out", *SHAPES]) == 0
    assert sorted(os.listdir("out")) == ["a.mp4", "a_2.mp4", "p.png", "p_2.png"]


def test_a_folder_of_pictures_does_not_replace_one_that_is_still_to_be_read(two_folders: Path) -> None:
    before = content(two_folders)
    for output in ("y", "y/p.png"):
        with pytest.raises(SinkError, match="would replace"):
            annotate(Images(["x/p.png", "y/p.png"]), Nothing(), outputs=[output]).run()
    assert content(two_folders) == before


@pytest.mark.parametrize(
    ("source", "flags", "said"),
    [
        ("a.mp4", "-o c/detections.jsonl --save jsonl", "c/detections.jsonl would be written for a.mp4"),
        ("detections.mp4", "-o c/ --save-json --save csv,jsonl", "c/detections.jsonl would be written for det"),
        ("coco.png", "-o c/ --save-json --save coco", "c/coco.json would be written for coco.png"),
        ("coco_results.png", "-o c/ --save-json --save coco", "c/coco_results.json would be written for coco_"),
    ],
)
def test_save_and_the_files_of_a_source_do_not_overwrite_each_other(
    source: str, flags: str, said: str, two_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(f"x/{'p.png' if source.endswith('png') else 'a.mp4'}", source)
    assert main(["predict", source, *flags.split(), *SHAPES]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"cvmask: error: {said}")
    assert error.endswith(f" and by --save {flags.split()[-1].split(',')[-1]}: leave one out, or rename one\n")
    assert not Path("c").exists()


def test_save_beside_files_of_other_names_is_no_clash(two_folders: Path) -> None:
    shutil.copy("x/p.png", "detections.png")
    assert main(["predict", "detections.png", "-o", "c", "--save-json", "--save", "jsonl,csv", *SHAPES]) == 0
    assert sorted(os.listdir("c")) == ["detections.csv", "detections.json", "detections.jsonl", "detections.png"]


@pytest.mark.parametrize("output", ["c\udcff/", "\udcff.mp4"])
def test_a_video_whose_name_is_not_utf8_is_refused_before_a_model_is_loaded(
    output: str, two_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "x/a.mp4", "-o", output, "-m", "missing"]) == 1
    assert capsys.readouterr().err.endswith("mp4: its name, or that of its folder, is not UTF-8: rename it\n")
