"""Bundled files are found in a checkout and in an installed package."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import zipfile
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


def test_a_package_in_a_zip_file_has_its_models_and_labels(tmp_path: Path) -> None:
    top = Path(folders.__file__).resolve().parents[2]
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in (top / "cvmask").rglob("*"):
            if path.suffix != ".pyc" and path.is_file() and "bundled" not in path.parts:
                file.write(path, path.relative_to(top))
        for name in folders.BUNDLED:
            found = folders.path(name)
            for path in [found] if found.is_file() else found.iterdir():
                file.write(path, f"cvmask/bundled/{name}" + ("" if found.is_file() else f"/{path.name}"))
    program = "import cvmask, numpy; print(cvmask.__file__, len(cvmask.load('shapes').labels))"
    environment = {**os.environ, "CVMASK_HOME": str(tmp_path / "home"), "PYTHONPATH": str(archive)}
    for _ in range(2):  # the second run finds what the first has unpacked
        command = [sys.executable, "-W", "error", "-c", program]
        said = subprocess.run(command, env=environment, cwd=tmp_path, text=True, capture_output=True, check=True)
        assert said.stdout == f"{archive}/cvmask/__init__.py 8\n"
    assert len(list((tmp_path / "home" / "bundled").glob("*/models/shapes/*.pb"))) == 1


def test_a_zip_file_without_the_models_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("cvmask/__init__.py", "")
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(folders, "__file__", str(archive / "cvmask" / "system" / "folders.py"))
    with pytest.raises(CvmaskError, match=r"models/shapes is missing from .*app\.zip: put the whole package into it"):
        folders.path("models/shapes")
    assert not list((tmp_path / "home").rglob("shapes*"))


def test_a_wheel_and_a_frozen_app_hold_the_same_files() -> None:
    config = configparser.ConfigParser()
    config.read(Path(folders.__file__).resolve().parents[2] / "setup.cfg")
    named = config["options.package_data"]["cvmask.bundled"].replace("/*", "").split()
    assert sorted(named) == sorted(folders.BUNDLED)
