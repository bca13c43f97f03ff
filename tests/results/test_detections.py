"""Detections are checked at birth, filter like an array, and survive every bridge."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from typing import Any

import numpy as np
import pytest
from conftest import random_detections

from cvmask.errors import CvmaskError
from cvmask.results.detections import Detections

FIELDS: dict[str, Any] = {
    "xyxy": np.zeros((2, 4), np.float32),
    "confidence": np.zeros(2, np.float32),
    "class_id": np.zeros(2, np.int32),
    "soft_masks": np.zeros((2, 15, 15), np.float32),
    "frame_size": (6, 8),
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("xyxy", np.zeros((2, 4)), r"xyxy must be float32 of shape \(2, 4\), got float64: use xyxy.astype"),
        ("xyxy", np.zeros((2, 5), np.float32), r"xyxy must be .* got shape \(2, 5\)"),
        ("xyxy", np.full((2, 4), np.nan, np.float32), "xyxy must be finite pixels"),
        ("confidence", np.zeros(3, np.float32), r"confidence .* of shape \(2\), got shape \(3,\)"),
        ("class_id", np.zeros(2, np.int64), "class_id must be int32 .* got int64"),
        ("soft_masks", np.zeros((2, 15), np.float32), r"soft_masks .* \(2, any, any\), got shape \(2, 15\)"),
        ("soft_masks", np.zeros((2, 0, 15), np.float32), "at least one value"),
        ("soft_masks", np.full((2, 3, 3), 255, np.float32), "0 and 1, got 255.0 to 255.0"),
        ("soft_masks", np.full((2, 3, 3), np.nan, np.float32), "between 0 and 1, got nan"),
        ("tracker_id", np.zeros(1, np.int32), "tracker_id"),
        ("frame_size", (0, 8), r"frame_size must be \(height, width\) of at least 1 pixel, got \(0, 8\)"),
    ],
)
def test_birth_names_the_field_the_need_and_what_came(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detections(**{**FIELDS, name: value})


def test_birth_refuses_a_list() -> None:
    with pytest.raises(TypeError, match=r"confidence must be float32 of shape \(2\), got list"):
        Detections(**{**FIELDS, "confidence": [0.5, 0.5]})


def test_fields_cannot_be_replaced_in_place(two: Detections) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        two.confidence = np.zeros(3, np.float32)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("index", "classes"),
    [
        (0, [2]),
        (-1, [0]),
        (np.int64(1), [0]),
        (slice(None, None, -1), [0, 2]),
        (np.array([False, True]), [0]),
        ([True, True], [2, 0]),
        (np.array([1, 1, 0]), [0, 0, 2]),
        (np.array([1], np.uint8), [0]),
        ([], []),
        (slice(5, 9), []),
    ],
)
def test_indexing_gives_detections(two: Detections, index: Any, classes: list[int]) -> None:
    chosen = two[index]
    assert chosen.class_id.tolist() == classes
    assert len(chosen) == len(chosen.xyxy) == len(chosen.soft_masks) == len(classes)
    assert chosen.frame_size == (6, 8)


def test_indexing_takes_the_tracker_ids_along(two: Detections) -> None:
    tracked = dataclasses.replace(two, tracker_id=np.array([7, 9], np.int32))
    assert tracked[1].tracker_id is not None
    assert tracked[1].tracker_id.tolist() == [9]


@pytest.mark.parametrize(
    ("index", "error"),
    [
        (2, IndexError), (-3, IndexError), (np.array([5]), IndexError), ([True], IndexError),
        (0.5, TypeError), ("a", TypeError), (np.array([[0]]), TypeError), (True, TypeError),
    ],
)  # fmt: skip
def test_indexing_refuses_anything_else(two: Detections, index: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        two[index]


def test_filtering_by_an_expression(two: Detections) -> None:
    assert two[two.confidence > 0.7] == two[0]


def test_iteration_gives_one_object_at_a_time(two: Detections) -> None:
    assert [(len(one.row), one.class_id) for one in two] == [(1, 2), (1, 0)]
    named = dataclasses.replace(two, labels=["star", "ring"], tracker_id=np.array([7, 8], np.int32))
    for number, one in enumerate(named):
        left, top, right, bottom = one.xyxy
        assert [left, top, right, bottom] == two.xyxy[number].tolist()
        assert (one.label, one.tracker_id) == [("star", 7), ("ring", 8)][number]
        assert f"{one.confidence:.2f}" == f"{two.confidence[number]:.2f}"
        assert int(one.class_id) == two.class_id[number]
        assert (one.mask() == two.masks()[number]).all()
        assert one.area() == one.mask().sum() == one.box_mask().mask.sum()
        assert len(one.polygons()) >= 1
        assert str(one) == f"{one.label} #{one.tracker_id} {one.confidence:.2f}"
        assert repr(one).startswith(f"<Detection: {one} at (")


def test_an_object_without_a_name_is_called_by_its_class(two: Detections) -> None:
    assert [(one.label, one.tracker_id) for one in two] == [("class 2", None), ("class 0", None)]


def test_labels_go_with_filters_json_pickles_and_what_is_made(two: Detections) -> None:
    named = dataclasses.replace(two, labels=("a <b>", "dog"))
    assert named[named.labels == "dog"] == two[1:]
    for copy in (pickle.loads(pickle.dumps(named)), Detections.from_dict(json.loads(json.dumps(named.to_dict())))):
        assert copy.labels.tolist() == ["a <b>", "dog"]
    assert named == two, "they are the same objects"
    assert repr(named) == f"<Detections: 2 in {two.frame_size[1]}x{two.frame_size[0]}: 1 a <b>, 1 dog>"
    assert repr(two[:0]) == f"<Detections: 0 in {two.frame_size[1]}x{two.frame_size[0]}>"
    table = named._repr_html_()
    assert "<td>a &lt;b&gt;</td>" in table
    assert table.count("<tr>") == 3
    assert Detections.from_dict(two.to_dict()).labels is None
    assert dataclasses.replace(two[:0], labels=[]).labels.shape == (0,)


def test_a_table_for_pandas(two: Detections) -> None:
    pytest.importorskip("pandas")
    table = dataclasses.replace(two, labels=["cat", "dog"], tracker_id=np.array([4, 9], np.int32)).to_dataframe()
    columns = ["label", "confidence", "class_id", "left", "top", "right", "bottom", "area", "tracker_id"]
    assert list(table.columns) == columns
    assert table["label"].tolist() == ["cat", "dog"]
    assert table[["left", "top", "right", "bottom"]].to_numpy().tolist() == two.xyxy.tolist()
    assert table["area"].tolist() == two.area().tolist()
    assert list(two.to_dataframe().columns) == columns[:-1]


@pytest.mark.parametrize(("labels", "error"), [(["a"], ValueError), ([1, 2], TypeError), ("ab", ValueError)])
def test_labels_are_a_text_for_each(two: Detections, labels: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="labels must be a text for each"):
        dataclasses.replace(two, labels=labels)


def test_equality_is_of_every_value(two: Detections) -> None:
    assert two == dataclasses.replace(two, xyxy=two.xyxy.copy())
    tracked = dataclasses.replace(two, tracker_id=np.array([1, 2], np.int32))
    for other in (
        two[:1],
        dataclasses.replace(two, frame_size=(6, 9)),
        dataclasses.replace(two, confidence=two.confidence - np.float32(1e-7)),
        dataclasses.replace(two, soft_masks=two.soft_masks[:, :2]),
        tracked,
        "something else",
    ):
        assert two != other
    assert tracked != dataclasses.replace(tracked, tracker_id=np.array([1, 3], np.int32))


def test_masks_and_area(two: Detections) -> None:
    assert two.masks().shape == (2, 6, 8)
    assert two.area().tolist() == two.masks().sum(axis=(1, 2)).tolist() == [6, 8]
    assert two.area(threshold=1).tolist() == [0, 0]


def test_empty_works_everywhere() -> None:
    none = Detections.empty((6, 8))
    assert len(none) == 0
    assert none == none[:] == none[[]] == none[none.confidence > 0.5] == Detections.from_dict(none.to_dict())
    assert list(none) == none.polygons() == none.rle() == none.area().tolist() == []
    assert none.masks().shape == (0, 6, 8)
    assert none.to_matterport()["masks"].shape == (6, 8, 0)
    assert none.to_matterport()["rois"].shape == (0, 4)


@pytest.mark.parametrize("tracked", [False, True])
def test_a_dict_through_json_gives_exactly_the_same(tracked: bool) -> None:
    found = random_detections(np.random.default_rng(2), 17, (1080, 1920))
    if tracked:
        found = dataclasses.replace(found, tracker_id=np.arange(17, dtype=np.int32))
    assert Detections.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_from_dict_names_what_is_missing_or_damaged(two: Detections) -> None:
    fields = two.to_dict()
    with pytest.raises(ValueError, match="class_id missing"):
        Detections.from_dict({name: value for name, value in fields.items() if name != "class_id"})
    for damaged in ({}, None, {"shape": [2, 4, 4], "float32_zlib_base64": "AAAA"}):
        with pytest.raises(ValueError, match=r"soft_masks must be what Detections\.to_dict wrote"):
            Detections.from_dict({**fields, "soft_masks": damaged})


def test_the_paste_is_kept_and_older_files_have_that_of_the_tutorials(two: Detections) -> None:
    found = dataclasses.replace(two, mask_paste="tensorflow")
    assert found != two
    assert found[:1].mask_paste == "tensorflow"
    assert Detections.from_dict(found.to_dict()) == found
    assert Detections.from_dict(two.to_dict()) == two
    older = {name: value for name, value in found.to_dict().items() if name != "mask_paste"}
    assert Detections.from_dict(older) == two
    with pytest.raises(ValueError, match="mask_paste must be one of tensorflow, tutorial, got '7'"):
        Detections.from_dict({**found.to_dict(), "mask_paste": 7})


@pytest.mark.parametrize("name", ["class_id", "tracker_id", "frame_size"])
@pytest.mark.parametrize("number", [10**12, 10**30, float("inf"), float("nan"), 1.5, "7"])
def test_from_dict_names_numbers_that_are_no_ids(two: Detections, name: str, number: object) -> None:
    with pytest.raises(ValueError, match=f"{name} must be whole numbers of 32 bits, got .*{number}"):
        Detections.from_dict({**two.to_dict(), name: [number, 2]})


def test_from_dict_takes_whole_numbers_that_were_made_floats(two: Detections) -> None:
    fields = two.to_dict()
    floats = {name: [float(value) for value in fields[name]] for name in ("class_id", "frame_size")}
    assert Detections.from_dict({**fields, **floats}) == two


def test_from_dict_refuses_coordinates_beyond_float32(two: Detections) -> None:
    with pytest.raises(ValueError, match="xyxy must be finite pixels"):
        Detections.from_dict({**two.to_dict(), "xyxy": [[1e300, 1, 2, 3]] * 2})


def test_to_matterport_counts_classes_from_1_and_swaps_the_axes(two: Detections) -> None:
    result = two.to_matterport()
    assert result["rois"].tolist() == [[1, 1, 3, 4], [2, 4, 6, 8]]
    assert result["class_ids"].tolist() == [3, 1]
    assert result["scores"].tolist() == two.confidence.tolist()
    assert result["masks"].dtype == bool
    assert np.array_equal(result["masks"][..., 1], two.masks()[1])


def test_to_supervision_names_the_pip_command(two: Detections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(CvmaskError, match="pip install supervision"):
        two.to_supervision()


def test_to_supervision_is_drawn_by_its_annotators(two: Detections) -> None:
    sv = pytest.importorskip("supervision", reason="needs supervision")
    tracked = dataclasses.replace(two, tracker_id=np.array([4, 5], np.int32))
    for found in (tracked, tracked[:0]):
        theirs = found.to_supervision()
        assert len(theirs) == len(found)
        scene = np.zeros((6, 8, 3), np.uint8)
        annotated = sv.MaskAnnotator(opacity=1).annotate(scene.copy(), theirs)
        assert np.array_equal(annotated.any(axis=2), found.masks().any(axis=0))
    named = tracked.to_supervision(labels=["cup", "fork", "knife"])
    assert named.data["class_name"].tolist() == ["knife", "cup"]


@pytest.mark.parametrize("name", ["frame_size", "xyxy", "confidence", "class_id"])
@pytest.mark.parametrize(
    "bad", [None, float("nan"), [float("nan")] * 4, [None], [[0, 0, float("inf"), 1]], [[5, 5, 1, 1]], "x", -1, {}]
)
def test_from_dict_refuses_what_is_none_not_a_number_or_out_of_range(two: Detections, name: str, bad: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        Detections.from_dict({**two[:1].to_dict(), name: bad})
