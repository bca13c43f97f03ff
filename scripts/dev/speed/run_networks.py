"""The three ONNX networks that cvmask makes, and what lies between them, with one of three programs that run ONNX."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvmask.runtime import model
from cvmask.runtime.net import ENGINE_SETTING, OnnxRuntimeNet

from . import run_cvmask
from .program import Run, serve

THREADS = [2]


class OpenVinoNet:
    """As `cvmask.runtime.net.OnnxNet`."""

    def __init__(self, model: bytes, outputs: Sequence[str], origin: str) -> None:
        import openvino

        core = openvino.Core()
        hints = {"INFERENCE_NUM_THREADS": THREADS[0], "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        self._model = core.compile_model(core.read_model(model), "CPU", hints)
        self._outputs = list(outputs)

    def forward(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        found = self._model(dict(inputs))
        return [np.array(found[name]) for name in self._outputs]


def make(settings: dict[str, Any]) -> Run:
    THREADS[0] = settings["threads"]
    os.environ[ENGINE_SETTING] = "onnx"
    if settings["engine"] != "opencv":
        model.OnnxNet = {"onnxruntime": OnnxRuntimeNet, "openvino": OpenVinoNet}[settings["engine"]]
    return run_cvmask.make(settings)


if __name__ == "__main__":
    serve(make)
