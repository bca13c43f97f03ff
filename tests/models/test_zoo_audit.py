from __future__ import annotations

import hashlib

import pytest
from zoo_server import ARCHIVE, GRAPH, RESNET50, clean_home, put_model, serving

from cvmask import models
from cvmask.errors import ModelError
from cvmask.models import audit, zoo
from cvmask.models.zoo import CONFIG_FILE, GRAPH_FILE, places

NAME = "coco-resnet50"


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def checked(monkeypatch):
    """The paths that were self-checked; the check itself finds what is put into `problems`."""

    class Checked(list):
        problems = ()

    checked = Checked()

    def self_check(path):
        checked.append(path)
        return list(checked.problems)

    monkeypatch.setattr(audit, "self_check", self_check)
    return checked


@pytest.fixture
def downloaded(home, monkeypatch):
    with serving({RESNET50.archive: ARCHIVE}) as server:
        monkeypatch.setenv("CVMASK_MIRROR", server.url)
        return models.download(NAME)


def test_verify_passes_what_was_downloaded(downloaded, checked):
    report = models.verify(NAME)
    assert report.ok
    assert report.folder == downloaded
    assert report.passed[0].startswith(f"{GRAPH_FILE} has the sha256 of 20")
    assert report.passed[1].startswith(f"{CONFIG_FILE} has the sha256 of 20")
    assert checked == [downloaded]


def test_verify_finds_one_changed_byte(downloaded, checked):
    (downloaded / GRAPH_FILE).write_bytes(GRAPH[:-1] + b"x")
    report = models.verify(NAME)
    assert not report.ok
    assert len(report.problems) == 1
    assert hashlib.sha256(GRAPH).hexdigest() in report.problems[0]


def test_verify_finds_a_missing_file(downloaded, checked):
    (downloaded / CONFIG_FILE).unlink()
    assert models.verify(NAME).problems == (f"{CONFIG_FILE} is missing: remove the model and download it again",)


def test_verify_compares_with_the_known_hash_even_without_a_record(home, checked, monkeypatch):
    put_model(home, "coco")
    report = models.verify("coco")
    assert "the known sha1 is c8adff66a1e23e607f57cf1a7cfabad0faa371f9" in report.problems[0]
    known = zoo.KnownModel("coco", "", archive="a", graph_sha1=hashlib.sha1(GRAPH).hexdigest())
    monkeypatch.setitem(zoo._BY_NAME, "coco", known)
    assert models.verify("coco").ok


def test_verify_says_when_nothing_is_known(home, checked):
    put_model(home, NAME)
    report = models.verify(NAME)
    assert report.ok
    assert "no hash is known" in report.passed[0]


def test_verify_reports_a_damaged_record(downloaded, checked):
    places(RESNET50).record.write_text("[]")
    assert "cannot be read" in models.verify(NAME).problems[0]


def test_verify_reports_what_the_self_check_finds(downloaded, checked):
    checked.problems = ("split differs from whole",)
    assert models.verify(NAME).problems == ("split differs from whole",)


def test_verify_takes_a_path(tmp_path, checked):
    report = models.verify(str(tmp_path))
    assert report.ok
    assert checked == [tmp_path]


def test_verify_of_a_missing_model_says_how_to_get_it(home, checked):
    with pytest.raises(ModelError, match="cvmask models download coco"):
        models.verify("coco")
    assert checked == []
