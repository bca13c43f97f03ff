"""Hold the bundled model's detections in cvmask against TensorFlow's on the same scenes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

import cvmask
from cvmask import scenes
from cvmask.system import folders

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections", "detection_masks")


class Judge:
    """TensorFlow running a frozen graph."""

    def __init__(self, path: Path) -> None:
        definition = tf.compat.v1.GraphDef()
        definition.ParseFromString(path.read_bytes())
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        self._session = tf.compat.v1.Session(graph=graph)

    def detect(self, frame: np.ndarray, score_threshold: float) -> cvmask.Detections:
        """The detections above a score, as cvmask has them."""
        rgb = frame[None, ..., ::-1]
        values = self._session.run([f"{name}:0" for name in OUTPUTS], {"image_tensor:0": rgb})
        boxes, scores, classes, _, masks = (value[0] for value in values)
        keep = scores > score_threshold
        height, width = frame.shape[:2]
        size = np.array([width, height, width, height], np.float32)
        return cvmask.Detections(
            xyxy=boxes[keep][:, [1, 0, 3, 2]] * size,
            confidence=scores[keep],
            class_id=classes[keep].astype(np.int32) - 1,
            soft_masks=masks[keep],
            frame_size=(height, width),
        )


def differences(ours: cvmask.Detections, theirs: cvmask.Detections) -> dict[str, float]:
    """Largest difference of boxes (pixels), scores and soft masks, and the smallest mask IoU."""
    mine, other = ours.masks(), theirs.masks()
    shared, either = (mine & other).sum(axis=(1, 2)), (mine | other).sum(axis=(1, 2))
    return {
        "box_px": float(np.abs(ours.xyxy - theirs.xyxy).max(initial=0)),
        "score": float(np.abs(ours.confidence - theirs.confidence).max(initial=0)),
        "soft_mask": float(np.abs(ours.soft_masks - theirs.soft_masks).max(initial=0)),
        "mask_iou": float((shared / np.maximum(either, 1)).min(initial=1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 320), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--score-threshold", type=float, default=0.3)
    args = parser.parse_args()
    model = cvmask.load("shapes", score_threshold=args.score_threshold)
    judge = Judge(folders.path("models/shapes") / "frozen_inference_graph.pb")
    worst: dict[str, float] = {}
    objects = 0
    for seed in range(args.scenes):
        frame = scenes.make_scene(seed, tuple(args.size)).image
        ours, theirs = model.detect(frame), judge.detect(frame, args.score_threshold)
        if ours.class_id.tolist() != theirs.class_id.tolist():
            raise SystemExit(
                f"scene {seed}: {ours.class_id.tolist()} here, {theirs.class_id.tolist()} in TensorFlow"
            )
        objects += len(ours)
        for key, value in differences(ours, theirs).items():
            pick = min if key == "mask_iou" else max
            worst[key] = pick(worst.get(key, value), value)
    print(
        json.dumps(
            {"scenes": args.scenes, "objects": objects, "tensorflow": tf.__version__, **worst}, indent=2
        )
    )


if __name__ == "__main__":
    main()
