"""The bundled model's files, and what it finds in scenes whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

import cvmask
from cvmask import scenes
from cvmask.graph.check import inspect
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.model_files import model_files
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.system import folders

FOLDER = folders.path("models/shapes")


def test_files_are_at_most_4_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 4_000_000


def test_graph_has_the_inputs_outputs_and_scopes_of_the_api() -> None:
    graph = read_graph(FOLDER / "frozen_inference_graph.pb")
    assert graph["image_tensor"].op == "Placeholder"
    outputs = ("detection_boxes", "detection_scores", "detection_classes", "num_detections", "detection_masks")
    assert all(name in graph for name in outputs)
    tops = {node.name.split("/")[0] for node in graph}
    assert tops >= {
        "Preprocessor",
        "FirstStageFeatureExtractor",
        "FirstStageBoxPredictor",
        "CropAndResize",
        "SecondStageFeatureExtractor",
        "SecondStageBoxPredictor",
        "SecondStagePostprocessor",
    }


def test_config_and_labels_agree_with_the_graph() -> None:
    report = inspect(model_files(FOLDER), len(scenes.LABELS))
    assert (report.problems, report.notes) == ((), ())


def test_text_graph_means_what_convert_makes_of_the_graph() -> None:
    kept = {node.name: node for node in read_text(FOLDER / "graph.pbtxt")}
    text = print_text(convert(read_graph(FOLDER / "frozen_inference_graph.pb")))
    made = {node.name: node for node in parse_text(text)}
    assert kept.keys() == made.keys()
    for name, node in made.items():
        assert (kept[name].op, kept[name].inputs) == (node.op, node.inputs)
        assert kept[name].attrs == node.attrs, name


# In larger scenes the smallest objects are below what the model is made for once the picture is resized, and
# crop_and_resize, which maps 0..1 to the corner cells of the feature map, moves boxes by a pixel or two more
# or less than at 320x320, where the model was trained.
@pytest.mark.parametrize(
    ("size_wh", "share", "overlap", "shift"),
    [((320, 320), 0.85, 0.8, 1.5), ((640, 480), 0.7, 0.7, 4.5), ((427, 333), 0.7, 0.7, 3.5)],
)
def test_boxes_and_masks_lie_where_the_objects_are(
    size_wh: tuple[int, int], share: float, overlap: float, shift: float
) -> None:
    """Most are found, and there is no shift of a stride, such as a wrong padding makes."""
    model = cvmask.load("shapes")
    offsets, overlaps, objects = [], [], 0
    for seed in range(12):
        scene = scenes.make_scene(seed, size_wh)
        found = model.detect(scene.image)
        masks = found.masks()
        objects += len(scene.class_id)
        for mask, box, class_id in zip(scene.masks, scene.xyxy, scene.class_id):
            same = np.flatnonzero(found.class_id == class_id)
            shared = np.array([(mask & masks[i]).sum() / (mask | masks[i]).sum() for i in same])
            if shared.size and shared.max() > 0.5:
                offsets.append(found.xyxy[same[shared.argmax()]] - box)
                overlaps.append(shared.max())
    assert len(overlaps) >= share * objects
    assert np.median(overlaps) > overlap
    assert np.abs(np.median(offsets, axis=0)).max() < shift
