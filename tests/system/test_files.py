"""A file appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

from cvmask.drawing.palette import read_colors
from cvmask.errors import CvmaskError, SinkError
from cvmask.models.labels import read_labels
from cvmask.system.files import portable_name, read_text, whole_file, whole_path, write_private, write_whole


def test_whole_file_appears_at_the_end_in_folders_it_makes(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.txt"
    with whole_file(path) as file:
        file.write("grün\n")
        assert not path.exists()
    assert path.read_bytes() == "grün\n".encode()
    assert os.listdir(path.parent) == ["out.txt"]


def test_whole_file_leaves_the_old_one_if_the_block_fails(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    with contextlib.suppress(KeyboardInterrupt), whole_file(path) as file:
        file.write("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_whole_file_names_a_place_that_is_a_folder_or_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SinkError, match=r"out cannot be written: "):
        write_whole(tmp_path / "file" / "out", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SinkError, match=r"folder cannot be written: Is a directory"):
        write_whole(tmp_path / "folder", b"")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_whole_file_turns_a_full_disk_into_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(SinkError, match=r"out\.bin cannot be written: No space left"),
        whole_file(tmp_path / "out.bin", "wb"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_whole_path_names_what_cannot_be_written_before_anybody_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(part: Path, exist_ok: bool) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(part))

    monkeypatch.setattr(Path, "touch", refuse)  # who runs the tests may write anywhere
    words = r"out\.mp4 cannot be written: Read-only file system"
    with pytest.raises(SinkError, match=words), whole_path(tmp_path / "out.mp4"):
        pytest.fail("it was let in")


def test_whole_file_lets_errors_of_other_files_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "out"):
        (tmp_path / "absent").read_bytes()


def test_whole_file_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "usual").write_text("")
    write_whole(tmp_path / "out", b"")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_whole_path_keeps_the_ending_because_writers_choose_by_it(tmp_path):
    with whole_path(tmp_path / "clip.mp4") as part:
        assert part.suffix == ".mp4"
        assert part.parent == tmp_path
        part.write_bytes(b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


def write_by(way: str, path: Path) -> None:
    """Write "new", in one of the two ways."""
    if way == "file":
        write_whole(path, b"new")
        return
    with whole_path(path) as part:
        part.write_bytes(b"new")


@pytest.mark.parametrize("way", ["file", "path"])
@pytest.mark.parametrize("older", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path, way: str, older: bool) -> None:
    target, link = tmp_path / "deep" / "real.bin", tmp_path / "link.txt"
    link.symlink_to(target)
    if older:
        target.parent.mkdir()
        target.write_bytes(b"old")
    write_by(way, link)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["deep", "link.txt", "real.bin"]


@pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX")
@pytest.mark.parametrize("way", ["file", "path"])
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
def test_a_file_that_is_replaced_leaves_its_permissions(tmp_path: Path, way: str, mode: int) -> None:
    path = tmp_path / "out.txt"
    path.write_bytes(b"old")
    path.chmod(mode)
    write_by(way, path)
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("way", ["file", "path"])
def test_a_pipe_and_a_device_are_refused_and_stay(tmp_path: Path, way: str) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    (tmp_path / "null.mp4").symlink_to(os.devnull)
    for name in ("pipe.mp4", "link.mp4", "null.mp4"):
        with pytest.raises(SinkError, match=f"{name} is a pipe or a device"):
            write_by(way, tmp_path / name)
    assert stat.S_ISFIFO((tmp_path / "pipe.mp4").stat().st_mode)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert sorted(os.listdir(tmp_path)) == ["link.mp4", "null.mp4", "pipe.mp4"]


@pytest.mark.parametrize(("text", "name"), [
    ("scene.png", "scene.png"),
    ("12:30 <a>|b?.png", "12_30 _a__b_.png"),
    ("a/b\\c", "a_b_c"),
    ("line\nend\t\x1b[31m", "line_end__[31m"),
    ("ends. .", "ends___"),
    ("..", "__"),
    ("", "_"),
    ("CON", "_CON"),
    ("nul.tar.png", "_nul.tar.png"),
    ("com1 .png", "_com1 .png"),
    ("console.png", "console.png"),
    ("caf\udce9.jpg", "caf_.jpg"),
])  # fmt: skip
def test_portable_name_is_a_name_on_every_system(text: str, name: str) -> None:
    assert portable_name(text) == name


def test_portable_name_cuts_before_the_ending() -> None:
    name = portable_name("é" * 300 + ".jpeg", longest=200)
    assert name.endswith("é.jpeg")
    assert len(name.encode()) in (199, 200)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("read", [read_text, read_colors, read_labels])
def test_text_is_read_from_no_pipe_or_device(tmp_path, read):
    """A pipe hung for ever, /dev/zero took all memory: labels and colours, in `predict` and in `render`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for place, kind in ((pipe, "a pipe"), ("/dev/zero", "a device or socket"), (tmp_path, "a folder")):
        with pytest.raises(CvmaskError, match=f"needed a file, got {kind}"):
            read(place)


def test_text_is_bounded(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CvmaskError, match="at most 17 MB, got a larger file"):
        read_text(tmp_path / "large")


def test_labels_are_split_at_newlines_only(tmp_path):
    path = tmp_path / "names"
    path.write_bytes("a\x0bb\nc\u2028d\r\ne\x85f\rg\x1eh".encode())
    assert read_labels(path) == ["a\x0bb", "c\u2028d", "e\x85f", "g\x1eh"]


def test_a_private_file_replaces_a_link(tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_private(tmp_path / "a", b"new")
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "victim").read_bytes()) == (b"new", b"mine")
    assert not (tmp_path / "a").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2
