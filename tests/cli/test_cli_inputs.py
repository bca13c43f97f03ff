from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.cli.inputs import expand, files_left_out


@pytest.fixture
def pictures(work: Path) -> Path:
    for place in ("in/a.png", "in/day2/b.png", "other/a.png"):
        path = work / place
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return work


def names(*sources: str) -> list[str]:
    return [one.name for one in expand(sources)[0]]


def test_expand_keeps_order_takes_each_once_and_tells_what_failed(pictures: Path) -> None:
    inputs, failures = expand(["other/a.png", "in/day2", "other", "nothing*.png"])
    assert [one.path for one in inputs] == ["other/a.png", os.path.join("in", "day2", "b.png")]
    assert len(failures) == 1
    assert "nothing*.png" in failures[0]


def test_a_file_in_several_spellings_is_taken_once(pictures: Path) -> None:
    (pictures / "link").symlink_to("in")
    full = str(pictures / "in" / "a.png")
    spellings = ["./in/a.png", full, "in/day2/../a.png", "link/a.png", "gone.png", "./gone.png"]
    assert [one.path for one in expand(["in", *spellings])[0]] == [os.path.join("in", "a.png"), "gone.png"]
    assert [one.path for one in expand(["0", "-", "0", "-"])[0]] == ["0", "-"]


def test_names_are_relative_to_what_the_user_gave(pictures: Path) -> None:
    assert names("in") == ["a.png"]
    assert names("in/day2/b.png") == ["b.png"]
    assert names(str(pictures / "in" / "day2")) == ["b.png"]
    assert names("in/**/*.png") == ["a.png", "day2/b.png"]
    assert names("in/day?/*.png") == ["day2/b.png"]
    assert names("*/day2/b.png") == ["in/day2/b.png"]
    assert names("missing.png") == ["missing.png"]


def test_names_that_would_be_the_same_get_their_folders(pictures: Path) -> None:
    assert names("in", "other") == ["in/a.png", "other/a.png"]
    assert names("in/a.png", str(pictures / "other" / "a.png")) == ["in/a.png", "other/a.png"]


def test_cameras_and_addresses_have_names_without_passwords(work: Path) -> None:
    inputs, failures = expand(["0", "-", "rtsp://me:secret@host:554/live?key=1", "in.mp4"])
    assert [one.name for one in inputs] == ["camera0", "stdin", "host_554_live", "in.mp4"]
    assert all(one.stream for one in inputs)
    assert not failures


def test_a_folder_says_that_its_videos_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.mp4", "c.MKV"):
        (tmp_path / name).touch()
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "d.mp4").touch()
    line = f"{tmp_path}: only the pictures of a folder are read; to process its 2 videos, name them: "
    line += f"'{tmp_path}/*.MKV' '{tmp_path}/*.mp4'"
    assert files_left_out([str(tmp_path), str(tmp_path / "only"), "gone", "0"]) == [line]
    (tmp_path / "b.mp4").unlink()
    assert files_left_out([str(tmp_path)])[0].endswith(f"; to process its video, name it: '{tmp_path}/*.MKV'")
    failure = expand([str(tmp_path / "only")])[1][0]
    assert failure.endswith(f"videos are named, as in {tmp_path}/only/*.mp4), found none")


def test_a_folder_names_what_it_leaves_out_by_ending(tmp_path: Path) -> None:
    for name in ("a.png", "b.psd", "c.psd", "d.txt", "Makefile", ".hidden"):
        (tmp_path / name).touch()
    line = f"{tmp_path}: ignored, because of their endings: 1 without an ending, 2 .psd, 1 .txt; "
    assert files_left_out([str(tmp_path)]) == [line + "to read them, name them"]
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "e.jpg").touch()
    assert files_left_out([str(tmp_path / "more")]) == []


def test_an_address_of_a_file_is_the_file(tmp_path: Path) -> None:
    (tmp_path / "a b.mp4").touch()
    named, _ = expand([f"file://{tmp_path}/a%20b.mp4"])
    assert [(one.path, one.name) for one in named] == [(str(tmp_path / "a b.mp4"), "a b.mp4")]


def test_a_model_is_no_source() -> None:
    inputs, failures = expand(["my/graph.pb"])
    assert inputs == []
    assert failures == ["my/graph.pb: belongs to a model, give the .pb with -m, the .pbtxt with --graph"]


def test_a_video_whose_name_is_not_utf8_is_a_failure_and_a_picture_is_not(pictures: Path) -> None:
    inputs, failures = expand(["\udcffclip.mp4", "in/\udcff.png", "in/a.png"])
    assert [one.path for one in inputs] == ["in/\udcff.png", "in/a.png"]
    assert failures == ["\udcffclip.mp4: its name, or that of its folder, is not UTF-8: rename it"]
