"""Which files a batch finds, and what it calls their results."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvmask.errors import SourceError

pytest.importorskip("pyarrow", reason="needs PyArrow: pip install 'ray[data]'")

from cvmask.batches.chunks import read_chunks, read_picture
from cvmask.batches.listing import annotated_name, find_items, member_name, plan, with_own_names
from cvmask.batches.storage import LOCAL, StoragePath, files_below, storage_path
from cvmask.batches.work_items import PICTURES, TAR, VIDEO, Item, read_units, write_units


def item(name: str, kind: str = PICTURES) -> Item:
    return Item(StoragePath(LOCAL, f"/{name}"), name, kind, None)


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_a_folder_is_gone_into_once_however_many_links_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "a" / ".hidden").mkdir(parents=True)
    for name in ("a/1.jpg", "2.jpg", ".3.jpg", "a/.hidden/4.jpg"):
        (tmp_path / name).write_bytes(b"12")
    for name, target in (("up", "."), ("a/again", ".."), ("z", "a"), ("gone.jpg", "nowhere"), ("self", "self")):
        os.symlink(target, tmp_path / name)
    found = sorted((os.path.relpath(path, tmp_path), size) for path, size in files_below(str(tmp_path)))
    assert found == [("2.jpg", 2), ("a/1.jpg", 2), ("gone.jpg", None), ("self", None)]
    assert [one.name for one in find_items([tmp_path])] == ["2.jpg", "a/1.jpg", "gone.jpg"]
    with pytest.raises(SourceError, match="cannot be read: it is a link to nowhere, which is not there"):
        read_picture(find_items([tmp_path])[-1].place)


def test_what_is_removed_meanwhile_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1.jpg", "b/2.jpg", "b/3.jpg", "c/4.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12")
    found = []
    for path, _ in files_below(str(tmp_path)):
        found.append(os.path.relpath(path, tmp_path))
        if found == ["a/1.jpg"]:
            (tmp_path / "c/4.jpg").unlink()
            (tmp_path / "c").rmdir()
        if found == ["a/1.jpg", "b/3.jpg"]:
            (tmp_path / "b/2.jpg").unlink()
    assert found == ["a/1.jpg", "b/3.jpg"]
    with pytest.raises(FileNotFoundError):
        list(files_below(str(tmp_path / "c")))


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_not_utf8_is_a_failure_of_its_own(tmp_path: Path) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    (tmp_path / "b.jpg").touch()
    Path(tmp_path / "files.txt").write_bytes(b"b.jpg\ncaf\xe9.jpg\nunheard-of://me:pw@host/c.jpg?key=pw\n")
    for source, count in ((tmp_path, 2), (tmp_path / "files.txt", 3)):
        items = find_items([source])
        assert [Path(one.place.path).name for one in items] == ["b.jpg", "caf\\xe9.jpg", "c.jpg"][:count]
        write_units(storage_path(tmp_path / "units"), plan(items, 9, "run"))
        unit = read_units(storage_path(tmp_path / "units"), [LOCAL])[0]
        errors = next(read_chunks(unit, 9, None, frozenset())).errors
        assert errors[:2] == ["is empty (0 bytes)", "its name, or that of its folder, is not UTF-8: rename it"]
        assert errors[2:] == [] or errors[2].startswith("host: neither PyArrow nor fsspec can open it: ")
    assert items[2].place.shown == "unheard-of://host/c.jpg"
    with pytest.raises(SourceError, match=r"caf\udce9\.jpg: its name, or that of its folder, is not UTF-8: rename it$"):
        find_items(["caf\udce9.jpg"])
    (tmp_path / "b.jpg").rename(tmp_path / "a.jpg")
    for path in tmp_path.glob("caf*"):
        path.rename(path.with_suffix(".txt"))
    assert [one.name for one in find_items([tmp_path])] == ["a.jpg"], "it is none that was asked for"


def test_a_list_may_begin_with_a_mark_of_its_encoding(tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text("a.jpg\n", encoding="utf-8-sig")
    assert [one.name for one in find_items([tmp_path / "files.txt"])] == ["a.jpg"]


def test_no_two_results_are_one_file_or_within_another() -> None:
    pictures = ["a.jpg", "A.jpg", "a~2.jpg", "a", "a.png", "d/a.jpg", "d", "a.jpg/x.jpg", "", "../b.tga"]
    pictures += ["b.tga.png", "w.jpg", "w.jpg.png", "v.jpg.png", "v.jpg"]
    items = [
        *map(item, pictures),
        *(item(name, VIDEO) for name in ("a.avi", "a.avi.mp4", "c.mp4", "c.mp4/c.mov")),
        *(item(name, TAR) for name in ("a.avi.mp4", "s.tar")),
    ]
    named = with_own_names(items)
    paths = [annotated_name(one).casefold() for one in named]
    assert len(set(paths)) == len(paths)
    # What is too large for a JPEG becomes a PNG beside.
    assert not {f"{path}.png" for path in paths} & set(paths)
    assert not any(other.startswith(f"{path}/") for path in paths for other in paths)
    assert [one.name for one in named[:3]] == ["a.jpg", "A~2.jpg", "a~2~2.jpg"]
    assert annotated_name(named[9]) == "b.tga.png"


def test_names_are_cut_to_what_file_systems_take() -> None:
    (long,) = with_own_names([item("d/" + "é" * 300 + ".jpeg")])
    inside = member_name(item("s.tar", TAR), 7, "x/../" + "y" * 400)
    for path in (annotated_name(long), inside):
        assert max(len(part.encode()) for part in path.split("/")) <= 220
    assert long.name.endswith("é.jpeg")
    assert inside.startswith("s.tar/00000007-yyy")
    assert inside.endswith("y.png")


@pytest.mark.parametrize("member", ["../../../x.png", "/x.png", "a/../x.png", "x", "..\\..\\x.png", "C:\\a/x"])
def test_a_picture_of_a_shard_stays_in_its_folder(member: str) -> None:
    assert member_name(item("d/s.tar", TAR), 7, member) == "d/s.tar/00000007-x.png"


def test_a_picture_of_no_name_is_its_number() -> None:
    for member in (None, "", "a/"):
        assert member_name(item("s.parquet", TAR), 7, member) == "s.parquet/00000007.png"
    assert member_name(item("s.tar", TAR), 7, "caf\udce9.jpg") == "s.tar/00000007-caf_.jpg"
    assert member_name(item("s.tar", TAR), 7, "12:30?.jpg") == "s.tar/00000007-12_30_.jpg"
