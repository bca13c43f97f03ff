"""The bundled model of people: its files, TensorFlow's answers, and what it finds in a portrait."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from graph_builder import DATA, arrays_of

import cvmask
from cvmask import scenes
from cvmask.graph.check import inspect
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.model_files import model_files
from cvmask.graph.nodes import Attr, Graph, Node, Tensor
from cvmask.graph.text import parse_text, print_text, read_text
from cvmask.system import folders

FOLDER = folders.path("models/people")
SIZE = 352
INT32 = 3


@pytest.fixture(scope="module")
def model() -> cvmask.MaskRCNN:
    return cvmask.load("people")


def portrait() -> np.ndarray:
    """A woman who fills the frame; the flag beside her and the space shuttle are no persons."""
    image = cv2.imread(str(folders.path("docs/pictures/astronaut.jpg")))
    assert image is not None
    return image


def test_files_are_at_most_12_megabytes_and_agree() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 12_000_000
    report = inspect(model_files(FOLDER), 1)
    assert (report.problems, report.notes) == ((), ())


def test_text_graph_is_what_convert_makes_of_the_graph() -> None:
    kept = {node.name: node for node in read_text(FOLDER / "graph.pbtxt")}
    text = print_text(convert(read_graph(FOLDER / "frozen_inference_graph.pb")))
    assert kept == {node.name: node for node in parse_text(text)}


def test_weights_are_stored_in_half_precision_and_not_spelled_out() -> None:
    sizes = [node.get("value", "tensor").size for node in read_text(FOLDER / "graph.pbtxt") if node.op == "Const"]
    assert max(sizes) < 256


def test_answers_are_those_of_tensorflow() -> None:
    """scripts/dev/people/compare.py wrote them, for the portrait in the model's own size."""
    golden = arrays_of(DATA / "people.npz")
    frame = cv2.resize(portrait(), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    found = cvmask.load("people", score_threshold=0.1).detect(frame)
    assert found.xyxy == pytest.approx(golden["xyxy"], abs=1e-4 * SIZE)
    assert found.confidence == pytest.approx(golden["confidence"], abs=1e-3)
    assert found.soft_masks == pytest.approx(golden["soft_masks"], abs=1e-2)


@pytest.mark.parametrize("size_wh", [(512, 512), (640, 480), (270, 480), (1280, 720)])
def test_a_person_who_fills_the_frame_is_one_detection(model: cvmask.MaskRCNN, size_wh: tuple[int, int]) -> None:
    found = model.detect(cv2.resize(portrait(), size_wh, interpolation=cv2.INTER_AREA))
    assert len(found) == 1
    assert found.confidence[0] > 0.9
    left, top, right, bottom = found.xyxy[0] / np.tile(size_wh, 2)
    assert (left, top, right, bottom) == pytest.approx((0.02, 0.03, 0.73, 1.0), abs=0.06)
    mask = found.masks()[0]
    places = {"face": (0.44, 0.2), "chest": (0.35, 0.75), "flag": (0.05, 0.2), "shuttle": (0.82, 0.3)}
    seen = {name: bool(mask[int(y * size_wh[1]), int(x * size_wh[0])]) for name, (x, y) in places.items()}
    assert seen == {"face": True, "chest": True, "flag": False, "shuttle": False}


def test_drawn_shapes_are_no_persons(model: cvmask.MaskRCNN) -> None:
    assert sum(len(model.detect(scenes.make_scene(seed, (640, 480)).image)) for seed in range(12)) <= 1


@pytest.mark.parametrize("size", [640, "native", "640x480"])
def test_other_sizes_are_refused_in_one_line(size: int | str) -> None:
    with pytest.raises(ValueError, match=r"people is built for pictures of 352x352 .* leave it out"):
        cvmask.load("people", size=size)


def test_its_own_size_may_be_said() -> None:
    assert cvmask.load("people", size="352x352").resizer.target_wh((640, 480)) == (SIZE, SIZE)


def measured(graph: Graph) -> Graph:
    """The graph with the size of each resize in its pyramid taken from the shape of the map that is added."""
    nodes = []
    for node in graph:
        if "/enlarged_" in node.name and node.op == "ResizeBilinear":
            other = node.name.replace("enlarged", "lateral") + "/BiasAdd"
            limits = [("begin", [1]), ("end", [3]), ("strides", [1])]
            nodes.append(Node(f"{node.name}/shape", "Shape", [other]))
            for name, value in limits:
                tensor = Tensor(INT32, (1,), b"", value)
                nodes.append(Node(f"{node.name}/{name}", "Const", [], {"value": Attr("tensor", tensor)}))
            parts = [f"{node.name}/{name}" for name in ("shape", "begin", "end", "strides")]
            nodes.append(Node(f"{node.name}/slice", "StridedSlice", parts))
            node = Node(node.name, node.op, [node.inputs[0], f"{node.name}/slice"], node.attrs)
        nodes.append(node)
    return Graph(nodes, graph.origin)


def test_a_pyramid_whose_sizes_are_measured_is_converted_where_pictures_have_one_size() -> None:
    graph = read_graph(FOLDER / "frozen_inference_graph.pb")
    sizes = [
        node.get("value", "tensor").array().tolist()
        for node in convert(measured(graph))
        if node.op == "Const" and "/enlarged_" in node.name
    ]
    assert sizes == [[23, 23], [45, 45]]
