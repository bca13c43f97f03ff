"""Writes small binary GraphDefs without TensorFlow, and finds the real ones of ../shared."""

from __future__ import annotations

import functools
import gzip
import lzma
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from cvmask.graph.graph_def import parse_graph
from cvmask.graph.protobuf import fields

DATA = Path(__file__).parent / "data"
SHARED = Path(__file__).resolve().parents[2] / "shared"
DTYPES = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int64": 9, "bool": 10}


def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def message(field, payload):
    payload = payload.encode() if isinstance(payload, str) else payload
    return varint(field << 3 | 2) + varint(len(payload)) + payload


def shape(dims):
    return b"".join(message(2, number(1, dim)) for dim in dims)


def tensor(array):
    array = np.asarray(array)
    if array.dtype.kind in "SU":
        return number(1, 7) + message(2, shape(array.shape)) + message(8, str(array))
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    return number(1, DTYPES[array.dtype.name]) + message(2, shape(array.shape)) + message(4, content)


class Type(int):
    """A number of tensorflow.DataType."""


class Shape(tuple):
    """A shape attribute."""


class Func(str):
    """The name of a function."""


def attr_value(value):
    if isinstance(value, bool):
        return number(5, value)
    if isinstance(value, Type):
        return number(6, value)
    if isinstance(value, int):
        return number(3, value)
    if isinstance(value, float):
        return varint(4 << 3 | 5) + np.float32(value).tobytes()
    if isinstance(value, Func):
        return message(10, message(1, value))
    if isinstance(value, str):
        return message(2, value)
    if isinstance(value, Shape):
        return message(7, shape(value))
    if isinstance(value, np.ndarray):
        return message(8, tensor(value))
    return message(1, b"".join(number(3, item) for item in value))


class Builder:
    """Collects nodes; every method returns the name that later nodes read."""

    def __init__(self):
        self.nodes = []
        self.names = set()
        self.functions = []

    def node(self, op, name, *inputs, **attrs):
        assert name not in self.names, name
        self.names.add(name)
        body = message(1, name) + message(2, op) + b"".join(message(3, item) for item in inputs)
        for key, value in attrs.items():
            body += message(5, message(1, key) + message(2, attr_value(value)))
        self.nodes.append(body)
        return name

    def const(self, name, value, dtype=None):
        value = np.asarray(value, dtype)
        kind = Type(7 if value.dtype.kind in "SU" else DTYPES[value.dtype.name])
        return self.node("Const", name, dtype=kind, value=value)

    def function(self, name, arguments, body, **results):
        """A function whose nodes are those of the builder `body`; `results` are inputs as they are spelled there."""
        signature = message(1, name) + b"".join(message(2, message(1, argument)) for argument in arguments)
        signature += b"".join(message(3, message(1, result)) for result in results)
        nodes = b"".join(message(3, node) for node in body.nodes)
        returned = b"".join(message(4, message(1, key) + message(2, value)) for key, value in results.items())
        self.functions.append(message(1, message(1, signature) + nodes + returned))
        return Func(name)

    def bytes(self):
        nodes = b"".join(message(1, node) for node in self.nodes)
        return nodes + (message(2, b"".join(self.functions)) if self.functions else b"")


def shared(*parts):
    """A file of ../shared; the test is skipped where it is not at hand."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path.name}: ../shared is not at hand")
    return path


def skeleton(name):
    """A real export of ../shared without its weights: shapes and constants are there."""
    return shared("graphs", f"{name}.skeleton.pb")


@functools.cache
def filled(name):
    """A real export of ../shared with its seeded weights, made once for all runs on this machine."""
    source, script = skeleton(name), shared("graphs", "weights.py")
    path = _kept(f"{name}-{zlib.crc32(source.read_bytes()):08x}.pb")
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        subprocess.run([sys.executable, script, "fill", source, part], check=True)
        part.replace(path)
    return path


@functools.cache
def option(name):
    """The folder in ../shared of an export that is off by one option of pipeline.config, and it filled with weights."""
    folder, script = shared("graphs", "options", name), shared("graphs", "weights.py")
    packed = (folder / "skeleton.pb.gz").read_bytes()
    path = _kept(f"option-{name}-{zlib.crc32(packed):08x}.pb")
    if not path.exists():
        empty, part = path.with_suffix(f".{os.getpid()}.empty"), path.with_suffix(f".{os.getpid()}.part")
        empty.write_bytes(gzip.decompress(packed))
        subprocess.run([sys.executable, script, "fill", empty, part], check=True)
        empty.unlink()
        part.replace(path)
    return folder, path


def fill(graph):
    """A graph whose empty weights are filled with seeded ones; the same on every machine."""
    found = ((number, bytes(value)) for number, wire, value, _ in fields(memoryview(graph)) if wire == 2)
    return b"".join(message(number, _filled_node(body) if number == 1 else body) for number, body in found)


def _filled_node(body):
    parts = [(number, value) for number, _, value, _ in fields(memoryview(body))]
    texts = {number: bytes(value) for number, value in parts if number in (1, 2)}
    if texts[2] != b"Const":
        return body
    empty = next((node for node in parse_graph(message(1, body)) if node.get("value", "tensor").is_empty), None)
    if empty is None or empty.get("value", "tensor").size < 2:
        return body
    values = _seeded(empty.name, empty.get("value", "tensor").shape)
    return message(1, empty.name) + message(2, "Const") + b"".join(
        message(5, message(1, key) + message(2, attr_value(value)))
        for key, value in (("dtype", Type(1)), ("value", values))
    )


def _seeded(name, shape):
    rng, leaf = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition("/")[2]
    if leaf == "weights":
        return rng.normal(0, (2 / np.prod(shape[:-1])) ** 0.5, shape).astype(np.float32)
    if leaf == "moving_variance":
        return rng.uniform(0.8, 1.2, shape).astype(np.float32)
    if leaf == "gamma":  # small at the end of a residual branch: the sum of many stays bounded
        return (rng.uniform(0.8, 1.2, shape) * (0.1 if "/conv3/" in name else 1)).astype(np.float32)
    return rng.normal(0, 0.05, shape).astype(np.float32)


@functools.cache
def arrays_of(path):
    """Every array of an .npz, by name; the file is closed again."""
    with np.load(path) as file:
        return dict(file)


def own_model(name):
    """A model of tests/data: as it lies there, or unpacked and filled, once for all runs on this machine."""
    path = DATA / f"{name}.pb"
    if path.exists():
        return path
    packed = (DATA / f"{name}.pb.xz").read_bytes()
    rule = Path(__file__).read_bytes()  # how it is filled is written here
    path = _kept(f"{name}-{zlib.crc32(packed + rule):08x}.pb")
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(fill(lzma.decompress(packed)))
        part.replace(path)
    return path


def _kept(name):
    folder = Path(tempfile.gettempdir()) / "cvmask-test-graphs"
    folder.mkdir(exist_ok=True)
    return folder / name


def picture(height, width):
    """Blocks of colour with noise: something for every layer to see. Always the same for a size."""
    rng = np.random.default_rng(height * width)
    blocks = (
        rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    )
    return np.clip(blocks + rng.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)


def partners(rows, golden):
    """For each of TensorFlow's rows, the number of the row here that is the same, or -1."""
    boxes, scores, classes = (golden[f"detection_{key}"] for key in ("boxes", "scores", "classes"))
    found = []
    for box, score, number in zip(boxes, scores, classes):
        same = (rows[:, 1] == number - 1) & (np.abs(rows[:, 2] - score) < 1e-4)
        same &= np.abs(rows[:, [4, 3, 6, 5]] - box).max(1) < 1e-4
        found.append(int(np.argmax(same)) if same.any() else -1)
    return np.array(found)


EXPORTS = ("mask_rcnn_inception_v2", "mask_rcnn_inception_v2_2018_07", "mask_rcnn_resnet50_atrous")
OFFICIAL = ("graphs", "mask_rcnn_inception_v2_coco_2018_01_28.pbtxt")
