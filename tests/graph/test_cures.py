"""What a message says to do is done, and then it works."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from graph_builder import Builder, Func, Type, own_model

import cvmask
from cvmask.cli.main import main
from cvmask.errors import ModelError
from cvmask.graph.check import inspect, label_problems
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import parse_graph, read_graph
from cvmask.graph.model_files import ModelFiles
from cvmask.graph.nodes import FLOAT, Attr, Tensor
from cvmask.models.labels import read_names
from cvmask.system import folders

FOLDER = folders.path("models/shapes")
GRAPH, TEXT = FOLDER / "frozen_inference_graph.pb", FOLDER / "graph.pbtxt"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "home"))


def refused(match, *args, **kwargs):
    with pytest.raises(ModelError, match=match):
        cvmask.load(*args, **kwargs)


def test_a_text_graph_of_another_model_is_left_out(tmp_path):
    shutil.copy(GRAPH, tmp_path / "frozen_inference_graph.pb")
    other = tmp_path / "graph.pbtxt"
    other.write_text(TEXT.read_text().replace("SecondStage", "ThirdStage"))
    refused("of another model than .*; leave it out", tmp_path)
    other.unlink()
    assert len(cvmask.load(tmp_path).labels) == 8


def test_a_text_graph_is_not_to_be_left_out_where_none_can_be_made(tmp_path):
    b = Builder()
    b.const("a", 1.0, "float32")
    (tmp_path / "constants.pb").write_bytes(b.bytes())
    report = inspect(ModelFiles(tmp_path / "constants.pb", TEXT))
    assert report.problems[0].endswith("; find the one made for it")


def test_swapped_files_are_exchanged(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copy(TEXT, one)
    shutil.copy(GRAPH, two)
    assert "; exchange them" in inspect(ModelFiles(one, two)).problems[0]
    assert inspect(ModelFiles(two, one)).problems == ()


def test_a_text_graph_given_as_the_model_is_given_as_its_graph():
    refused("give the .pb as the model, and this file as its graph", TEXT)
    assert len(cvmask.load(GRAPH, graph=TEXT).labels) == 8


def test_a_text_graph_that_is_none_is_left_out(tmp_path):
    shutil.copy(GRAPH, tmp_path)
    (tmp_path / "graph.pbtxt").write_text("garbage")
    refused("graph.pbtxt: no text graph: leave it out", tmp_path)


def test_one_of_several_graphs_is_named(tmp_path):
    for name in ("a.pb", "b.pb"):
        shutil.copy(GRAPH, tmp_path / name)
    refused("Give one of: a.pb, b.pb", tmp_path)
    assert len(cvmask.load(tmp_path / "a.pb").labels) == 8


def test_the_background_is_taken_out_of_the_labels():
    names = [f"thing {i}" for i in range(8)]
    refused("take the background out", "shapes", labels=["background", *names])
    assert cvmask.load("shapes", labels=names).labels == tuple(names)


def test_labels_without_the_gaps_of_coco_are_exchanged_for_those_with_them():
    problem = label_problems(80, 90)[0]
    path = problem.partition("give ")[2].partition(",")[0]
    assert len(read_names(path)) == 90


def test_a_truncated_graph_is_copied_again(tmp_path):
    path = tmp_path / "model.pb"
    for keep in (0, 70_000):
        path.write_bytes(GRAPH.read_bytes()[:keep])
        refused("download or copy it again", path)
    shutil.copy(GRAPH, path)
    assert len(cvmask.load(path).labels) == 8


def test_loops_without_their_bodies_are_named_those_of_1_convert():
    b = Builder()
    image = b.node("Placeholder", "image_tensor", dtype=Type(4))
    b.node("StatelessWhile", "Preprocessor/map/while", image, body=Func("gone"))
    with pytest.raises(ModelError, match=r"map/while: a StatelessWhile whose body 'gone'.*disable_v2_behavior\(\)"):
        parse_graph(b.bytes())
    assert len(convert(parse_graph(own_model("tiny_resnet101").read_bytes()))) > 100  # with loops of TensorFlow 1


def test_cases_of_tensorflow_2_are_named():
    b = Builder()
    case = b.node("Case", "Preprocessor/case", b.node("Placeholder", "image_tensor", dtype=Type(4)))
    for crop in ("CropAndResize", "CropAndResize_1"):
        case = b.node("CropAndResize", crop, case, case, case, case)
    for name in ("detection_boxes", "detection_masks"):
        b.node("Identity", name, case)
    with pytest.raises(ModelError, match=r"Preprocessor/case is a Case.*disable_v2_behavior\(\)"):
        convert(parse_graph(b.bytes()))


def test_encoded_pictures_as_input_are_named():
    b = Builder()
    image = b.node("Placeholder", "encoded_image_string_tensor", dtype=Type(7))
    first = b.node("CropAndResize", "CropAndResize", image, image, image, image)
    second = b.node("CropAndResize", "CropAndResize_1", image, first, image, image)
    for name in ("detection_boxes", "detection_masks"):
        b.node("Identity", name, second)
    with pytest.raises(ModelError, match="export it with --input_type image_tensor"):
        convert(parse_graph(b.bytes()))


def test_pictures_padded_to_one_size_are_named():
    graph = parse_graph(own_model("tiny_resnet101").read_bytes())
    pad = next(node for node in graph if node.op == "Pad")
    pad.inputs[1] = pad.inputs[0]  # what it adds depends on the picture
    with pytest.raises(ModelError, match="export with pad_to_max_dimension: false"):
        convert(graph)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_named(tmp_path, capsys, value):
    weights = "FirstStageFeatureExtractor/Shapes/stem_1/weights"
    content = bytes(read_graph(GRAPH)[weights].get("value", "tensor").content)
    odd = np.full(100, value, "<f4").tobytes() + content[400:]
    (tmp_path / GRAPH.name).write_bytes(GRAPH.read_bytes().replace(content, odd))
    refused(f"100 of 648 weights of {weights} are no numbers", tmp_path)
    shutil.copy(TEXT, tmp_path)  # with a text graph of its own too
    refused(f"100 of 648 weights of {weights} are no numbers", tmp_path)
    assert main(["models", "inspect", str(tmp_path)]) == 1
    assert "are no numbers" in capsys.readouterr().out


def with_node(name, op="", weights=None, inputs=None):
    """tiny_plain with one node changed."""
    graph = parse_graph(own_model("tiny_plain").read_bytes())
    node = graph[name]
    node.op, node.inputs = op or node.op, inputs or node.inputs
    if weights is not None:
        tensor = Tensor(FLOAT, weights.shape, weights.astype("<f4").tobytes(), ())
        node.attrs = {**node.attrs, "value": Attr("tensor", tensor)}
    return graph


def test_pictures_without_colours_are_named():
    name = "FirstStageFeatureExtractor/shapes/conv1/weights"
    graph = parse_graph(own_model("tiny_plain").read_bytes())
    weights = graph[name].array()[:, :, :1]
    with pytest.raises(ModelError, match="reads 1 channels, needed 3; export without convert_to_grayscale"):
        convert(with_node(name, weights=weights))


def test_resizers_of_no_known_rule_are_named():
    graph = parse_graph(own_model("tiny_plain").read_bytes())
    node = next(node for node in graph if node.op == "ResizeBilinear")
    with pytest.raises(ModelError, match="resizes with ScaleAndTranslate; export with a keep_aspect_ratio_resizer"):
        convert(with_node(node.name, "ScaleAndTranslate"))
