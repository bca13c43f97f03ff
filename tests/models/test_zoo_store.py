from __future__ import annotations

from pathlib import Path

import pytest
from zoo_server import clean_home, put_model

from cvmask import models
from cvmask.errors import CvmaskError, ModelError
from cvmask.models.zoo import GRAPH_FILE, get, places
from cvmask.system import folders
from cvmask.system.files import locked


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def shapes(monkeypatch, tmp_path):
    """A bundled model, whether this checkout holds one or not."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / GRAPH_FILE).write_bytes(b"graph")
    monkeypatch.setattr(folders, "path", lambda name: folder)
    return folder


def without_bundle(name):
    raise CvmaskError(f"{name} is missing")


def test_find_gives_the_folder_of_a_model_at_hand(home):
    assert models.find("coco") is None
    folder = put_model(home, "coco")
    assert models.find("coco") == folder


def test_find_ignores_a_folder_without_a_graph(home):
    (home / "models" / "coco").mkdir(parents=True)
    assert models.find("coco") is None


def test_find_makes_nothing(home):
    models.find("coco")
    assert not home.exists()


def test_find_knows_the_bundled_model(shapes):
    assert models.find("shapes") == shapes


def test_find_without_the_bundled_model(monkeypatch):
    monkeypatch.setattr(folders, "path", without_bundle)
    assert models.find("shapes") is None


def test_find_refuses_an_unknown_name(home):
    with pytest.raises(ModelError, match="there is no model 'nope'"):
        models.find("nope")


def test_resolve_gives_the_folder_of_a_known_model(home):
    folder = put_model(home, "coco")
    assert models.resolve("coco") == folder


def test_resolve_says_how_to_get_a_missing_model(home, shapes):
    with pytest.raises(ModelError) as caught:
        models.resolve("coco")
    assert str(caught.value) == (
        "model 'coco' is not installed: run 'cvmask models download coco' (178 MB), "
        "or use '-m people', which is bundled and detects people"
    )


def test_resolve_does_not_promise_a_bundle_that_is_missing(home, monkeypatch):
    monkeypatch.setattr(folders, "path", without_bundle)
    with pytest.raises(ModelError) as caught:
        models.resolve("coco-resnet50")
    assert "people" not in str(caught.value)
    with pytest.raises(ModelError, match="reinstall"):
        models.resolve("shapes")


def test_resolve_takes_a_path_as_it_is(home, tmp_path):
    path = tmp_path / "mine.pb"
    path.write_bytes(b"graph")
    assert models.resolve(str(path)) == path
    assert models.resolve(path) == path
    assert models.resolve(tmp_path) == tmp_path


def test_resolve_prefers_a_name_and_takes_a_path_spelled_as_one(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coco").mkdir()
    assert models.resolve("./coco") == Path("coco")
    assert models.resolve(Path("coco")) == Path("coco")
    with pytest.raises(ModelError, match="is not installed"):
        models.resolve("coco")


def test_resolve_understands_a_tilde(home, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert models.resolve("~/mine") == tmp_path / "mine"


@pytest.mark.parametrize("text", ["models/mine", "/nowhere/x.pb", "mine.pb"])
def test_resolve_says_that_a_path_does_not_exist(home, text):
    with pytest.raises(ModelError, match=r"the model '.*' does not exist \(looked at /"):
        models.resolve(text)


def test_resolve_says_where_a_dead_link_leads(home, tmp_path):
    (tmp_path / "link.pb").symlink_to("/nowhere/x.pb")
    with pytest.raises(ModelError, match=r"is a link to /nowhere/x.pb, which does not exist"):
        models.resolve(tmp_path / "link.pb")


@pytest.mark.parametrize("text", ["cocco", "COCO"])
def test_resolve_suggests_the_nearest_name(home, text):
    with pytest.raises(ModelError, match=f"there is no model and no file '{text}', did you mean 'coco'"):
        models.resolve(text)


@pytest.mark.parametrize("text", ["x" * 5000, "nul\0byte", "~nobody-of-that-name/x.pb"])
def test_resolve_survives_strange_names(home, text):
    with pytest.raises(ModelError):
        models.resolve(text)


def test_resolve_refuses_an_empty_name(home):
    with pytest.raises(ModelError, match="there is no model and no file ''"):
        models.resolve("")


def test_remove_takes_the_model_and_keeps_the_record(home):
    at = places(get("coco"))
    folder = put_model(home, "coco")
    at.record.write_text("{}")
    assert models.remove("coco") == [folder]
    assert models.find("coco") is None
    assert at.record.exists()
    assert [path.name for path in folder.parent.iterdir()] == ["coco.json"]


def test_remove_forgets_when_told(home):
    at = places(get("coco"))
    put_model(home, "coco")
    at.record.write_text("{}")
    assert models.remove("coco", forget=True) == [at.folder, at.record]
    assert list(at.folder.parent.iterdir()) == []


def test_remove_takes_a_download_that_was_broken_off(home):
    at = places(get("coco"))
    at.part.parent.mkdir(parents=True)
    at.part.write_bytes(b"part")
    assert models.remove("coco") == [at.part]
    assert not at.part.exists()


def test_remove_follows_no_link(home, tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / GRAPH_FILE).write_bytes(b"graph")
    at = places(get("coco"))
    at.folder.parent.mkdir(parents=True)
    at.folder.symlink_to(real)
    assert models.find("coco") == at.folder
    models.remove("coco")
    assert (real / GRAPH_FILE).exists()
    assert models.find("coco") is None


def test_remove_waits_for_a_download_that_runs(home):
    put_model(home, "coco")
    lines = []

    def interrupt(line):
        lines.append(line)
        raise InterruptedError

    with locked(places(get("coco")).lock, on_wait=lambda: None), pytest.raises(InterruptedError):
        models.remove("coco", say=interrupt)
    assert lines == ["another process is downloading model 'coco': waiting for it"]
    assert models.find("coco") is not None


def test_remove_of_nothing_is_nothing(home):
    assert models.remove("coco") == []
    assert not home.exists()


def test_remove_refuses_the_bundled_model(shapes, home):
    with pytest.raises(ModelError, match="is bundled"):
        models.remove("shapes")
    assert (shapes / GRAPH_FILE).exists()
