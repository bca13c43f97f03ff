from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest

from cvmask.cli import demo
from cvmask.cli.main import main


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder and a working folder of their own."""
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def _frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    frames = 0
    while capture.read()[0]:
        frames += 1
    return frames


def test_demo_shows_people_and_shapes_plain_and_annotated(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "CLIP_FRAMES", 3)
    assert main(["demo", "-o", "shown"]) == 0
    out = capsys.readouterr().out
    assert "portrait.png: people, found 1 person" in out
    shown = work / "shown"
    for plain, clip in ((shown, "clip.mp4"), (shown / "people", "portrait_clip.mp4")):
        assert _frames(plain / clip) == _frames(shown / "annotated" / clip) == 3
    for name, size in (("scene.png", (480, 640, 3)), ("people/portrait.png", (512, 512, 3))):
        plain, annotated = cv2.imread(f"shown/{name}"), cv2.imread(f"shown/annotated/{Path(name).name}")
        assert plain.shape == annotated.shape == size
        assert (plain != annotated).any()
    # The plain ones lie where the commands that it prints find them.
    assert main(["predict", "-m", "shapes", "shown", "-o", "found"]) == 0
    assert [path.name for path in (work / "found").iterdir()] == ["scene.png"]


def test_demo_with_a_camera_that_is_not_there_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--camera", "63"]) == 1
    err = capsys.readouterr().err
    assert "camera 63" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("on_path", "here", "said"), [
    ("env/bin", ".", "cvmask"),
    ("elsewhere", ".", "env/bin/cvmask"),
    ("elsewhere", "below", "{work}/env/bin/cvmask"),
])  # fmt: skip
def test_demo_says_how_this_program_is_called_again(
    work: Path, monkeypatch: pytest.MonkeyPatch, on_path: str, here: str, said: str
) -> None:
    program = work / "env" / "bin" / "cvmask"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (work / "below").mkdir()
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", str(work / on_path))
    monkeypatch.chdir(work / here)
    assert demo.how_called() == said.format(work=work)


def test_demo_names_the_module_where_no_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/x/cvmask/__main__.py"])
    assert demo.how_called() == f"{Path(sys.executable).name} -m cvmask"
