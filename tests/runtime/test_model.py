from __future__ import annotations

import pickle
import shutil
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_importer
from graph_builder import option, own_model
from numpy.typing import NDArray

import cvmask
from cvmask import scenes
from cvmask.errors import ModelError
from cvmask.graph import split as split_module
from cvmask.graph.convert import convert
from cvmask.graph.facts import Resizer
from cvmask.graph.graph_def import read_graph
from cvmask.graph.split import split
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.runtime.model import MaskRCNN, ModelSpec, Settings
from cvmask.runtime.net import Net
from cvmask.runtime.pair import Pair
from cvmask.runtime.resize import to_blob
from cvmask.system import folders

FOLDER = folders.path("models/shapes")
NATIVE = Resizer()


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return cvmask.load("shapes")


def binary() -> NDArray[np.uint8]:
    return np.fromfile(FOLDER / "frozen_inference_graph.pb", np.uint8)


def picture(boxes: int) -> NDArray[np.uint8]:
    """A frame in which a low threshold finds many boxes, or one of nothing."""
    if boxes == 0:
        return np.full((320, 320, 3), 127, np.uint8)
    return scenes.make_scene(7, objects=8).image


@needs_importer
@pytest.mark.parametrize("boxes", [0, 1, 5, 100])
def test_split_gives_the_bits_of_the_whole_graph(boxes: int) -> None:
    text = split_module.set_score_floor(read_text(FOLDER / "graph.pbtxt"), 0.0 if boxes else 0.99)
    parts = split(text)
    whole = Net(binary(), print_text(text), [parts.detections, parts.masks], "whole")
    blob = to_blob(picture(boxes), NATIVE)
    rows, masks = whole.forward({parts.image: blob})
    real = rows.reshape(-1, 7)[rows.reshape(-1, 7)[:, 2] > 0]
    assert (len(real) == 0) if boxes == 0 else (len(real) == 100)

    settings = Settings(score_threshold=0.0 if boxes else 0.99, max_detections=max(boxes, 1))
    ours = MaskRCNN(ModelSpec(binary(), text, scenes.LABELS, settings=settings)).detect(picture(boxes))
    assert len(ours) == boxes
    best = np.sort(np.argsort(-real[:, 2], kind="stable")[:boxes])
    assert np.array_equal(ours.class_id, real[best, 1].astype(int))
    assert np.array_equal(ours.confidence, real[best, 2])
    assert np.array_equal(ours.xyxy, real[best, 3:] * np.float32(320))
    assert np.array_equal(ours.soft_masks, masks[best, ours.class_id])


def test_filters_do_not_change_what_is_left(model: MaskRCNN) -> None:
    scene = scenes.make_scene(7, objects=8)
    everything = model.detect(scene.image)
    assert len(everything) >= 4
    wanted = everything.class_id[0]
    some = cvmask.load("shapes", classes=[scenes.LABELS[wanted]]).detect(scene.image)
    assert cvmask.load("shapes", classes=int(wanted)).detect(scene.image) == some
    assert some == everything[everything.class_id == wanted]
    assert cvmask.load("shapes", max_detections=2).detect(scene.image) == everything[:2]


@pytest.mark.parametrize("tile", [None, 160])
def test_one_call_may_have_a_threshold_and_classes_of_its_own(model: MaskRCNN, tile: int | None) -> None:
    frame = scenes.make_scene(3).image
    every = model.detect(frame, tile=tile)
    name = model.labels[every.class_id[0]]
    for some in (model.detect(frame, classes=[name], tile=tile), model(frame, classes=name, tile=tile)):
        assert 0 < len(some) < len(every)
        assert set(some.labels or ()) == {name}
    high = float(np.sort(every.confidence)[-2])
    best = model.detect(frame, score_threshold=high, tile=tile)
    assert 0 < len(best) < len(every)
    assert best.confidence.min() > high
    assert len(model.detect(frame, tile=tile)) == len(every)  # the next call is as before
    with pytest.raises(ValueError, match="there is no class 'dog'"):
        model.detect(frame, classes="dog", tile=tile)
    with pytest.raises(ValueError, match="load it with the lower one"):
        model.detect(frame, score_threshold=0.0, tile=tile)


def test_mask_head_runs_for_what_is_left_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    choices = ({}, {"classes": [2]}, {"max_detections": 1}, {"score_threshold": 0.999})
    models = [cvmask.load("shapes", **options) for options in choices]
    kind = type(models[0]._pair)
    forward = kind.masks

    def counting(self: Any, features: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        counts.append(rows.shape[2])
        return forward(self, features, rows)

    monkeypatch.setattr(kind, "masks", counting)
    lengths = [len(model.detect(scenes.make_scene(7, objects=8).image)) for model in models]
    assert counts == lengths
    assert len(set(lengths)) > 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (7, 5), (3, 4000), (8000, 8000)])
def test_frames_of_any_size_go_through(model: MaskRCNN, shape: tuple[int, int]) -> None:
    found = model.detect(np.zeros((*shape, 3), np.uint8))
    assert found.frame_size == shape


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (np.zeros((4, 4), np.uint8), "COLOR_GRAY2BGR"),
        (np.zeros((4, 4, 4), np.uint8), "COLOR_BGRA2BGR"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_cure(
    model: MaskRCNN, frame: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.detect(frame)  # type: ignore[arg-type]


def test_frame_is_not_changed(model: MaskRCNN) -> None:
    frame = scenes.make_scene(1).image
    before = frame.copy()
    model.detect(frame)
    assert np.array_equal(frame, before)


def test_score_threshold_below_the_floor_of_the_text_graph_takes_effect() -> None:
    frame = scenes.make_scene(7, objects=8).image
    text = split_module.set_score_floor(read_text(FOLDER / "graph.pbtxt"), 0.6)
    high = MaskRCNN(ModelSpec(binary(), text, settings=Settings(0.6))).detect(frame)
    low = cvmask.load("shapes", score_threshold=0.001).detect(frame)
    assert high.confidence.min() > 0.6
    assert low.confidence.min() < 0.02


def test_size_resizes_and_boxes_stay_in_pixels_of_the_frame(model: MaskRCNN) -> None:
    frame = scenes.make_scene(7, objects=4).image
    ours = model.detect(frame)
    larger = model.detect(np.repeat(np.repeat(frame, 2, axis=0), 2, axis=1))
    assert larger.frame_size == (640, 640)
    assert sorted(larger.class_id.tolist()) == sorted(ours.class_id.tolist())
    order, other = np.argsort(ours.xyxy[:, 0]), np.argsort(larger.xyxy[:, 0])
    assert np.abs(larger.xyxy[other] / 2 - ours.xyxy[order]).max() < 4
    assert cvmask.load("shapes", size="200x100").resizer.target_wh((640, 480)) == (200, 100)


def test_one_model_serves_several_threads(model: MaskRCNN) -> None:
    frames = [scenes.make_scene(seed).image for seed in range(6)]
    expected = [model.detect(frame) for frame in frames]
    found: list[list[cvmask.Detections]] = [[] for _ in range(3)]
    workers = [
        threading.Thread(target=lambda into: into.extend(model.detect(f) for f in frames), args=(into,))
        for into in found
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(results == expected for results in found)


def test_clone_has_networks_of_its_own_and_the_same_answers(model: MaskRCNN) -> None:
    frame = scenes.make_scene(3).image
    twin = model.clone()
    assert twin is not model
    assert twin.detect(frame) == model.detect(frame)


def test_clones_and_copies_are_of_the_model_as_it_is_now(model: MaskRCNN) -> None:
    frame = scenes.make_scene(3).image
    mine = model.clone()
    mine.settings = Settings(score_threshold=0.9, max_detections=2)
    mine.resizer = Resizer("fixed", fixed_wh=(160, 128))
    for other in (mine.clone(), pickle.loads(pickle.dumps(mine))):
        assert (other.settings, other.resizer) == (mine.settings, mine.resizer)
        assert len(other.detect(frame)) == len(mine.detect(frame)) == 2
    assert len(model.detect(frame)) > 2


def test_pickled_model_is_the_same_model(model: MaskRCNN) -> None:
    frame = scenes.make_scene(3).image
    copy = pickle.loads(pickle.dumps(model))
    assert copy.detect(frame) == model.detect(frame)
    assert copy.fingerprint() == model.fingerprint()
    assert cvmask.load("shapes", labels=list("abcdefgh")).fingerprint() != model.fingerprint()


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(cvmask.ModelError, match="2 labels for 8 classes"):
        cvmask.load("shapes", labels=["a", "b"])


@needs_importer  # the only one that runs the text graph itself
def test_graph_without_a_mask_head_is_refused_by_what_it_is() -> None:
    nodes = [n for n in read_text(FOLDER / "graph.pbtxt") if n.op != "Sigmoid"]
    crops = [n for n in nodes if n.op == "CropAndResize"]
    text = print_text(n for n in nodes if n is not crops[-1])
    with pytest.raises(cvmask.ModelError, match="Faster R-CNN"):
        MaskRCNN(ModelSpec(binary(), parse_text(text, "mine.pbtxt")))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"score_threshold": 0.0}, "score_threshold 0: this model gives no scores below 0.02; load it with the lower"),
        ({"classes": (8,)}, "there is no class 8: this model has classes 0 to 7"),
    ],
)
def test_settings_that_the_loaded_networks_cannot_serve_are_refused(
    model: MaskRCNN, change: dict[str, Any], error: str
) -> None:
    before = model.settings
    with pytest.raises(ValueError, match=error):
        model.settings = replace(before, **change)
    assert model.settings is before


@pytest.mark.parametrize(
    ("name", "value"), [("classes", ("circle",)), ("max_detections", True), ("score_threshold", "0.5")]
)
def test_settings_of_another_type_are_refused(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=name[:5]):
        replace(Settings(), **{name: value})


def test_more_detections_than_the_text_graph_gives_are_had_by_loading_for_them() -> None:
    frame = scenes.make_scene(7, objects=8).image
    model = cvmask.load("shapes", score_threshold=0.0, max_detections=150, proposals=150)
    assert len(model.detect(frame)) == 150


@pytest.mark.parametrize("most", [2**31, 2**32 + 3, sys.maxsize])
def test_more_detections_than_can_be_counted_are_all_there_are(most: int) -> None:
    frame = scenes.make_scene(7, objects=8).image
    all_of_them = cvmask.load("shapes", score_threshold=0.05, max_detections=1000).detect(frame)
    assert cvmask.load("shapes", score_threshold=0.05, max_detections=most).detect(frame) == all_of_them


@pytest.mark.parametrize(
    ("name", "value"), [("score_threshold", 1.5), ("mask_threshold", -0.1), ("max_detections", 0)]
)
def test_settings_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        replace(Settings(), **{name: value})


def test_empty_text_graph_never_reaches_opencv() -> None:
    with pytest.raises(cvmask.ModelError, match="text graph is empty"):
        Net(binary(), " \n", ["x"], "mine")


@needs_importer
def test_error_of_opencv_becomes_one_line_without_its_source_files() -> None:
    with pytest.raises(cvmask.ModelError, match="cannot run this model") as error:
        Net(binary(), 'node { name: "a" op: "Relu" input: "nowhere" }', ["a"], "mine").forward({})
    assert ".cpp" not in str(error.value)
    assert "\n" not in str(error.value)


def test_a_model_is_cloned_wherever_the_program_has_gone(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FOLDER / "frozen_inference_graph.pb", "model.pb")
    model = cvmask.load("model.pb")
    monkeypatch.chdir("/")
    assert model.clone().fingerprint() == model.fingerprint()


def test_a_model_file_is_let_go_and_must_not_change(tmp_path: Path) -> None:
    path = tmp_path / "model.pb"
    shutil.copy(FOLDER / "frozen_inference_graph.pb", path)
    model = cvmask.load(path)
    copy = pickle.loads(pickle.dumps(model))
    assert model.clone().fingerprint() == copy.fingerprint() == model.fingerprint()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"model.pb: the file has changed since the model was loaded: load it again"):
        model.clone()
    path.unlink()
    assert len(copy.clone().labels) == 8
    with pytest.raises(ModelError, match=r"model.pb: cannot be read"):
        model.clone()


def test_a_model_refuses_attributes_that_would_do_nothing(quick_model: MaskRCNN) -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'classes': use model.settings = dataclasses.replace"):
        quick_model.classes = ["star"]  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no attribute 'colour'$"):
        quick_model.colour = 3  # type: ignore[attr-defined]


@needs_importer
@pytest.mark.parametrize("name", ["base", "tiny_plain", "tiny_resnet101", "deep_resnet50"])
def test_pictures_of_other_sizes_leave_no_trace(name: str) -> None:
    """OpenCV 4.8 to 4.12 keep the paddings of the first size for all later ones, and then are wrong without a word."""
    path = option(name)[1] if name == "base" else own_model(name)
    data, text = np.fromfile(path, np.uint8), convert(read_graph(path))
    used = Pair(data, text, "cpu", name)
    used.warm_up()
    sizes = [(250, 331), (331, 250), (243, 400), (100, 61), (250, 331), (320, 320), (243, 400)]
    for height, width in sizes[:4] if name == "base" else sizes:  # which is of full size
        blob = np.random.default_rng(height).uniform(0, 255, (1, 3, height, width)).astype(np.float32)
        parts = used.parts
        alone = Net(data, parts.detector_text, [parts.detections, parts.features], name).forward({parts.image: blob})
        assert np.abs(used.detect(blob)[1] - alone[1]).max() <= 1e-4 * np.abs(alone[1]).max()
