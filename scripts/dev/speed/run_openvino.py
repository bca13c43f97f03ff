"""OpenVINO on the frozen graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov

from .program import Run, picture, serve


def make(settings: dict[str, Any]) -> Run:
    image = picture(settings["size_wh"])[None]
    hints = {
        "INFERENCE_NUM_THREADS": settings["threads"],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = ov.Core()
    model = ov.convert_model(settings["frozen"])
    try:
        # A fixed shape, as OpenVINO's own guides advise for speed; it does not compile for every graph.
        model.reshape(list(image.shape))
        compiled = core.compile_model(model, "CPU", hints)
    except RuntimeError:
        compiled = core.compile_model(ov.convert_model(settings["frozen"]), "CPU", hints)
    request = compiled.create_infer_request()

    def run(boxes: int) -> dict[str, Any]:
        results = request.infer({0: image})
        return {f"output_{number}": np.array(value) for number, value in enumerate(results.values())}

    return run


if __name__ == "__main__":
    serve(make)
