"""``edit`` applies the effect that was asked for to every picture, and says what it cannot do."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask import load, scenes
from cvmask.cli.main import main
from cvmask.drawing.effects import EFFECTS, HIDING, HIDING_MARGIN, replace_background, spotlight
from cvmask.streams.sources import Video

MODEL = ["-m", "shapes", "--size", "128", "--conf", "0.3"]


@pytest.fixture(autouse=True)
def scene_png(work: Path) -> Path:
    path = work / "scene.png"
    cv2.imwrite(str(path), scenes.make_scene(7, objects=6).image)
    return path


@pytest.mark.parametrize("name", EFFECTS)
def test_edit_applies_the_effect(name: str, scene_png: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "scene.png", "--effect", name, "-o", "out", *MODEL]) == 0
    assert capsys.readouterr().out.startswith("scene.png: 320x320, ")
    frame = cv2.imread("scene.png")
    found = load("shapes", size=128, score_threshold=0.3).detect(frame)
    assert len(found)
    margin = {"margin": HIDING_MARGIN} if name in HIDING else {}
    assert np.array_equal(cv2.imread("out/scene.png", cv2.IMREAD_UNCHANGED), EFFECTS[name](frame, found, **margin))


def test_edit_takes_classes_and_feather(scene_png: Path) -> None:
    flags = ["--effect", "spotlight", "--classes", "star, heart", "--feather", "0"]
    assert main(["edit", "scene.png", "-o", "out", *flags, *MODEL]) == 0
    frame = cv2.imread("scene.png")
    model = load("shapes", size=128, score_threshold=0.3, classes=["star", "heart"])
    assert np.array_equal(cv2.imread("out/scene.png"), spotlight(frame, model.detect(frame), feather_px=0))


@pytest.mark.parametrize(
    "argv",
    [
        ["scene.png", "--effect", "replace-background", "--background", "sky.png"],
        ["--effect", "replace-background", "--background", "sky.png", "scene.png"],
        ["--background", "#0a141e", "--effect", "replace-background", "scene.png"],
    ],
)
def test_edit_replaces_the_background_wherever_the_source_stands(argv: list[str]) -> None:
    cv2.imwrite("sky.png", np.full((5, 9, 3), (30, 20, 10), np.uint8))
    assert main(["edit", *argv, "-o", "out", *MODEL]) == 0
    assert os.listdir("out") == ["scene.png"]
    frame = cv2.imread("scene.png")
    found = load("shapes", size=128, score_threshold=0.3).detect(frame)
    assert np.array_equal(cv2.imread("out/scene.png"), replace_background(frame, found, (30, 20, 10)))


def test_edit_takes_sources_before_and_after_the_effect(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b.png", "c.png"):
        Path(name).write_bytes(Path("scene.png").read_bytes())
    assert main(["edit", "scene.png", "--effect", "spotlight", "b.png", "c.png", *MODEL]) == 0
    assert sorted(os.listdir("cvmask_out")) == ["b.png", "c.png", "scene.png"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["scene.png"], "--effect"),
        (["--effect", "spotlight"], "SOURCE"),
        (["scene.png", "--effect", "sepia"], "choose from blur-background, remove-background"),
        (["scene.png", "--effect", "spotlight", "--feather", "-1"], "from 0 to 1000"),
    ],
)
def test_edit_wrong_usage_is_code_2(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["edit", *argv])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--effect", "pixelate-objects", "--feather", "3"], 2, "no soft edge"),
        (["--effect", "replace-background"], 2, "needs a picture or a colour (#rrggbb): add --background"),
        (["--effect", "spotlight", "--background", "sky.png"], 2, "--background goes with --effect replace-background"),
        (["--effect", "replace-background", "--background", "missing.png"], 1, "missing.png"),
        (["--effect", "replace-background", "--background", "#00ff0"], 2, "six hexadecimal digits"),
        (["--effect", "remove-background", "-o", "out.jpg"], 2, "end the name in .png"),
        (["--effect", "grey-background", "#ff0000", "-o", "out.png"], 2,
         "#ff0000: no such file; a colour goes with --background '#ff0000'"),
    ],
)
def test_edit_that_cannot_be_done_is_one_line(
    flags: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edit", "scene.png", *flags, *MODEL]) == code
    err = capsys.readouterr().err
    assert message in err
    assert len(err.splitlines()) == 1


def test_edit_removes_the_background_of_a_jpeg_into_a_png(scene_png: Path) -> None:
    scene_png.rename("scene.jpg")
    assert main(["edit", "scene.jpg", "--effect", "remove-background", *MODEL]) == 0
    assert cv2.imread("cvmask_out/scene.png", cv2.IMREAD_UNCHANGED).shape == (320, 320, 4)


def test_edit_writes_no_json_lines(clip_mp4: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["edit", "clip.mp4", "--effect", "grey-background", "-o", "out.jsonl", *MODEL]) == 2
    said = "out.jsonl: this format holds no picture: name a picture or a video"
    assert capsys.readouterr().err == f"cvmask: error: {said}\n"
    assert not Path("out.jsonl").exists()


def frames_of(path: str) -> list[NDArray[np.uint8]]:
    return [frame.image for frame in Video(path)]


@pytest.mark.parametrize("name", ["spotlight", "remove-background"])
def test_edit_applies_the_effect_to_every_frame_of_a_video(
    name: str, clip_mp4: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["edit", "clip.mp4", "--effect", name, "-o", "out.mp4", *MODEL]) == 0
    assert ("background becomes green" in capsys.readouterr().err) == (name == "remove-background")
    effect = spotlight if name == "spotlight" else partial(replace_background, background=(0, 255, 0))
    model = load("shapes", size=128, score_threshold=0.3)
    before, after = frames_of("clip.mp4"), frames_of("out.mp4")
    assert len(after) == len(before) == 6
    for frame, edited in zip(before, after):
        expected = effect(frame, model.detect(frame))
        # mp4v is lossy
        assert np.abs(edited.astype(int) - expected).mean() < 12 < np.abs(edited.astype(int) - frame).mean()


def test_edit_takes_pictures_and_videos_together(clip_mp4: Path) -> None:
    assert main(["edit", "clip.mp4", "scene.png", "--effect", "spotlight", "-o", "out", *MODEL]) == 0
    assert sorted(os.listdir("out")) == ["clip.mp4", "scene.png"]
