"""A model in a folder that may not be written to, loaded by a user whom that binds."""

from __future__ import annotations

import shutil
from pathlib import Path

from unprivileged import run_unprivileged

from cvmask.system import folders

LOAD = """
import cvmask
from cvmask.graph import check
if {again}:
    def convert_with_facts(graph):
        raise AssertionError("the cached text was not used")
    check.convert_with_facts = convert_with_facts
model = cvmask.load({folder!r})
print(len(model.labels), model.resizer)
"""


def test_cached_text_of_a_read_only_model_lies_in_the_cache_folder_and_is_used_again(tmp_path: Path) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    folder.mkdir()
    shutil.copy(folders.path("models/shapes/frozen_inference_graph.pb"), folder)
    folder.chmod(0o555)
    first = run_unprivileged(LOAD.format(again=False, folder=str(folder)), home)
    assert [path.name for path in folder.iterdir()] == ["frozen_inference_graph.pb"]
    (text,) = (home / "graphs").iterdir()
    assert text.name.endswith(".cvmask.pbtxt")
    written = text.stat().st_mtime_ns
    assert run_unprivileged(LOAD.format(again=True, folder=str(folder)), home) == first
    assert first.startswith("8 ")
    assert text.stat().st_mtime_ns == written


def test_a_read_only_model_loads_where_there_is_no_cache_folder_either(tmp_path: Path) -> None:
    folder, home = tmp_path / "model", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    shutil.copy(folders.path("models/shapes/frozen_inference_graph.pb"), folder)
    folder.chmod(0o555)
    home.chmod(0o555)
    assert run_unprivileged(LOAD.format(again=False, folder=str(folder)), home).startswith("8 ")
    assert not list(home.iterdir())
