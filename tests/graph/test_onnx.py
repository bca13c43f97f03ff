"""The ONNX networks made from frozen graphs: judged by the onnx package, run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from graph_builder import own_model, picture

from cvmask.errors import ModelError
from cvmask.graph.graph_def import parse_graph, read_graph
from cvmask.graph.nodes import Attr, Graph, Node
from cvmask.graph.onnx import FLOAT, INT64, Model
from cvmask.graph.onnx_networks import box_head_network, crop_and_resize, features_network, mask_head_network, parts_of
from cvmask.graph.protobuf import fields
from cvmask.system import folders

PEOPLE = folders.path("models/people/frozen_inference_graph.pb")
SHAPES = folders.path("models/shapes/frozen_inference_graph.pb")
SIZES = [(96, 120), (97, 131), (33, 34)]  # each layer with a stride has other paddings


def run(data: bytes, **inputs: np.ndarray) -> list[np.ndarray]:
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, inputs)


def blob_of(size: tuple[int, int]) -> np.ndarray:
    return np.ascontiguousarray(picture(*size)[None].transpose(0, 3, 1, 2), np.float32)


def test_bytes_are_those_that_the_onnx_package_writes():
    onnx = pytest.importorskip("onnx")
    model = Model("small")
    x = model.input("x", (1, "n"))
    weights = model.constant(np.arange(40, dtype=np.float32).reshape(2, 20), "weights")
    y = model.add("Gemm", x, weights, alpha=0.5, transA=1)
    y = model.add("Resize", y, "", "", model.ints(-1, 300), mode="nearest")
    y = model.add("MaxPool", y, kernel_shape=[3, 4], pads=[])
    model.output("y", y, ("m", 4))
    message = onnx.load_from_string(model.bytes())
    assert message.SerializeToString() == model.bytes()
    assert onnx.numpy_helper.to_array(message.graph.initializer[0]).tolist() == np.arange(40).reshape(2, 20).tolist()
    gemm, resize, pool, _ = message.graph.node
    assert [onnx.helper.get_attribute_value(a) for a in gemm.attribute] == [0.5, 1]
    assert list(resize.input) == ["gemm", "", "", "constant"]
    assert [onnx.helper.get_attribute_value(a) for a in pool.attribute] == [[3, 4], []]
    assert [d.dim_param or d.dim_value for d in message.graph.output[0].type.tensor_type.shape.dim] == ["m", 4]


def test_numbers_of_other_types_and_equal_names():
    model = Model("m")
    assert model.add("Relu", "x") != model.add("Relu", "x")
    assert model.constant(np.float32(1)) == model.constant(np.float32(1)) != model.constant(np.int64(1))
    tensors = [value for number, _, graph, _ in fields(memoryview(model.bytes())) if number == 7
               for number, _, value, _ in fields(graph) if number == 5]  # fmt: skip
    kinds = [value for tensor in tensors for number, _, value, _ in fields(tensor) if number == 2]
    assert kinds == [FLOAT, INT64]


@pytest.mark.parametrize("graph", [PEOPLE, SHAPES, "tiny_inception_resnet", "deep_resnet101"], ids=str)
def test_onnx_checker_finds_nothing(graph):
    onnx = pytest.importorskip("onnx")
    parts = parts_of(read_graph(own_model(graph) if isinstance(graph, str) else graph))
    size = parts.facts.resizer.fixed_wh[::-1] if graph == PEOPLE else None
    for data in (features_network(parts, size), box_head_network(parts), mask_head_network(parts)):
        onnx.checker.check_model(onnx.load_from_string(data), full_check=True)


@pytest.mark.parametrize("name", ["tiny_plain", "tiny_resnet101", "tiny_inception_resnet", "deep_resnet50"])
def test_paddings_at_run_time_are_those_in_numbers(name):
    parts = parts_of(read_graph(own_model(name)))
    for size in SIZES:
        fixed, free = (run(features_network(parts, given), image=blob_of(size)) for given in (size, None))
        assert all(np.array_equal(one, other) for one, other in zip(fixed, free))


def crops(features: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """CropAndResize as TensorFlow's kernel does it, sample by sample, in 32-bit floats."""
    _, channels, height, width = features.shape
    out = np.zeros((len(boxes), channels, *size), np.float32)

    def samples(low: np.float32, high: np.float32, count: int, cells: int) -> list[np.float32]:
        last = np.float32(cells - 1)
        if count == 1:
            return [np.float32(0.5) * (low + high) * last]
        step = (high - low) * last / np.float32(count - 1)
        return [low * last + np.float32(i) * step for i in range(count)]

    for number, (top, left, bottom, right) in enumerate(boxes):
        for i, y in enumerate(samples(top, bottom, size[0], height)):
            for j, x in enumerate(samples(left, right, size[1], width)):
                if 0 <= y <= height - 1 and 0 <= x <= width - 1:
                    y0, x0 = int(y), int(x)
                    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                    left_part, right_part = features[0, :, :, x0], features[0, :, :, x1]
                    mixed = left_part * (1 - (x - x0)) + right_part * (x - x0)
                    upper, lower = mixed[:, y0], mixed[:, y1]
                    out[number, :, i, j] = upper * (1 - (y - y0)) + lower * (y - y0)
    return out


@pytest.mark.parametrize("size", [(14, 14), (4, 6), (1, 3)])
def test_crops_are_those_of_tensorflow(size):
    """Boxes inside, of one point, that leave the map, and that end at its border: there rounding decides."""
    rng = np.random.default_rng(4)
    features = rng.normal(0, 1, (1, 3, 24, 18)).astype(np.float32)
    boxes = np.sort(rng.random((60, 2, 2), np.float32), axis=1).reshape(60, 4)
    boxes[0], boxes[1], boxes[2] = [0, 0, 1, 1], [0.4, 0.5, 0.4, 0.5], [-0.2, 0.1, 0.6, 1.3]
    tops = rng.random(4000, np.float32)
    step = (np.float32(1) - tops) * np.float32(23) / np.float32(13)
    beyond = tops[tops * np.float32(23) + np.float32(13) * step > 23]  # the last of 14 samples, by rounding
    boxes[50:, 2], boxes[50:, 0] = 1, beyond[:10]
    model = Model("crop")
    names = model.input("features", (1, "c", "h", "w")), model.input("boxes", ("n", 4))
    model.output("crops", crop_and_resize(model, *names, size), ("n", "c", *size))
    expected = crops(features, boxes, size)
    found = run(model.bytes(), features=features, boxes=boxes)[0]
    assert np.abs(found - expected).max() < 2e-5
    if size == (14, 14):
        assert not expected[50:, :, -1].any()


def test_batch_norms_and_biases_are_part_of_the_weights():
    data = features_network(parts_of(read_graph(own_model("deep_resnet50"))))
    graph = next(value for number, _, value, _ in fields(memoryview(data)) if number == 7)
    nodes = [value for number, _, value, _ in fields(graph) if number == 1]
    ops = [bytes(value).decode() for node in nodes for number, _, value, _ in fields(node) if number == 4]
    assert "BatchNormalization" not in ops
    assert ops.count("Conv") == 1 + 3 * (3 + 4 + 6) + 3 + 1 + 2  # backbone, shortcuts, region proposals
    assert ops.count("Add") <= 3 + 4 + 6 + 10  # one a residual unit, and those of paddings and means


def test_an_op_without_translation_is_named():
    graph = read_graph(own_model("tiny_plain"))
    odd = next(node for node in graph if node.op == "Relu")
    graph = Graph([Node(n.name, "Sinh", n.inputs, n.attrs) if n is odd else n for n in graph], "model.pb")
    with pytest.raises(ModelError, match=f"{odd.name}: a Sinh cannot be converted to ONNX"):
        features_network(parts_of(graph))


def test_a_graph_of_another_kind_is_refused():
    graph = Graph([Node("image", "Placeholder", [], {"dtype": Attr("type", 1)})], "model.pb")
    with pytest.raises(ModelError, match=r"model\.pb: not an Object Detection API Mask R-CNN"):
        parts_of(graph)
    with pytest.raises(ModelError, match="not a readable GraphDef"):
        parts_of(parse_graph(b"<html>", "model.pb"))


