"""What a batch reads and writes, piece by piece, without Ray."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask import scenes
from cvmask.errors import SinkError, SourceError
from cvmask.formats.metadata import NO_METADATA
from cvmask.results.detections import Detections
from cvmask.results.rle import decode
from cvmask.streams.sources import Frame, Video

pa = pytest.importorskip("pyarrow", reason="needs pyarrow: pip install 'ray[data]'")
pq = pytest.importorskip("pyarrow.parquet")

from cvmask.batches import job, listing, work_items  # noqa: E402
from cvmask.batches import table as table_module  # noqa: E402
from cvmask.batches.annotated import write_picture  # noqa: E402
from cvmask.batches.chunks import Chunk, read_chunks  # noqa: E402
from cvmask.batches.storage import read_bytes, storage_path, write_bytes  # noqa: E402
from cvmask.batches.video_segments import cut, read_segment  # noqa: E402
from cvmask.batches.work_items import (  # noqa: E402
    PARQUET,
    PICTURES,
    TAR,
    VIDEO,
    Item,
    VideoSegment,
    WorkItem,
    read_units,
    write_units,
)


def png(seed: int = 0) -> bytes:
    return cv2.imencode(".png", np.random.default_rng(seed).integers(0, 256, (8, 6, 3), np.uint8))[1].tobytes()


def names(sources: list[str]) -> list[str]:
    return [item.name for item in listing.find_items(sources)]


@pytest.fixture
def tree(work: Path) -> Path:
    """Give a folder with something of every kind, at two levels."""
    deep = ("deep/a.jpg", "deep/c.mp4", "deep/.hidden.png")
    for name in ("b.png", "a.JPG", "note.md", *deep, "s.tar", "t.tar.gz", "u.parquet"):
        path = work / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return work / "in"


def test_folder_gives_what_is_known_below_it(tree: Path) -> None:
    items = listing.find_items([str(tree)])
    deep = ["deep/a.jpg", "deep/c.mp4"]
    assert [item.name for item in items] == ["a.JPG", "b.png", *deep, "s.tar", "t.tar.gz", "u.parquet"]
    assert [item.kind for item in items] == [PICTURES, PICTURES, PICTURES, VIDEO, TAR, TAR, PARQUET]
    assert {item.size for item in items} == {1}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.png", ["b.png"]),
        ("in/**/*.[jJ]*", ["a.JPG", "deep/a.jpg"]),
        ("in/[!bt].*", ["a.JPG", "s.tar", "u.parquet"]),
        ("in/?.md", None),
        ("in/not*.md", ["note.md"]),
    ],
)
def test_pattern(tree: Path, pattern: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(SourceError, match="a pattern must match files, found none"):
            names([pattern])
    else:
        assert sorted(names([pattern])) == expected


def test_list_names_files_from_its_own_folder(tree: Path) -> None:
    (tree / "list.txt").write_text(f"# mine\nb.png\n\ndeep/../deep/a.jpg\n{tree}/gone.png\n")
    items = listing.find_items(["in/list.txt"])
    assert [item.place.path for item in items] == [f"{tree}/{name}" for name in ("b.png", "deep/a.jpg", "gone.png")]
    assert {item.size for item in items} == {None}


def test_files_come_once_and_names_differ(tree: Path) -> None:
    (tree / "deep" / "A.jpg").write_bytes(b"x")
    found = listing.find_items(["in/b.png", "in/deep", "in/a.JPG", "in"])
    assert len({item.place for item in found}) == len(found) == 8
    assert len({item.name.casefold() for item in found}) == 8


@pytest.mark.parametrize("source", ["gone.png", "gone/", "gone/*.png"])
def test_missing_source_is_an_error(work: Path, source: str) -> None:
    with pytest.raises(SourceError, match=r"found none|no such file or folder"):
        listing.find_items([source])


def test_passwords_are_not_shown() -> None:
    place = storage_path("s3://key:secret@bucket/deep/a b#1.jpg?region=here&endpoint_override=http://127.0.0.1:9")
    assert place.path == "bucket/deep/a b#1.jpg"
    assert place.shown == "s3://bucket/deep/a b#1.jpg"
    with pytest.raises(SourceError, match=r"^nothing: neither PyArrow nor fsspec can open it") as caught:
        storage_path("strange://user:secret@nothing/x")
    assert "secret" not in str(caught.value)


def test_a_filesystem_of_fsspec(work: Path) -> None:
    pytest.importorskip("fsspec")
    with zipfile.ZipFile("all.zip", "w") as archive:
        archive.writestr("in/a.png", b"abc")
    items = listing.find_items([f"zip://in/*.png::{work}/all.zip"])
    assert [item.name for item in items] == ["a.png"]
    assert items[0].place.shown == f"zip://in/a.png::{work}/all.zip"
    assert read_bytes(items[0].place) == b"abc"


FETCH = """
import sys
from cvmask.batches.video_segments import local_file
from cvmask.batches.storage import storage_path
print(local_file(storage_path(sys.argv[1]), sys.argv[2]))
"""


def test_fetched_file_outlives_other_processes_and_newer_files(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'ray[data]'")
    monkeypatch.setenv("TMPDIR", str(work))
    with zipfile.ZipFile("a.zip", "w") as archive:
        for number in range(7):
            archive.writestr(f"{number}.mp4", b"%d" % number)
    holder = (
        "import time\n" + FETCH + "sys.stdout.flush(); sys.stdin.readline()\n"
        "print(open(local_file(storage_path(sys.argv[1]), sys.argv[2])).read())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    addresses = [f"zip://{number}.mp4::{work}/a.zip" for number in range(7)]
    with subprocess.Popen(
        [sys.executable, "-c", holder, addresses[0], "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment,
    ) as first:  # fmt: skip
        assert first.stdout is not None
        path = Path(first.stdout.readline().strip())
        many = FETCH + "for one in sys.argv[3:]: print(local_file(storage_path(one), sys.argv[2]))\n"
        other = [sys.executable, "-c", many, addresses[0], "run", *addresses[1:]]
        assert len(subprocess.check_output(other, env=environment).split()) == 7
        assert path.read_bytes() == b"0"
        assert sum(file.is_file() for file in path.parent.parent.glob("*.mp4")) == 4
        assert first.communicate("\n")[0] == "0\n"
    assert not list(work.glob("cvmask-batch-*"))


def test_a_process_that_was_killed_leaves_no_fetched_file(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'ray[data]'")
    monkeypatch.setenv("TMPDIR", str(work))
    with zipfile.ZipFile("a.zip", "w") as archive:
        archive.writestr("0.mp4", b"0")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    arguments = [f"zip://0.mp4::{work}/a.zip", "run"]
    killed = FETCH + "sys.stdout.flush(); import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    assert subprocess.run([sys.executable, "-c", killed, *arguments], env=environment).returncode < 0
    assert list(work.glob("cvmask-batch-run/of-*/*.mp4"))
    subprocess.run([sys.executable, "-c", FETCH, *arguments], env=environment, check=True)
    assert not list(work.glob("cvmask-batch-*"))


def test_units_survive_writing(tree: Path) -> None:
    items = listing.find_items(["in"])
    segment = VideoSegment(12, 24, 480.5, None, 0.0)
    units = [WorkItem(0, PICTURES, tuple(items[:3])), WorkItem(1, VIDEO, (items[3],), segment)]
    place = storage_path("units.parquet")
    far = storage_path("s3://key:secret@bucket/a.tar?region=here")
    units.append(WorkItem(2, TAR, (Item(far, "a.tar", TAR, 5),)))
    write_units(place, units)
    assert read_units(place, [far.root, ""]) == units
    assert b"secret" not in Path("units.parquet").read_bytes()


def shard(path: str, pictures: int, cut_off: int = 0) -> WorkItem:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz" if path.endswith("gz") else "w") as tar:
        for number in range(pictures):
            for end, data in ((".png", png(number)), (".json", b"{}")):
                member = tarfile.TarInfo(f"{number:04d}{end}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    data = file.getvalue()[: -cut_off or None]
    Path(path).write_bytes(data)
    return WorkItem(0, TAR, (Item(storage_path(path), path, TAR, len(data)),))


@pytest.mark.parametrize("path", ["a.tar", "a.tar.gz"])
@pytest.mark.parametrize("pictures", [1, 4, 5, 8])
def test_tar_is_read_in_chunks(work: Path, path: str, pictures: int) -> None:
    chunks = list(read_chunks(shard(path, pictures), 4, None, frozenset()))
    assert [chunk.number for chunk in chunks] == list(range((pictures + 3) // 4))
    assert [chunk.last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [chunk.first for chunk in chunks] == list(range(0, pictures, 4))
    assert [one for chunk in chunks for one in chunk.members] == [f"{n:04d}.png" for n in range(pictures)]
    assert [one for chunk in chunks for one in chunk.pictures] == [png(n) for n in range(pictures)]
    assert Chunk.from_table(chunks[0].to_table()) == chunks[0]


def test_finished_chunks_are_not_read_again(work: Path) -> None:
    chunks = list(read_chunks(shard("a.tar", 10), 4, None, frozenset({0, 2})))
    assert [(chunk.number, chunk.first, chunk.last) for chunk in chunks] == [(1, 4, False)]


def test_damaged_shards_say_so_in_their_last_chunk(work: Path) -> None:
    assert "cannot be read to its end" in list(read_chunks(shard("a.tar", 6, 11580), 4, None, frozenset()))[-1].failure
    assert list(read_chunks(shard("b.tar", 0), 4, None, frozenset()))[-1].failure == "holds no picture"
    unit = shard("c.tar", 3)
    Path("c.tar").write_bytes(b"shorter")
    assert "has changed" in list(read_chunks(unit, 4, None, frozenset()))[-1].failure


def parquet(table: dict[str, list[object]]) -> WorkItem:
    pq.write_table(pa.table(table), "a.parquet")
    return WorkItem(0, PARQUET, (Item(storage_path("a.parquet"), "a.parquet", PARQUET, None),))


def test_parquet_columns_of_bytes(work: Path) -> None:
    hugging_face = {"image": [{"bytes": png(1), "path": "x.png"}, {"bytes": None, "path": "y.png"}], "label": [1, 2]}
    chunk = next(read_chunks(parquet(hugging_face), 4, None, frozenset()))
    assert chunk.members == ["x.png", "y.png"]
    assert chunk.pictures == [png(1), None]
    assert chunk.errors == ["", "holds no picture bytes"]
    two = {"left": [png(1)], "right": [png(2)]}
    undecided = next(read_chunks(parquet(two), 4, None, frozenset()))
    assert undecided.failure == "which column holds pictures? Of bytes: left, right"
    assert next(read_chunks(parquet(two), 4, "right", frozenset())).pictures == [png(2)]
    assert "no column 'up'" in next(read_chunks(parquet(two), 4, "up", frozenset())).failure


def test_rows_have_every_frame_and_every_mask(scene: Detections) -> None:
    made = table_module.Rows(("disc", "ring"), None, soft_masks=True)
    made.found(Frame(np.zeros((*scene.frame_size, 3), np.uint8), 0, None, "a.png", ("cut short",)), scene)
    made.found(Frame(np.zeros((*scene.frame_size, 3), np.uint8), 0, None, "b.png"), scene[:0])
    made.failed("c.png", 0, "c.png: is empty (0 bytes)")
    table = pq.read_table(pa.BufferReader(made.to_parquet(first_s=1.5)))
    assert table.schema.equals(table_module.SCHEMA)
    found = table.to_pylist()
    assert [row["object"] for row in found] == [0, 1, 2, 3, None, None]
    assert [row["class_name"] for row in found[:3]] == ["disc", "ring", "class 2"]
    for number, row in enumerate(found[:4]):
        assert [row["x1"], row["y1"], row["x2"], row["y2"]] == scene.xyxy[number].tolist()
        assert np.array_equal(decode({"size": [200, 300], "counts": row["rle"]}), scene.masks()[number])
        assert np.array_equal(np.float32(row["soft_mask"]), scene.soft_masks[number])
        assert row["mask_paste"] == "tutorial"
    assert found[5]["error"] == "is empty (0 bytes)"
    assert made.counts.reasons == {"is empty": 1}
    note = table_module.read_note(pa.BufferReader(made.to_parquet(first_s=1.5)))
    assert table_module.counts_of(note) == made.counts
    assert note["first_s"] == 1.5


def test_finished_parts_need_every_chunk(work: Path) -> None:
    for name in ("000000-0000-last", "000001-0000", "000002-0001-last", "000003-0000", "000003-0001-last"):
        write_bytes(storage_path("out") / "parts" / f"part-{name}.parquet", b"")
    finished = work_items.Finished(storage_path("out"))
    assert work_items.missing(range(5), finished) == [1, 2, 4]
    assert finished.chunks(3) == {0, 1}


def test_parts_of_a_very_long_video_are_in_order(work: Path) -> None:
    for number in (10000, 9999):
        write_bytes(storage_path("out") / "parts" / work_items.part_name(0, number, False), b"")
    names = [place.path.rsplit("/", 1)[-1] for place in work_items.Finished(storage_path("out")).of(0)]
    assert names == ["part-000000-9999.parquet", "part-000000-10000.parquet"]


def test_annotated_picture_too_large_for_its_format_is_a_png(work: Path) -> None:
    for name, width in (("a.jpg", 65_500), ("b.jpg", 66_000), ("c.webp", 17_000)):
        write_picture(storage_path("out") / name, np.zeros((2, width, 3), np.uint8), NO_METADATA)
    assert sorted(os.listdir("out")) == ["a.jpg", "b.jpg.png", "c.webp.png"]
    assert cv2.imread("out/b.jpg.png").shape == (2, 66_000, 3)


def test_one_folder_is_of_one_command(work: Path) -> None:
    out = storage_path("out")
    assert not job.is_begun(out, {"model": "shapes"})
    job.begin(out, {"model": "shapes", "stride": 1})
    assert job.is_begun(out, {"model": "shapes", "stride": 1})
    with pytest.raises(SinkError, match=r"of another command \(stride was 1, is 2\)"):
        job.is_begun(out, {"model": "shapes", "stride": 2})
    Path("other").mkdir()
    Path("other/mine.txt").write_text("keep")
    with pytest.raises(SinkError, match="is not empty and holds no batch"):
        job.is_begun(storage_path("other"), {})


def assert_segments_are_the_video(path: Path, least: int) -> int:
    segments = cut(str(path), least)
    apart = (frame for segment in reversed(segments) for frame in reversed(list(read_segment(str(path), segment))))
    frames = list(Video(path))
    count = 0
    for one, other in zip(reversed(frames), apart):
        assert (one.index, one.time_s) == (other.index, other.time_s)
        assert np.array_equal(one.image, other.image)
        count += 1
    assert count == len(frames) == sum(segment.frames for segment in segments)
    return len(segments)


@pytest.mark.parametrize(("name", "segments"), [("nasa_13013.mp4", 2), ("car-detection.mp4", 7)])
def test_segments_of_real_videos_are_the_video(shared: Path, name: str, segments: int) -> None:
    assert assert_segments_are_the_video(shared / "data" / "video" / name, 50) == segments


@pytest.mark.parametrize("name", ["vfr.mp4", "fps_23976.mp4", "rotate_meta_90.mp4", "odd_321x241_mjpeg.avi"])
def test_segments_of_odd_videos_are_the_video(shared: Path, name: str) -> None:
    assert_segments_are_the_video(shared / "data" / "odd_video" / name, 3)


@pytest.mark.parametrize("name", ["raw.h264", "size_changes_midway.h264", "truncated_faststart.mp4"])
def test_uncertain_videos_are_not_cut(shared: Path, name: str) -> None:
    assert cut(str(shared / "data" / "odd_video" / name), 1) == []


def test_segments_begin_with_whole_pictures(moving: Path) -> None:
    segments = cut(str(moving), 20)
    assert assert_segments_are_the_video(moving, 20) == len(segments) > 2
    assert all(segment.frames >= 20 for segment in segments[:-1])
    strided = [frame.index for segment in segments for frame in read_segment(str(moving), segment, 7)]
    assert strided == list(range(0, 90, 7))


def test_a_video_that_is_not_as_it_was_says_so(moving: Path) -> None:
    last = cut(str(moving), 20)[-1]
    with pytest.raises(SourceError, match="could not be decoded"):
        list(read_segment(str(moving), last._replace(frames=last.frames + 3)))


@pytest.fixture
def moving(work: Path) -> Path:
    """Give a clip of 90 frames in which every 12th needs no other."""
    path = work / "moving.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30000 / 1001, (96, 64))
    for frame in scenes.moving_scene(3, 90, (96, 64), objects=2):
        writer.write(frame.image)
    writer.release()
    return path
