"""ONNX Runtime on the graph as tf2onnx converts it."""

from __future__ import annotations

from typing import Any

import onnxruntime

from .program import Run, picture, serve


def make(settings: dict[str, Any]) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings["threads"]
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(settings["onnx"], options, providers=["CPUExecutionProvider"])
    name, image = session.get_inputs()[0].name, picture(settings["size_wh"])[None]
    names = [output.name.replace(":", "_") for output in session.get_outputs()]
    return lambda boxes: dict(zip(names, session.run(None, {name: image})))


if __name__ == "__main__":
    serve(make)
