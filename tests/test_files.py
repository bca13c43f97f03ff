"""A file appears whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

import pytest

from cvmask.errors import SinkError
from cvmask.files import whole_file, whole_path, write_whole


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
