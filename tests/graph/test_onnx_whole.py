"""The ONNX model with everything inside, run by ONNX Runtime and OpenVINO, held against TensorFlow and cvmask."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from graph_builder import DATA, arrays_of, option, own_model, partners, picture

import cvmask
from cvmask import scenes
from cvmask.graph.facts import Resizer
from cvmask.graph.graph_def import read_graph
from cvmask.graph.onnx import UINT8, Model
from cvmask.graph.onnx_networks import Parts, parts_of
from cvmask.graph.onnx_whole import WHOLE, _resized, onnx_files, whole_network
from cvmask.runtime.resize import to_blob
from cvmask.system import folders

SHAPES = folders.path("models/shapes/frozen_inference_graph.pb")
TINY = ["plain", "resnet101", "inception_resnet", "sigmoid", "combined", "loops", "lowered"]
NAMES = [*(f"tiny_{name}" for name in TINY), "deep_resnet50", "deep_resnet101", "deep_inception_resnet"]


def parts_of_file(path) -> Parts:
    return parts_of(read_graph(path))


def run(data: bytes, image: np.ndarray, program: str = "onnxruntime") -> dict[str, np.ndarray]:
    """The outputs, by name."""
    if program == "openvino":
        core = pytest.importorskip("openvino").Core()
        compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled({compiled.inputs[0].any_name: image})
        return {name: found[output] for output in compiled.outputs for name in output.names}
    session = pytest.importorskip("onnxruntime").InferenceSession(data, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {session.get_inputs()[0].name: image})))


def without_resizer(parts: Parts) -> Parts:
    return replace(parts, facts=replace(parts.facts, resizer=Resizer()))


def rows_of(found: dict[str, np.ndarray]) -> np.ndarray:
    """As cvmask has rows: image id, class, score, left, top, right, bottom."""
    rows = np.zeros((int(found["num_detections"][0]), 7), np.float32)
    rows[:, 1], rows[:, 2] = found["detection_classes"][0] - 1, found["detection_scores"][0]
    rows[:, 3:] = found["detection_boxes"][0][:, [1, 0, 3, 2]]
    return rows


@pytest.mark.parametrize("program", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("name", NAMES)
def test_rows_and_masks_are_those_of_tensorflow(name: str, program: str) -> None:
    golden = arrays_of(DATA / f"{name}.npz")
    data = whole_network(without_resizer(parts_of_file(own_model(name))))
    found = run(data, picture(*golden["size"])[None], program)
    assert (partners(rows_of(found), golden) == np.arange(len(golden["detection_scores"]))).all()
    assert np.abs(found["detection_masks"][0] - golden["detection_masks"]).max() < 1e-3


@pytest.mark.parametrize("program", ["onnxruntime", "openvino"])
def test_pictures_of_other_sizes_are_resized_inside(program: str) -> None:
    """`people` has pictures of one size, `shapes` of a shortest side; what cvmask finds in them is found."""
    portrait = cv2.imread(str(folders.path("docs/pictures/astronaut.jpg")))
    for name, frame in (("people", portrait), ("shapes", scenes.make_scene(3, (320, 240), objects=4).image)):
        parts = parts_of_file(folders.path(f"models/{name}/frozen_inference_graph.pb"))
        found = run(whole_network(parts), np.ascontiguousarray(frame[None, :, :, ::-1]), program)
        rows, ours = rows_of(found), cvmask.load(name, score_threshold=0.5).detect(frame)
        rows = rows[rows[:, 2] > 0.5]
        assert len(ours) > 0
        assert rows[:, 1].tolist() == ours.class_id.tolist()
        # OpenCV 4 rounds the weights of a resize.
        assert np.abs(rows[:, 2] - ours.confidence).max() < (0.02 if cv2.__version__ < "5" else 1e-3)
        sides = np.array([*frame.shape[1::-1]] * 2)
        assert np.abs(rows[:, 3:] * sides - ours.xyxy).max() < (2 if cv2.__version__ < "5" else 0.1)


RESIZERS = [
    *(Resizer("fixed", fixed_wh=(37, 90), sampling=sampling, method=method)
      for sampling in ("legacy", "half_pixel", "align_corners") for method in ("bilinear", "nearest", "bicubic")),
    Resizer("keep_aspect_ratio", 50, 80), Resizer("keep_aspect_ratio", 50, 60), Resizer("keep_aspect_ratio", 333, 0),
    Resizer("at_most", max_dimension=50), Resizer("at_most", max_dimension=500), Resizer("at_least", min_dimension=75),
    Resizer("none"), Resizer("fixed", fixed_wh=(1, 1), sampling="align_corners", method="nearest"),
]  # fmt: skip


@pytest.mark.parametrize("resizer", RESIZERS, ids=str)
@pytest.mark.parametrize("program", ["onnxruntime", "openvino"])
def test_a_picture_is_resized_as_by_cvmask(resizer: Resizer, program: str) -> None:
    image = picture(61, 93)
    model = Model("resize")
    planes = model.add("Transpose", model.input("image", (1, "h", "w", 3), UINT8), perm=[0, 3, 1, 2])
    model.output("blob", _resized(model, model.add("Cast", planes, to=1), resizer), (1, 3, "H", "W"))
    blob = run(model.bytes(), image[None], program)["blob"]
    expected = to_blob(np.ascontiguousarray(image[:, :, ::-1]), resizer)
    assert blob.shape == expected.shape
    # OpenCV 4 rounds weights of a bilinear resize to 1/32; TensorFlow those of a bicubic one to 1/1024.
    limits = {"bilinear": 8 if cv2.__version__ < "5" else 0.04, "bicubic": 0.4, "nearest": 0}
    if program == "openvino" and resizer.sampling == "half_pixel":  # it counts pixels beyond the border
        limits["bicubic"] = 1.5
    assert np.abs(blob - expected).max() <= limits[resizer.method]


def test_areas_are_left_to_the_caller() -> None:
    parts = parts_of_file(SHAPES)
    area = replace(parts, facts=replace(parts.facts, resizer=Resizer("keep_aspect_ratio", 64, 64, method="area")))
    files = onnx_files(area, list("abcdefgh"))
    assert json.loads(files["model.json"])["image"]["resized_inside"] is False
    plain = run(whole_network(without_resizer(parts)), picture(96, 120)[None])
    found = run(files["mask_rcnn.onnx"], picture(96, 120)[None])
    assert all(np.array_equal(plain[key], found[key]) for key in plain)


@pytest.mark.parametrize("program", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("floor", [0.2, 1.0])
def test_the_score_floor_holds_and_nothing_found_is_no_error(floor: float, program: str) -> None:
    parts = without_resizer(parts_of_file(SHAPES))
    second = replace(parts.facts.second_stage, score_threshold=floor)
    parts = replace(parts, facts=replace(parts.facts, second_stage=second))
    found = run(whole_network(parts), scenes.make_scene(3, (160, 128), objects=4).image[None], program)
    count = int(found["num_detections"][0])
    assert (count > 0) == (floor < 1)
    assert (found["detection_scores"] > floor).all()
    assert found["detection_boxes"].shape == (1, count, 4)
    assert found["detection_masks"].shape == (1, count, *parts.facts.mask_size)


@pytest.mark.parametrize("graph", ["shapes", "people", "tiny_lowered"])
def test_the_onnx_package_and_the_description_agree_with_the_files(graph: str) -> None:
    onnx = pytest.importorskip("onnx")
    path = own_model(graph) if graph.startswith("tiny") else folders.path(f"models/{graph}/frozen_inference_graph.pb")
    files = onnx_files(parts_of_file(path), ["a label"])
    told = json.loads(files["model.json"])
    assert told["labels"] == ["a label"]
    assert sorted(files) == sorted(["model.json", *(network["file"] for network in told["networks"].values())])
    assert list(told["networks"]) == ["features", "box_head", "mask_head", WHOLE]
    for network in told["networks"].values():
        message = onnx.load_from_string(files[network["file"]])
        onnx.checker.check_model(message, full_check=True)
        for ports, values in (("inputs", message.graph.input), ("outputs", message.graph.output)):
            assert list(network[ports]) == [value.name for value in values]
            for value, shape in zip(values, network[ports].values()):
                dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
                assert len(dims) == len(shape)
                assert all(a == b for a, b in zip(dims, shape) if isinstance(a, int) and isinstance(b, int))


@pytest.mark.parametrize("name", ["cond", "perclass"])
def test_exports_of_other_options_have_tensorflows_rows(name: str) -> None:
    folder, path = option(name)
    golden = {f"detection_{key}": array for key, array in arrays_of(folder / "tensorflow.npz").items()}
    image = cv2.imread(str(folder / "picture.png"))
    found = run(whole_network(parts_of_file(path)), np.ascontiguousarray(image[None, :, :, ::-1]))
    rows = rows_of(found)
    assert (partners(rows, golden) == np.arange(len(golden["detection_scores"]))).all()
