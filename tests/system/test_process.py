from __future__ import annotations

import configparser
import sys

import pytest
from conftest import ROOT

from cvmask.errors import _PACKAGES, SinkError, install
from cvmask.streams.sinks.window import Window
from cvmask.system.process import python_program


@pytest.mark.parametrize("name", ["python3.11", "python", "python3.13t", "pypy3", "PYTHON.EXE", "pythonw.exe"])
def test_python_program_is_the_interpreter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", f"/opt/bin/{name}")
    assert python_program() == f"/opt/bin/{name}"


@pytest.mark.parametrize("name", ["app", "blender", "python-app", "", None, "MyApp.exe"])
def test_python_program_is_none_in_an_app_that_embeds_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", name)
    assert python_program() is None


def test_a_frozen_app_starts_no_copy_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a frozen app was started again")

    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr("subprocess.run", refuse)
    monkeypatch.setenv("DISPLAY", ":77")
    assert python_program() is None
    Window()  # it would have tried the display in another process
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    if sys.platform.startswith("linux"):
        with pytest.raises(SinkError, match="there is no display"):
            Window()


def test_messages_name_the_packages_of_the_extras() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for extra, named in _PACKAGES.items():
        lines = config["options.extras_require"][extra].strip().splitlines()
        wanted = [line.split(">")[0].strip() for line in lines]
        assert named.replace("'", "").split() == wanted
    assert install("ray") == "pip install 'ray[client,data]' pyarrow"
