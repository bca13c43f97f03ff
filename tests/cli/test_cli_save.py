"""``predict --save`` writes every format, for all pictures of a run or for those that came before its end."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask import Detections, MaskRCNN, load, scenes
from cvmask.cli.main import main
from cvmask.formats.lines import read_jsonl
from cvmask.formats.saver import FORMATS

LONG = "\u8eca" * 90


@pytest.fixture
def folder(work: Path) -> Path:
    """Give a folder with three scenes."""
    (work / "in").mkdir()
    for seed in (7, 8, 9):
        cv2.imwrite(str(work / "in" / f"s{seed}.png"), scenes.make_scene(seed, objects=6).image)
    return work / "in"


def predict(*flags: str) -> int:
    return main(["predict", "-m", "shapes", "--size", "128", "--conf", "0.3", *flags])


def test_save_writes_every_format_with_names_relative_to_the_folder(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("in", "-o", "out", "--save", ",".join(FORMATS)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{', '.join(FORMATS)}: in out"
    coco = json.loads(Path("out/coco.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["s7.png", "s8.png", "s9.png"]
    assert all(Path("out/frames", image["file_name"]).is_file() for image in coco["images"])
    assert [one["name"] for one in coco["categories"]] == list(scenes.LABELS)
    labelme = json.loads(Path("out/labelme/s7.json").read_text())
    assert labelme["imagePath"] == "s7.png"
    assert np.array_equal(cv2.imread("out/labelme/s7.png"), cv2.imread(str(folder / "s7.png")))
    assert len(labelme["shapes"]) >= len(Path("out/yolo/labels/s7.txt").read_text().splitlines()) > 0
    with open("out/detections.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(coco["annotations"]) == len(list(Path("out/cutouts").glob("*.png")))
    assert len(rows) == len(list(Path("out/masks").glob("*.png"))) == len(list(Path("out/crops").iterdir()))
    assert len(list(Path("out/instances").iterdir())) == len(list(Path("out/classes").iterdir())) == 3


def test_save_holds_what_detect_found(folder: Path) -> None:
    assert predict("in/s7.png", "-o", "out/one.png", "--save", "jsonl") == 0
    model = load("shapes", size=128, score_threshold=0.3)
    record = next(read_jsonl("out/detections.jsonl"))
    assert record.detections == model.detect(cv2.imread("in/s7.png"))


def test_the_paste_goes_into_pictures_and_files(folder: Path) -> None:
    drawn = []
    for name, threshold in (("tensorflow", 0.5), ("tutorial", 0.3)):
        assert predict("in/s7.png", "-o", f"{name}.png", "--save", "jsonl", "--mask-paste", name) == 0
        line = json.loads(Path("detections.jsonl").read_text())
        assert (line["mask_paste"], line["mask_threshold"]) == (name, threshold)
        found = next(read_jsonl("detections.jsonl")).detections
        assert line["area"] == found.area().tolist() == found.area(threshold).tolist()
        drawn.append(cv2.imread(f"{name}.png"))
        edit = ["edit", "--effect", "spotlight", "in/s7.png", "-m", "shapes", "-o", "e.png"]
        assert main([*edit, "--mask-paste", name]) == 0
        drawn.append(cv2.imread("e.png"))
    assert (drawn[0] != drawn[2]).any()
    assert (drawn[1] != drawn[3]).any()


def test_what_is_saved_is_refined_if_that_is_asked_for(folder: Path) -> None:
    lines = []
    for flags in ([], ["--refine"]):
        assert predict("in/s7.png", "-o", "x.png", "--save", "jsonl", *flags) == 0
        lines.append(json.loads(Path("detections.jsonl").read_text()))
    assert lines[0]["soft_masks"] == lines[1]["soft_masks"]
    assert lines[0]["area"] != lines[1]["area"]
    found = next(read_jsonl("detections.jsonl")).detections
    assert lines[1]["area"] == found.refined(cv2.imread("in/s7.png")).area().tolist()


def test_a_name_that_is_not_utf8_is_saved_in_every_format_and_read_back(folder: Path) -> None:
    odd = folder / "\udcffodd.png"
    try:
        (folder / "s7.png").rename(odd)
    except OSError as error:
        pytest.skip(f"this file system wants UTF-8: {error}")
    assert predict("in", "-o", "out", "--save-json", "--save", ",".join(FORMATS)) == 0
    assert [record.name for record in read_jsonl("out/detections.jsonl")] == ["s8.png", "s9.png", odd.name]
    assert json.loads(Path("out/coco.json").read_text())["images"][2]["file_name"] == odd.name
    labelme = json.loads(Path(f"out/labelme/{odd.stem}.json").read_text())
    assert (Path("out/labelme") / labelme["imagePath"]).is_file()
    assert json.loads(Path(f"out/{odd.stem}.json").read_text())["file"] == str(odd.relative_to(folder.parent))
    assert "\\udcffodd.png," in Path("out/detections.csv").read_text()


def test_an_interrupted_run_keeps_what_it_has(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient(MaskRCNN):
        calls = 0

        def detect(self, frame):  # type: ignore[no-untyped-def]
            Impatient.calls += 1
            if Impatient.calls == 3:
                raise KeyboardInterrupt
            return Detections.empty(frame.shape[:2])

    plain = load("shapes")
    monkeypatch.setattr("cvmask.cli.loading.load_model", lambda *args: plain)
    monkeypatch.setattr(plain, "__class__", Impatient)
    assert predict("in", "-o", "out", "--save", "coco,csv,jsonl,yolo") == 130
    assert len(json.loads(Path("out/coco.json").read_text())["images"]) == 2
    assert json.loads(Path("out/coco_results.json").read_text()) == []
    assert [record.name for record in read_jsonl("out/detections.jsonl")] == ["s7.png", "s8.png"]
    assert len(Path("out/detections.csv").read_text().splitlines()) == 1
    assert Path("out/yolo/data.yaml").is_file()
    assert "interrupted" in capsys.readouterr().err


def test_pictures_that_would_share_a_file_are_refused_before_the_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "S7.jpg").write_bytes((folder / "s7.png").read_bytes())
    assert predict("in", "-o", "out", "--save", "coco,yolo") == 1
    assert "S7.jpg and s7.png would both be saved as s7: rename one" in capsys.readouterr().err
    assert not Path("out").exists()
    assert predict("in", "-o", "out", "--save", "coco,csv") == 0


def test_a_picture_called_as_a_frame_is_refused_before_the_run(
    folder: Path, clip_mp4: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "s7.png").rename("clip_000003.png")
    assert predict("clip_000003.png", "clip.mp4", "-o", "out", "--save", "labelme") == 1
    assert "clip_000003.png and clip.mp4 would both be saved as clip_ and a number" in capsys.readouterr().err
    assert not Path("out").exists()


def test_save_of_a_video_has_index_and_time_of_each_frame_and_no_path(folder: Path, clip_mp4: Path) -> None:
    clip_mp4.rename("in/clip.mp4")
    assert predict("in/clip.mp4", "in/s7.png", "-o", "out", "--track", "--save", "csv,coco,labelme,jsonl") == 0
    records = list(read_jsonl("out/detections.jsonl"))
    assert [record.name for record in records] == ["s7.png"] + 6 * ["clip.mp4"]
    assert [record.frame_index for record in records] == [None, 0, 1, 2, 3, 4, 5]
    assert [record.time_s for record in records[1:]] == pytest.approx([n / 25 for n in range(6)])
    assert records[1].detections.tracker_id is not None
    assert json.loads(Path("out/coco.json").read_text())["images"][6]["file_name"] == "clip_000005"
    assert len(list(Path("out/labelme").glob("clip_00000?.json"))) == 6


def test_save_beside_a_video_that_o_names(clip_mp4: Path) -> None:
    assert predict("clip.mp4", "-o", "out/found.mp4", "--save", "csv", "--save-json") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["detections.csv", "found.jsonl", "found.mp4"]


@pytest.mark.parametrize("name", ["n" * 241 + ".png", "n" * 251 + ".png", "\u732b" * 83 + ".png"])
def test_a_picture_of_the_longest_name_is_written_in_every_format(folder: Path, name: str) -> None:
    try:
        (folder / "s7.png").rename(folder / name)
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    labels = Path("long.names")
    labels.write_text("".join(f"{LONG}{n}\n" for n in range(len(scenes.LABELS))), encoding="utf-8")
    assert predict("in", "-o", "out", "--labels", str(labels), "--save-json", "--save", ",".join(FORMATS)) == 0
    coco = json.loads(Path("out/coco.json").read_text(encoding="utf-8"))
    assert name in [image["file_name"] for image in coco["images"]]
    assert len(list(Path("out/masks").iterdir())) == len(coco["annotations"]) > 3
    assert len(list(Path("out").glob("*.png"))) == len(list(Path("out").glob("*.json"))) - 3 == 3
    assert len(list(Path("out/yolo/labels").iterdir())) == len(list(Path("out/labelme").glob("*.json"))) == 3


def test_a_picture_that_cannot_be_written_is_its_own_failure(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in ("out/s7.png", "out/yolo/labels/s8.txt", "out/s8.json"):
        Path(place).mkdir(parents=True)
    assert predict("in", "-o", "out", "--save-json", "--save", "coco,csv,yolo,png-instances") == 3
    told = capsys.readouterr()
    assert [line for line in told.err.splitlines() if "cannot be written" in line] == [
        f"cvmask: {Path('in', name)}: {Path('out', place)} cannot be written: Is a directory"
        for name, place in (("s7.png", "s7.png"), ("s8.png", "s8.json"), ("s8.png", "yolo/labels/s8.txt"))
    ]
    assert told.out.count("not written") == 2
    assert Path("out/s8.png").is_file(), "the rest of a picture is written"
    assert Path("out/s9.png").is_file()
    coco = json.loads(Path("out/coco.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == ["s7.png", "s8.png", "s9.png"]
    assert len(Path("out/detections.csv").read_text(encoding="utf-8").splitlines()) > 3
    assert len(list(Path("out/instances").iterdir())) == 3
    assert predict("in/s7.png", "-o", "out") == 1
