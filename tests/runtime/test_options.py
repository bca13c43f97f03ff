"""Exports that are off by one option of pipeline.config, from a picture to objects, against TensorFlow's rows."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from graph_builder import arrays_of, option

from cvmask.cli.main import main
from cvmask.models.load import load
from cvmask.runtime.decode import limit_rows

FLOOR = 0.02  # TensorFlow's rows were kept above this score
# OpenCV 4 rounds the weights of a bilinear resize to 1/32: some pixels are off by several levels.
EXACT = int(cv2.__version__.split(".")[0]) >= 5
PIXELS, SCORES = (0.02, 1e-3) if EXACT else (1.0, 2e-2)


def rows_of(name, **options):
    """TensorFlow's rows and those found: class, score, left, top, right, bottom in pixels; and the model."""
    folder, path = option(name)
    image, golden = cv2.imread(str(folder / "picture.png")), arrays_of(folder / "tensorflow.npz")
    model = load(path, score_threshold=FLOOR, **options)
    found = model.detect(image)
    height, width = image.shape[:2]
    boxes = golden["boxes"][:, [1, 0, 3, 2]] * (width, height, width, height)
    wanted = np.column_stack([golden["classes"] - 1, golden["scores"], boxes])
    return wanted, np.column_stack([found.class_id, found.confidence, found.xyxy]), model


def without_partner(rows, others):
    """Those rows, away from the floor, that are not among the others."""
    limits = np.array([0.5, SCORES, *[PIXELS] * 4])
    return [row for row in rows if row[1] > FLOOR + SCORES and not (abs(others - row) < limits).all(1).any()]


@pytest.mark.parametrize("name", ["base", "perclass", "cond", "bicubic", "fixed_input"])
def test_an_option_is_honoured_as_tensorflow_does(name, work):
    wanted, found, _ = rows_of(name)
    assert without_partner(wanted, found) == []
    assert without_partner(found, wanted) == []


def test_anchors_with_two_offsets_agree_but_for_one_choice(work):
    """Of two boxes of nearly the same score, suppression keeps the other one after OpenCV 4's rounded resize."""
    wanted, found, _ = rows_of("offset")
    assert len(wanted) == len(found) == 51
    assert len(without_partner(wanted, found)) <= (0 if EXACT else 1)
    assert len(without_partner(found, wanted)) <= (0 if EXACT else 1)


def test_the_limit_of_a_class_is_shown_and_copied(work, capsys):
    _, path = option("perclass")
    model = load(path, score_threshold=0.0)
    image = picture()
    found = model.detect(image)
    assert np.bincount(found.class_id).tolist() == [5, 5, 5, 5]  # 4 classes: none lost to the others
    assert pickle.loads(pickle.dumps(model)).detect(image) == found
    assert model.fingerprint() != load(option("base")[1], score_threshold=0.0).fingerprint()
    assert main(["models", "inspect", str(path)]) == 0
    assert "at most 5 of a class" in capsys.readouterr().out


def test_rows_are_limited_a_class_first_and_then_in_all():
    found = np.zeros((1, 1, 9, 7), np.float32)
    found[0, 0, :7, 1] = [0, 0, 0, 0, 1, 2, 2]
    found[0, 0, :7, 2] = [0.9, 0.8, 0.7, 0.6, 0.3, 0.5, 0.4]
    assert limit_rows(found, 2, 4)[0, 0, :, 2].tolist() == pytest.approx([0.9, 0.8, 0.5, 0.4])
    assert limit_rows(found, 2, 0)[0, 0, :, 1].tolist() == [0, 0, 2, 2, 1]


def test_as_many_objects_as_the_model_was_exported_for(work):
    _, path = option("base")
    assert load(path).settings.max_detections == 100
    places = rb"(?:PadOrClipBoxList/\w+|Minimum_4)/[xyt]"
    total = rb"(BatchMultiClassNonMaxSuppression_1/[a-zA-Z/]*" + places + rb"\x12\x05.{,200}?:\x01)d"
    more, changes = re.subn(total, lambda found: found[1] + b"\x7f", path.read_bytes(), flags=re.DOTALL)
    assert changes > 1
    Path("more.pb").write_bytes(more)  # of 127 detections, 100 of a class as before
    model = load("more.pb", score_threshold=0.0)
    assert (model.settings.max_detections, model.detect(picture()).class_id.size) == (127, 127)
    assert load("more.pb", max_detections=7).settings.max_detections == 7


def picture():
    return cv2.imread(str(option("base")[0] / "picture.png"))
