"""Bundled files are found in a checkout and in an installed package."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmask.errors import CvmaskError
from cvmask.system import folders


def test_path_finds_the_labels_at_the_top_of_the_checkout() -> None:
    assert folders.path("mscoco_labels.names").read_text(encoding="utf-8").startswith("person\n")


def test_path_prefers_the_folder_of_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cvmask" / "bundled" / "models").mkdir(parents=True)
    monkeypatch.setattr(folders, "__file__", str(tmp_path / "cvmask" / "system" / "bundled.py"))
    assert folders.path("models") == (tmp_path / "cvmask" / "bundled" / "models").resolve()


def test_path_names_a_file_that_is_missing() -> None:
    with pytest.raises(CvmaskError, match=r"nothing\.here is missing from this installation"):
        folders.path("nothing.here")
