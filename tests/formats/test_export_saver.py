from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import LABELS
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.record import Record
from cvmask.formats.saver import FORMATS, Saver, SaveSettings, check_formats, check_names
from cvmask.results.detections import Detections


def save(folder: Path, error: type[BaseException], scene: Detections, picture: NDArray[np.uint8]) -> None:
    with pytest.raises(error), Saver(["coco", "csv"], SaveSettings(folder, LABELS)) as saver:  # noqa: PT012
        saver.write(Record("a.png", scene), picture)
        raise error


def test_saver_finishes_all_when_interrupted(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    save(tmp_path, KeyboardInterrupt, scene, picture)
    assert len(json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["annotations"]) == 4
    assert len((tmp_path / "detections.csv").read_text(encoding="utf-8").splitlines()) == 5


def test_saver_leaves_nothing_unfinished_after_an_error(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    save(tmp_path, ZeroDivisionError, scene, picture)
    assert not list(tmp_path.iterdir())


def test_saver_that_cannot_open_one_format_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "in_the_way").write_bytes(b"")
    saver = Saver(["jsonl", "csv"], SaveSettings(tmp_path / "in_the_way", LABELS))
    with pytest.raises(SinkError, match="cannot be written"), saver:
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in_the_way"]


def test_check_formats_takes_each_once_and_lists_all() -> None:
    assert check_formats(["csv", "coco", "csv"]) == ["csv", "coco"]
    with pytest.raises(ValueError, match=r"needed one or more of coco, .*cutouts, got 'doc', 'xls'"):
        check_formats(["doc", "csv", "xls"])


def test_check_names_minds_only_formats_with_files_of_their_own() -> None:
    check_names(["a.jpg", "a.png"], ["a.mp4"], ["coco", "csv", "jsonl"])
    check_names(["a.jpg", "day2/a.jpg"], ["b.mp4"], ["labelme"])
    with pytest.raises(SinkError, match=r"a\.jpg and A\.png would both be saved as a"):
        check_names(["a.jpg", "A.png"], [], ["coco", "labelme"])


def test_a_record_whose_own_files_cannot_be_written_costs_the_others_nothing(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    (tmp_path / "crops").mkdir()
    (tmp_path / "crops" / "a").write_bytes(b"in the way of a folder")
    with Saver(["crops", "csv", "coco", "yolo"], SaveSettings(tmp_path, LABELS)) as saver:
        with pytest.raises(SinkError, match="cannot be written"):
            saver.write(Record("a/b.png", scene), picture)
        saver.write(Record("c.png", scene), picture)
    assert len((tmp_path / "detections.csv").read_text(encoding="utf-8").splitlines()) == 9
    assert len(json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))["images"]) == 2
    assert len(list((tmp_path / "crops").glob("c_*.png"))) == 4
    assert (tmp_path / "yolo" / "labels" / "a" / "b.txt").is_file()


def test_saver_that_could_not_write_a_file_of_many_records_finishes_nothing(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Saver(["csv", "coco"], SaveSettings(tmp_path, LABELS)) as saver:
        monkeypatch.setattr("cvmask.formats.coco.to_image", lambda *_: 1 / 0)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                saver.write(Record("a.png", scene), picture)
    assert not list(tmp_path.iterdir())


def test_an_object_without_a_pixel_is_in_no_format_and_numbers_agree(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    soft = scene.soft_masks * np.float32([1, 0, 1, 1])[:, None, None]
    with Saver(list(FORMATS), SaveSettings(tmp_path, LABELS)) as saver:
        saver.write(Record("a.png", replace(scene, soft_masks=soft)), picture)
    for folder in ("masks", "crops", "cutouts"):
        names = sorted(path.name for path in (tmp_path / folder).iterdir())
        assert names == ["a_001_disc.png", "a_002_two_parts.png", "a_003_rîng_big.png"]
    for name in ("coco.json", "coco_polygons.json"):
        assert len(json.loads((tmp_path / name).read_text(encoding="utf-8"))["annotations"]) == 3
    assert len((tmp_path / "yolo/labels/a.txt").read_text().splitlines()) == 3
    assert len((tmp_path / "detections.csv").read_text(encoding="utf-8").splitlines()) == 4
    assert len(json.loads((tmp_path / "detections.jsonl").read_text(encoding="utf-8"))["area"]) == 3
    assert set(np.unique(cv2.imread(str(tmp_path / "instances/a.png"), cv2.IMREAD_UNCHANGED))) == {0, 1, 2, 3}
