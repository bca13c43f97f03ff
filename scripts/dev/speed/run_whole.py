"""The whole graph through cv2.dnn, as OpenCV's sample and the tutorials run it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from cvmask.graph import split as split_module
from cvmask.graph.split import split
from cvmask.graph.text import print_text, read_text

from .program import Run, picture, serve


def make(settings: dict[str, Any]) -> Run:
    cv2.setNumThreads(settings["threads"])
    text = split_module.set_score_floor(read_text(settings["text"]), 0.0)
    parts = split(text)
    buffer = np.frombuffer(print_text(text).encode(), np.uint8)
    engine = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    net = cv2.dnn.readNetFromTensorflow(np.fromfile(settings["graph"], np.uint8), buffer, **engine)
    frame = np.ascontiguousarray(picture(settings["size_wh"])[:, :, ::-1])
    width, height = settings["size_wh"]

    def run(boxes: int) -> dict[str, Any]:
        net.setInput(cv2.dnn.blobFromImage(frame, swapRB=True, crop=False))
        rows, masks = net.forward([parts.detections, parts.masks])
        flat = rows.reshape(-1, 7)
        kept = np.flatnonzero(flat[:, 2] > 0)
        kept = kept[np.sort(np.argsort(-flat[kept, 2], kind="stable")[:boxes])]
        class_id = flat[kept, 1].astype(np.int32)
        size = np.array([width, height, width, height], np.float32)
        return {
            "xyxy": np.clip(flat[kept, 3:] * size, np.float32(0), size),
            "confidence": flat[kept, 2],
            "class_id": class_id,
            "soft_masks": masks[kept, class_id],
        }

    return run


if __name__ == "__main__":
    serve(make)
