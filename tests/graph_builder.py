"""Writes small binary GraphDefs without TensorFlow, and finds the real ones of ../shared."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest

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


def attr_value(value):
    if isinstance(value, bool):
        return number(5, value)
    if isinstance(value, Type):
        return number(6, value)
    if isinstance(value, int):
        return number(3, value)
    if isinstance(value, float):
        return varint(4 << 3 | 5) + np.float32(value).tobytes()
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

    def node(self, op, name, *inputs, **attrs):
        assert name not in self.names, name
        self.names.add(name)
        body = message(1, name) + message(2, op) + b"".join(message(3, item) for item in inputs)
        for key, value in attrs.items():
            body += message(5, message(1, key) + message(2, attr_value(value)))
        self.nodes.append(message(1, body))
        return name

    def const(self, name, value, dtype=None):
        value = np.asarray(value, dtype)
        kind = Type(7 if value.dtype.kind in "SU" else DTYPES[value.dtype.name])
        return self.node("Const", name, dtype=kind, value=value)

    def bytes(self):
        return b"".join(self.nodes)


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
    folder = Path(tempfile.gettempdir()) / "cvmask-test-graphs"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{zlib.crc32(source.read_bytes()):08x}.pb"
    if not path.exists():
        part = path.with_suffix(f".{os.getpid()}.part")
        subprocess.run([sys.executable, script, "fill", source, part], check=True)
        part.replace(path)
    return path


def picture(height, width):
    """Blocks of colour with noise: something for every layer to see. Always the same for a size."""
    rng = np.random.default_rng(height * width)
    blocks = (
        rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    )
    return np.clip(blocks + rng.integers(-20, 20, blocks.shape), 0, 255).astype(np.uint8)


EXPORTS = ("mask_rcnn_inception_v2", "mask_rcnn_inception_v2_2018_07", "mask_rcnn_resnet50_atrous")
OFFICIAL = ("graphs", "mask_rcnn_inception_v2_coco_2018_01_28.pbtxt")
