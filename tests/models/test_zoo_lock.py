from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from cvmask.errors import ModelError
from cvmask.system import files
from cvmask.system.files import locked

HOLD = """
import sys, time
from pathlib import Path
from cvmask.system.files import locked
with locked(Path(sys.argv[1]), on_wait=lambda: None):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(files, "POLL_S", 0.01)


def never():
    raise AssertionError("there was nobody to wait for")


def test_lock_is_free_again_after_the_block_and_after_an_error(tmp_path):
    path = tmp_path / "new" / "a.lock"
    with locked(path, never):
        assert path.exists()
    with pytest.raises(KeyError), locked(path, never):
        raise KeyError
    with locked(path, never):
        pass


def test_lock_waits_and_says_so_once(tmp_path):
    path, waits, inside, waiting = tmp_path / "a.lock", [], [], threading.Event()

    def on_wait():
        waits.append("waiting")
        waiting.set()

    def second():
        with locked(path, on_wait):
            inside.append("second")

    with locked(path, never):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        time.sleep(5 * files.POLL_S)
        inside.append("first")
    thread.join(30)
    assert inside == ["first", "second"]
    assert waits == ["waiting"]


def test_lock_of_a_killed_process_is_free(tmp_path):
    path, waits = tmp_path / "a.lock", []
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InterruptedError), locked(path, lambda: interrupt(waits)):
            pass
        holder.kill()
    assert waits == [1]
    with locked(path, never):
        pass


def interrupt(waits):
    waits.append(1)
    raise InterruptedError


def test_lock_in_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ModelError, match=r"cannot write to .*set CVMASK_HOME"),
        locked(tmp_path / "file" / "a.lock", never),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="flock is the other systems' lock")
def test_lock_on_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch):
    def refuse(handle, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with pytest.raises(ModelError, match=r"does not support file locks .*CVMASK_HOME"), locked(tmp_path / "a", never):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
@pytest.mark.parametrize("plant", ["link", "pipe"])
def test_a_lock_that_others_planted_is_one_line(tmp_path, plant):
    path = tmp_path / "a.lock"
    path.symlink_to(tmp_path / "victim") if plant == "link" else os.mkfifo(path)
    with pytest.raises(ModelError, match=f"needed a file, got a {plant}"), locked(path, never):
        pass
    assert not (tmp_path / "victim").exists()


@pytest.mark.skipif(os.name == "nt", reason="permissions are another thing there")
@pytest.mark.parametrize("umask", [0, 0o277])
def test_the_folders_of_the_cache_are_private_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with locked(tmp_path / "home" / "downloads" / "a.lock", never):
            pass
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "home", tmp_path / "home" / "downloads")] == [0o700] * 2
