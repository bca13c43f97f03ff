"""Records have safe names, and every format keeps its promise of whole files in constant memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS, write_all
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.formats.coco import CocoWriter
from cvmask.formats.lines import CsvWriter, JsonlWriter
from cvmask.formats.record import FileForEach, Record, Writer
from cvmask.formats.saver import FORMATS, SaveSettings
from cvmask.formats.yolo import YoloWriter
from cvmask.results.detections import Detections


def every_writer(folder: Path) -> list[Writer]:
    return [make(SaveSettings(folder, LABELS)) for make in FORMATS.values()]


@pytest.mark.parametrize(
    ("name", "index", "key"),
    [
        ("street.jpg", None, "street"),
        ("day2/a.b.png", None, "day2/a.b"),
        ("clip.mp4", 17, "clip_000017"),
        ("../../etc/passwd", None, "etc/passwd"),
        ("/abs/olute.jpg", None, "abs/olute"),
        ("rtsp://host:554/live?x=1", 3, "rtsp_/host_554/live_x=1_000003"),
        ("192.168.1.10_live", None, "192.168.1.10_live"),
        ("192.168.1.10", 3, "192.168.1.10_000003"),
        ("", None, "frame"),
    ],
)
def test_record_key_is_a_file_name_below_the_folder(name: str, index: int | None, key: str) -> None:
    assert Record(name, Detections.empty((1, 1)), index).key == key


def test_two_pictures_with_the_same_place_are_refused(tmp_path: Path) -> None:
    files = FileForEach(tmp_path)
    nothing = Detections.empty((1, 1))
    files.path_for(Record("a.jpg", nothing), ".txt")
    files.path_for(Record("a.jpg", nothing), "_2.txt")
    for name in ("a.png", "A.bmp"):
        with pytest.raises(SinkError, match=f"a.jpg and {name} would both be saved as a: rename one"):
            files.path_for(Record(name, nothing), ".txt")
    files.path_for(Record("a:b.jpg", nothing), ".txt")
    with pytest.raises(SinkError, match=r"a:b\.jpg and a_b\.jpg would both be saved as a_b: rename one"):
        files.path_for(Record("a_b.jpg", nothing), ".txt")


def test_a_picture_that_is_called_as_a_frame_is_refused_in_either_order(tmp_path: Path) -> None:
    nothing = Detections.empty((1, 1))
    picture, frame = Record("clip_000017.png", nothing), Record("clip.mp4", nothing, 3)
    files = FileForEach(tmp_path)
    files.path_for(picture, ".json")
    with pytest.raises(SinkError, match=r"clip_000017\.png and clip\.mp4 would both be saved as clip_ and a number"):
        files.path_for(frame, ".json")
    files = FileForEach(tmp_path)
    files.path_for(frame, ".json")
    with pytest.raises(SinkError, match=r"clip\.mp4 and clip_000017\.png would both be saved as clip_000017: rename"):
        files.path_for(picture, ".json")


def test_names_with_numbers_that_cannot_clash_are_taken(tmp_path: Path) -> None:
    files = FileForEach(tmp_path)
    nothing = Detections.empty((1, 1))
    pictures = [Record(name, nothing) for name in ("frame.png", "frame_000017.png", "frame_000018.png", "clip_17.png")]
    frames = [Record(name, nothing, index) for name in ("clip.mp4", "clip_000017.mp4") for index in (17, 18)]
    assert len({files.path_for(one, ".json") for one in (*pictures, *frames)}) == 8


def test_every_format_writes_pictures_empty_ones_and_frames(
    tmp_path: Path, scene: Detections, picture: NDArray[np.uint8]
) -> None:
    for writer in every_writer(tmp_path):
        write_all(writer, scene, picture)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.stat().st_size for path in files if path.name != "empty.txt")
    assert not [path for path in files if path.suffix == ".part"]
    # coco, polygons; frames; labelme and YOLO twice, with pictures; masks, maps, lines, crops and cutouts
    assert len(files) == 3 + 4 + 8 + 2 * 9 + 11 + 4 + 4 + 4 + 1 + 1 + 11 + 11


def test_a_failed_run_leaves_no_stream_behind(tmp_path: Path, scene: Detections) -> None:
    writers = [
        CocoWriter(tmp_path / "a.json", tmp_path / "b.json", LABELS),
        CsvWriter(tmp_path / "a.csv", LABELS),
        JsonlWriter(tmp_path / "a.jsonl", LABELS),
        YoloWriter(tmp_path, LABELS),
    ]
    for writer in writers:
        with pytest.raises(ZeroDivisionError), writer:  # noqa: PT012
            writer.write(Record("a.jpg", scene))
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["a.txt"]


@pytest.mark.parametrize("kind", ["coco", "csv", "jsonl"])
def test_streams_need_the_same_memory_for_few_and_for_many_frames(
    tmp_path: Path, scene: Detections, kind: str
) -> None:
    def peak(frames: int) -> int:
        writers = {
            "coco": CocoWriter(tmp_path / "a.json", tmp_path / "b.json", LABELS),
            "csv": CsvWriter(tmp_path / "a.csv", LABELS),
            "jsonl": JsonlWriter(tmp_path / "a.jsonl", LABELS),
        }
        tracemalloc.start()
        with writers[kind] as writer:
            for index in range(frames):
                writer.write(Record("clip.mp4", scene[3], frame_index=index, time_s=index / 25))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(5)
    assert peak(120) < 1.1 * peak(30) + 20_000
