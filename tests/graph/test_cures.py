"""What a message says to do is done, and then it works."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from graph_builder import Builder, Func, Type, message, own_model

import cvmask
from cvmask import scenes
from cvmask.cli.main import main
from cvmask.errors import ModelError
from cvmask.graph.anatomy import OUTPUTS
from cvmask.graph.check import inspect, label_problems
from cvmask.graph.convert import convert
from cvmask.graph.graph_def import parse_graph, read_graph
from cvmask.graph.model_files import ModelFiles, model_files
from cvmask.graph.nodes import FLOAT, Attr, RefusedError, Tensor
from cvmask.graph.protobuf import fields
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
    refused("another model than .*; leave it out", tmp_path)
    other.unlink()
    assert len(cvmask.load(tmp_path).labels) == 8


def test_a_text_graph_is_not_to_be_left_out_where_none_can_be_made(tmp_path):
    b = Builder()
    b.const("a", 1.0, "float32")
    (tmp_path / "constants.pb").write_bytes(b.bytes())
    report = inspect(ModelFiles(tmp_path / "constants.pb", TEXT))
    assert report.problems[0].endswith("; find the one made for it")


def edited(name_of=lambda name: name, op_of=lambda name, op: op):
    """The bundled graph with other names and ops of its nodes."""

    def moved(text):
        mark, name = ("^", text[1:]) if text[:1] == "^" else ("", text)
        name, colon, output = name.partition(":")
        return f"{mark}{name_of(name)}{colon}{output}"

    def node(body):
        parts = [(number, bytes(value)) for number, _, value, _ in fields(memoryview(body))]
        name = dict(parts)[1].decode()
        return b"".join(
            message(number, moved(value.decode()) if number in (1, 3) else op_of(name, value.decode()))
            if number < 4 else message(number, value)
            for number, value in parts
        )  # fmt: skip

    parts = [(number, bytes(value)) for number, wire, value, _ in fields(memoryview(GRAPH.read_bytes())) if wire == 2]
    return b"".join(message(number, node(body) if number == 1 else body) for number, body in parts)


def test_a_graph_that_was_imported_under_a_scope_is_the_same_model(tmp_path):
    (tmp_path / "frozen_inference_graph.pb").write_bytes(edited(lambda name: f"import/{name}"))
    picture = scenes.make_scene(7, (160, 128), objects=5).image
    found = cvmask.load(tmp_path, size="160x128").detect(picture)
    assert len(found) > 2
    assert found == cvmask.load("shapes", size="160x128").detect(picture)
    assert inspect(ModelFiles(tmp_path / "frozen_inference_graph.pb")).facts.outputs == OUTPUTS


@pytest.mark.parametrize("rename", ["my_{}", "{}_1"])
def test_renamed_outputs_are_said(tmp_path, rename):
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(edited(lambda name: rename.format(name) if name in OUTPUTS else name))
    first = rename.format("detection_boxes")
    refused(f"its outputs are {first}, .*renamed.*as export_inference_graph.py wrote it", path)


WEIGHTS = "FirstStageFeatureExtractor/Shapes/stem_2/weights"


@pytest.mark.parametrize(
    ("node", "op", "cause"),
    [
        ("SecondStageBoxPredictor_1/Conv/Conv2D", "FusedResizeAndPadConv2D", "optimize_for_inference"),
        ("SecondStageBoxPredictor_1/Conv/Conv2D", "FusedPadConv2D", "joins paddings with convolutions"),
        (WEIGHTS, "Dequantize", r"quantize_weights"),
        ("Conv/Conv2D", "QuantizedConv2D", "quantized to 8 bits"),
        ("Conv/Conv2D", "FakeQuantWithMinMaxVars", "graph_rewriter"),
        ("Conv/Conv2D", "_FusedConv2D", "grappler"),
        ("Conv/Conv2D", "TRTEngineOp", "TensorRT"),
    ],
)
def test_what_other_programs_have_done_to_a_graph_is_said_and_first(tmp_path, node, op, cause):
    path = tmp_path / "frozen_inference_graph.pb"
    path.write_bytes(edited(op_of=lambda name, old: op if name == node else old))
    problems = inspect(ModelFiles(path)).problems
    assert len(problems) == 1
    refused(f"{node} is a {op}: .*{cause}.* export it again without$", path)


@pytest.mark.parametrize(
    ("scope", "within", "option"),
    [
        ("CropAndResize", "MatMulCropAndResize/CropAndResize", "use_matmul_crop_and_resize"),
        ("BatchMultiClassNonMaxSuppression", "ClassAgnosticNonMaxSuppression", "use_class_agnostic_nms"),
    ],
)
def test_an_option_that_opencv_has_nothing_for_is_named(tmp_path, scope, within, option):
    path = tmp_path / "frozen_inference_graph.pb"
    data = edited(lambda name: name.replace(scope, within))
    if within.encode() not in data:  # the bundled graph has no such scope
        data = edited(lambda name: f"{within}/{name}" if name not in OUTPUTS and name != "image_tensor" else name)
    path.write_bytes(data)
    refused(rf"\({option}\).*export it again without$", path)


def test_a_frozen_graph_as_text_is_left_out_or_refused(tmp_path, capsys):
    shutil.copy(GRAPH, tmp_path / "frozen_inference_graph.pb")
    dump = tmp_path / "graph.pbtxt"
    body = "".join(
        f'node {{\n  name: "{node.name}"\n  op: "{node.op}"\n' + "".join(f'  input: "{i}"\n' for i in node.inputs)
        + '  experimental_type { type_id: TFT_PRODUCT }\n}\n'
        for node in read_graph(GRAPH)
    )  # fmt: skip
    dump.write_text(body)
    model = cvmask.load(tmp_path)
    assert model.notes == (f"{dump}: a frozen graph as text, not a text graph for OpenCV: it is left out",)
    refused("a frozen graph as text, not a text graph for OpenCV: leave it out", GRAPH, graph=dump)
    refused("a frozen graph as text, not a text graph for OpenCV: leave it out", dump)
    dump.rename(tmp_path / "frozen_inference_graph.pbtxt")
    shutil.copy(TEXT, dump)
    assert model_files(tmp_path).text == dump
    assert main(["models", "inspect", str(tmp_path)]) == 0
    assert "note: " in capsys.readouterr().out


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
    refused(f"100 of 648 weights of {weights} are NaN", tmp_path)
    shutil.copy(TEXT, tmp_path)  # with a text graph of its own too
    refused(f"100 of 648 weights of {weights} are NaN", tmp_path)
    assert main(["models", "inspect", str(tmp_path)]) == 1
    assert "are NaN" in capsys.readouterr().out


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
    with pytest.raises(RefusedError, match="resizes with ScaleAndTranslate; export with a keep_aspect_ratio_resizer"):
        convert(with_node(node.name, "ScaleAndTranslate"))
