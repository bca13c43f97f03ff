from __future__ import annotations

import dataclasses

import pytest

from cvmask import models
from cvmask.errors import ModelError
from cvmask.models.zoo import ORIGIN, PLAIN_ORIGIN, get, is_offline, source_urls, suggestion


def test_names_are_the_documented_five():
    assert models.NAMES == ("people", "shapes", "coco", "coco-resnet50", "coco-resnet101", "coco-inception-resnet")
    assert tuple(model.name for model in models.known()) == models.NAMES


def test_coco_is_bound_to_the_known_hashes():
    coco = get("coco")
    assert coco.archive == "mask_rcnn_inception_v2_coco_2018_01_28.tar.gz"
    assert coco.archive_sha1 == "f8a920756744d0f7ee812b3ec2474979f74ab40c"
    assert coco.graph_sha1 == "c8adff66a1e23e607f57cf1a7cfabad0faa371f9"


def test_folder_prefix_ends_before_the_date():
    assert get("coco-resnet101").folder_prefix == "mask_rcnn_resnet101_atrous_coco"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("COCO", "coco"),
        ("coco-resnet-50", "coco-resnet50"),
        ("shape", "shapes"),
        ("mask_rcnn_inception_v2_coco_2018_01_28.tar.gz", "coco"),
        ("mask_rcnn_resnet101_atrous_coco", "coco-resnet101"),
    ],
)
def test_suggestion_finds_the_nearest(typed, meant):
    assert suggestion(typed) == f", did you mean {meant!r}"


def test_suggestion_is_silent_when_nothing_is_near():
    assert suggestion("yolov8n") == ""


def test_get_unknown_lists_the_known():
    with pytest.raises(
        ModelError, match=r"there is no model 'cocoo', did you mean 'coco': known are people, shapes"
    ):
        get("cocoo")


def test_source_is_the_origin_without_a_mirror(monkeypatch):
    monkeypatch.setenv("CVMASK_MIRROR", " ")
    archive = "mask_rcnn_inception_v2_coco_2018_01_28.tar.gz"
    assert ORIGIN.startswith("https://")
    assert source_urls(get("coco")) == [f"{ORIGIN}/{archive}", f"{PLAIN_ORIGIN}/{archive}"]


def test_without_a_known_hash_nothing_comes_over_plain_http():
    unknown = dataclasses.replace(get("coco"), archive_sha1=None, listed_sha256=None)
    assert [url.partition(":")[0] for url in source_urls(unknown)] == ["https"]


def test_source_is_under_the_mirror(monkeypatch):
    monkeypatch.setenv("CVMASK_MIRROR", "https://host/models/")
    assert source_urls(get("coco")) == ["https://host/models/mask_rcnn_inception_v2_coco_2018_01_28.tar.gz"]


@pytest.mark.parametrize(
    "value", ["host/models", "localhost:8000", "file:///models", "http://", "https:///x"]
)
def test_source_refuses_a_mirror_that_is_no_address(monkeypatch, value):
    monkeypatch.setenv("CVMASK_MIRROR", value)
    with pytest.raises(ModelError, match=r"CVMASK_MIRROR is .*, needed an address"):
        source_urls(get("coco"))


def test_source_does_not_print_a_login(monkeypatch):
    monkeypatch.setenv("CVMASK_MIRROR", "https://me:secret@host/models")
    with pytest.raises(ModelError) as caught:
        source_urls(get("coco"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("value", "offline"), [("1", True), ("yes", True), ("0", False), ("", False)])
def test_offline_follows_the_variable(monkeypatch, value, offline):
    monkeypatch.setenv("CVMASK_OFFLINE", value)
    assert is_offline() is offline
