"""cvmask, from its blob on: pixels as they are, resized by nobody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from cvmask.graph import split
from cvmask.graph.model_files import GraphFile
from cvmask.graph.text import read_text
from cvmask.runtime.model import MaskRCNN, ModelSpec, Settings
from cvmask.system.process import reuse_large_blocks

from .program import Run, picture, serve


def make(settings: dict[str, Any]) -> Run:
    cv2.setNumThreads(settings["threads"])
    text = split.set_score_floor(read_text(settings["text"]), 0.0)
    model = MaskRCNN(ModelSpec(GraphFile(settings["graph"]), text, settings=Settings(score_threshold=0.0)))
    reuse_large_blocks()
    frame = np.ascontiguousarray(picture(settings["size_wh"])[:, :, ::-1])

    def run(boxes: int) -> dict[str, Any]:
        model.settings = replace(model.settings, max_detections=boxes)
        found = model.detect(frame)
        names = ("xyxy", "confidence", "class_id", "soft_masks")
        return {name: getattr(found, name) for name in names}

    return run


if __name__ == "__main__":
    serve(make)
