from __future__ import annotations

import argparse
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask import __version__, scenes
from cvmask.cli.main import main
from cvmask.cli.options import OutputOptions, StreamOptions, add_codec_option, add_stream_options, take, unused_flags
from cvmask.drawing import letters
from cvmask.results.rle import decode
from cvmask.streams.sources.moving import is_animation

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder and a working folder of their own."""
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def scene_png(home: Path) -> Path:
    path = home / "scene.png"
    cv2.imwrite(str(path), scenes.make_scene(7, objects=6).image)
    return path


def test_version_names_the_versions_that_matter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith(f"cvmask {__version__} (OpenCV {cv2.__version__}")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
            "libGL.so.1: cannot open shared object file: No such file or directory: "
            "pip install opencv-python-headless, or the system's package with the library that is named",
        ),
        (
            "raise ModuleNotFoundError(\"No module named 'cv2'\", name='cv2')",
            "No module named 'cv2': pip install opencv-python-headless",
        ),
    ],
)
def test_opencv_that_does_not_import_is_one_line(code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(code)
    (tmp_path / "cvmask").write_text("from cvmask.cli.main import main\n")
    paths = os.pathsep.join((str(README.parent), str(tmp_path)))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "cvmask"), "doctor"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"cvmask: error: {message}\n")


@pytest.mark.parametrize("argv", [["--help"], ["predict", "--help"], ["edit", "--help"]])
def test_help_has_examples(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    assert "examples:\n  cvmask" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "invalid choice"),
        (["predict"], "required"),
        (["predict", "x.png", "--save", "coco,doc"], "coco, coco-polygons, frames, labelme, yolo, yolo-largest, png"),
        (["predict", "x.png", "--save", ","], "one or more of coco, coco-polygons, frames, labelme"),
        (["predict", "x.png", "--conf", "2"], "from 0 to 1, got '2'"),
        (["predict", "x.png", "--max-detections", "0"], "whole number from 1 up"),
        (["predict", "x.png", "--stride", "9" * 30], "from 1 up to 1000000, got"),
        (["predict", "x.png", "--color-by", "mood"], "invalid choice"),
        (["predict", "x.png", "--target", "abacus"], "abacus"),
        (["predict", "x.png", "--oppacity", "1"], "unknown argument --oppacity, did you mean --opacity?"),
        (["predict", "x.png", "--oppacity=1"], "unknown argument --oppacity, did you mean --opacity?"),
        (["predict", "x.png", "--zzz"], "unknown argument --zzz (see"),
        (["predict", "x.png", "-o", ""], "the value after -o is empty: is a variable not set? (see"),
        (["predict", "x.png", "--output="], "the value after --output is empty: is a variable not set? (see"),
        (["predict", "x.png", "--labels=a=", "--zzz"], "unknown argument --zzz (see"),
        (["predict", ""], "the value after cvmask predict is empty: is a variable not set? (see"),
    ],
)
def test_wrong_usage_is_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert message in said
    assert said.endswith("predict --help`)" if argv[0] == "predict" else "cvmask --help`)")


def test_nothing_at_all_is_the_help_and_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "examples:\n  cvmask demo" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--classes", "circel"], "did you mean 'circle'"), (["--size", "huge"], "size must be")],
)
def test_wrong_usage_that_needs_the_model_is_code_2_too(
    scene_png: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "shapes", str(scene_png), *flags]) == 2
    assert message in capsys.readouterr().err


def test_predict_writes_the_picture_and_says_what_it_found(
    scene_png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", "out"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) == 1
    assert out.startswith(f"{scene_png}: 320x320, ")
    assert " ms -> out" in out
    picture, source = cv2.imread("out/scene.png"), cv2.imread(str(scene_png))
    assert picture.shape == source.shape
    assert not np.array_equal(picture, source)


def test_flags_of_videos_are_said_to_be_unused_by_pictures(
    scene_png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", "-m", "shapes", str(scene_png), "-o", "out", "--track", "--start", "1", "--timeout", "2"]
    assert main(argv) == 0
    flags = "--start (videos), --track (videos, cameras and streams), --timeout (streams)"
    assert capsys.readouterr().err.splitlines() == [f"cvmask: ignored for these sources: {flags}"]


@pytest.mark.parametrize(
    ("kinds", "flags", "unused"),
    [
        ("video", "--start 1 --stride 2 --track", ""),
        ("video", "--retries 3 --rate 5", "--retries (streams), --rate (standard input and numbered frames)"),
        ("picture video", "--start 1 --every-frame", "--every-frame (cameras and streams)"),
        ("camera", "--every-frame --end 3 --workers 2", "--end (videos)"),
        ("camera video", "--every-frame --end 3", ""),
        ("address", "--start 1 --retries 3 --every-frame --raw-size 4x4", "--raw-size (standard input)"),
        ("stream", "--start 1 --stride 2 --retries 3 --every-frame", "--start (videos), --stride (videos)"),
        ("stream", "--timeout 3 --rate 5 --track --codec mp4v", "--rate (standard input and numbered frames)"),
        ("standard input", "--raw-size 4x4 --rate 5 --track", ""),
        ("picture", "--codec mp4v", "--codec (videos, cameras and streams)"),
        ("camera", "--codec mp4v", ""),
        ("standard input", "--timeout 3 --stride 2", "--stride (videos), --timeout (streams)"),
    ],
)
def test_which_flags_are_unused(kinds: str, flags: str, unused: str) -> None:
    parser = argparse.ArgumentParser()
    add_stream_options(parser)
    add_codec_option(parser)
    sources = ["standard input"] if kinds == "standard input" else kinds.split()
    args = parser.parse_args(flags.split())
    given = [take(StreamOptions, args), take(OutputOptions, args)]
    assert ", ".join(unused_flags(given, sources)) == unused


def test_predict_json_holds_boxes_scores_classes_and_masks(scene_png: Path) -> None:
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", "out/once.png", "--save-json"]) == 0
    record = json.loads(Path("out/once.json").read_text())
    assert (record["width"], record["height"]) == (320, 320)
    assert record["objects"]
    for item in record["objects"]:
        assert item["label"] == scenes.LABELS[item["class_id"]]
        assert 0.5 < item["score"] <= 1
        left, top, right, bottom = item["box_xyxy"]
        mask = decode(item["rle"])
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert left - 1 <= columns[0] <= columns[-1] <= right
        assert top - 1 <= rows[0] <= rows[-1] <= bottom


def test_predict_goes_on_after_a_bad_file_and_ends_with_code_3(
    scene_png: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = home / "many"
    folder.mkdir()
    (folder / "a_bad.jpg").write_bytes(b"no picture")
    scene_png.rename(folder / "b_good.png")
    assert main(["predict", "-m", "shapes", str(folder), "-o", "out"]) == 3
    out, err = capsys.readouterr()
    assert "a_bad.jpg" in err
    assert len(err.splitlines()) == 1
    assert "b_good.png" in out
    assert os.listdir("out") == ["b_good.png"]


def test_predict_with_nothing_readable_is_code_1(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "-m", "shapes", "missing.png"]) == 1
    assert "missing.png" in capsys.readouterr().err
    (home / "bad.png").write_bytes(b"")
    assert main(["predict", "-m", "shapes", "bad.png"]) == 1
    assert "bad.png" in capsys.readouterr().err


def test_predict_takes_patterns(scene_png: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene_png.rename(home / "s1.png")
    cv2.imwrite(str(home / "s2.png"), scenes.make_scene(8).image)
    assert main(["predict", "-m", "shapes", "s*.png"]) == 0
    assert sorted(os.listdir("cvmask_out")) == ["s1.png", "s2.png"]
    assert capsys.readouterr().out.startswith("[1/2] s1.png")


def test_predict_gives_sources_of_one_name_different_outputs(scene_png: Path, home: Path) -> None:
    (home / "other").mkdir()
    cv2.imwrite(str(home / "other" / "scene.png"), scenes.make_scene(8).image)
    cv2.imwrite(str(home / "other" / "SCENE.bmp"), scenes.make_scene(9).image)
    assert main(["predict", "-m", "shapes", str(scene_png), "other/scene.png", "other/SCENE.bmp"]) == 0
    assert sorted(os.listdir("cvmask_out")) == ["SCENE_3.bmp", "scene.png", "scene_2.png"]


def test_predict_never_replaces_its_source(scene_png: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = scene_png.read_bytes()
    for output in (str(scene_png), str(scene_png.parent)):
        assert main(["predict", "-m", "shapes", str(scene_png), "-o", output]) == 1
        assert "would replace its source" in capsys.readouterr().err
    assert scene_png.read_bytes() == before


def test_predict_one_file_for_several_pictures_is_refused(
    scene_png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite("b.png", scenes.make_scene(8).image)
    assert main(["predict", "-m", "shapes", str(scene_png), "b.png", "-o", "one.png"]) == 2
    assert "give a folder" in capsys.readouterr().err


def test_predict_output_in_a_place_that_cannot_be_written(
    scene_png: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_bytes(b"")
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", "file/out"]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["x" * 5000, "x" * 5000 + ".png", "x" * 5000 + "/"])
def test_predict_output_of_a_name_too_long_is_one_line(
    scene_png: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", name]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("File name too long")


@pytest.mark.parametrize("name", ["out.gif", "out.mp4", "out.xyz", "deep/out.avif"])
def test_predict_output_of_a_format_that_is_not_written_is_one_line_and_code_2(
    scene_png: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "-m", "no such model", str(scene_png), "-o", name]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"cvmask: error: {name}: for a picture needed one of .png .jpg")
    assert len(err.splitlines()) == 1
    assert os.listdir() == ["scene.png"]


@pytest.mark.parametrize("name", ["day.1", "day.2/", "plain"])
def test_predict_output_that_is_a_folder_by_its_name_or_because_it_is_there(scene_png: Path, name: str) -> None:
    Path("day.1").mkdir()
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", name]) == 0
    assert os.listdir(name) == ["scene.png"]


@pytest.mark.parametrize(
    ("flags", "text", "message"),
    [
        (["predict", "--colors"], "1 2\n", "a colour is three numbers"),
        (["predict", "--colors"], None, "cannot be read"),
        (["predict", "--labels"], "", "empty"),
        (["edit", "--effect", "spotlight", "--labels"], None, "cannot be read"),
        (["predict", "--labels"], "item { name: 'a' }\n", "each item needs an id"),
    ],
)
def test_small_files_are_looked_at_before_the_model(
    scene_png: Path, flags: list[str], text: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        Path("small.txt").write_text(text)
    assert main([flags[0], str(scene_png), *flags[1:], "small.txt", "-m", "no such model"]) == 1
    err = capsys.readouterr().err
    assert "small.txt: " in err
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("model", ["coco", "coco-resnet50"])
def test_predict_without_the_model_says_how_to_get_it(
    scene_png: Path, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    argv = ["predict", str(scene_png)] + (["-m", model] if model != "coco" else [])
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert f"cvmask models download {model}" in err
    assert "-m people" in err


def test_predict_drawing_flags_leave_parts_out(scene_png: Path) -> None:
    flags = (
        ["--no-boxes"],
        ["--no-masks"],
        ["--no-labels"],
        ["--opacity", "0.9"],
        ["--color-by", "instance"],
    )
    pictures = []
    for i, flag in enumerate(([], *flags)):
        assert main(["predict", "-m", "shapes", str(scene_png), "-o", f"{i}.png", *flag]) == 0
        pictures.append(cv2.imread(f"{i}.png"))
    for i in range(1, len(pictures)):
        assert not np.array_equal(pictures[0], pictures[i]), flags[i - 1]
    everything_off = ["--no-boxes", "--no-masks", "--no-labels"]
    assert main(["predict", "-m", "shapes", str(scene_png), "-o", "off.png", *everything_off]) == 0
    assert np.array_equal(cv2.imread("off.png"), cv2.imread(str(scene_png)))


def test_letters_that_cannot_be_drawn_are_told_where_labels_are_drawn(
    scene_png: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    letters._font_with.cache_clear()
    Path("names.txt").write_text("\n".join(["кот", *"abcdefg"]), encoding="utf-8")
    told = []
    for verb in (["predict"], ["predict", "--no-labels"], ["edit", "--effect", "spotlight"]):
        assert main([*verb, "-m", "shapes", "--labels", "names.txt", str(scene_png), "-o", "out.png"]) == 0
        told.append("cannot draw the label 'кот': 'class 0' is drawn" in capsys.readouterr().err)
    letters._font_with.cache_clear()
    assert told == [not letters.HAS_LETTERS, False, False]


def test_predict_show_without_a_display_says_so_and_goes_on(
    scene_png: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["predict", "-m", "shapes", str(scene_png), "--show"]) == 0
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert "display" in err
    assert "scene.png" in out


def test_module_runs_as_a_program(scene_png: Path) -> None:
    out = scene_png.with_name("m.png")
    command = [sys.executable, "-m", "cvmask", "predict", "-m", "shapes", str(scene_png), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=README.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.exists()


def test_the_reference_of_the_command_line_is_that_of_the_parsers() -> None:
    script = runpy.run_path(str(README.parent / "scripts" / "dev" / "command_line.py"))
    page = (README.parent / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert page == script["page"](), "run scripts/run command_line"


ODD = Path(__file__).resolve().parents[3] / "shared" / "data" / "odd_images"


@pytest.mark.skipif(not ODD.is_dir(), reason=f"needs the shared test data in {ODD}")
def test_predict_takes_the_folder_of_odd_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    """Each file gives a picture, or one line that names it and the reason; half a JPEG gives a warning."""
    # Those that move become videos, where Pillow is installed.
    files = sorted(p for p in ODD.iterdir() if p.is_file() and not is_animation(str(p)))
    assert main(["predict", "-m", "shapes", *map(str, files), "-o", "out", "--size", "64"]) == 3
    out, err = capsys.readouterr()
    shown = {line.split("] ", 1)[1].split(": ")[0] for line in out.splitlines()}
    refused = {str(p) for p in files if f"cvmask: {p}: " in err}
    assert shown | refused == {str(p) for p in files}
    assert not shown & refused
    assert len(os.listdir("out")) == len(shown)
    assert "truncated_half.jpg: " in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--classes", "star", "circle"], "--classes takes one value: separate several by commas, as in --classes a,b"),
        (["--save", "coco", "csv"], "--save takes one value: separate several by commas"),
        (["--conf", "50"], "needed a number from 0 to 1, got '50': for 50 percent give 0.5"),
    ],
)
def test_usual_slips_are_answered_with_what_was_meant(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "a.png", *flags])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
