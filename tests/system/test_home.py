from __future__ import annotations

import os

import pytest

from cvmask.errors import CvmaskError
from cvmask.system.folders import cache_home


def test_cache_home_prefers_its_own_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home() == tmp_path / "own"


def test_cache_home_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.delenv("CVMASK_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_home() == tmp_path / "cvmask"


@pytest.mark.parametrize("value", ["", "relative/cache"])
def test_cache_home_ignores_a_relative_xdg(monkeypatch, tmp_path, value):
    monkeypatch.delenv("CVMASK_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert cache_home() == tmp_path / ".cache" / "cvmask"


def test_cache_home_without_a_home_names_the_cure(monkeypatch):
    monkeypatch.delenv("CVMASK_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    with pytest.raises(CvmaskError, match="set CVMASK_HOME"):
        cache_home()


def test_cache_home_of_no_user_names_the_variable(monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", "~nosuch/models")
    with pytest.raises(CvmaskError, match=r"^CVMASK_HOME=~nosuch/models is not a usable path: set"):
        cache_home()


@pytest.mark.skipif(os.name != "posix", reason="this system keeps a folder that is in use")
def test_cache_home_relative_to_a_folder_that_is_gone_names_the_variable(monkeypatch, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("CVMASK_HOME", "models")
    with pytest.raises(CvmaskError, match=r"^CVMASK_HOME=models is not a usable path"):
        cache_home()
