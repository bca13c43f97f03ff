#!/usr/bin/env python3
"""Writes tests/data/tiny_*.pb and deep_*.pb.xz, what TensorFlow finds with them and with the exports of ../shared,
and what its kernels make of pictures and masks.

    scripts/run make_tf_goldens [NAME...]

Needs TensorFlow, once. The exports get seeded weights; their results are kept without the pictures.
"""

from __future__ import annotations

import lzma
import sys
from pathlib import Path

import cv2
import numpy as np
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "dev"), str(ROOT / "tests")]
from deep_models import MODELS as DEEP  # noqa: E402
from graph_builder import EXPORTS, filled, own_model, picture  # noqa: E402
from tiny_models import MODELS as PLAIN  # noqa: E402
from tiny_models import tf1  # noqa: E402
from tiny_variants import MODELS as VARIANTS  # noqa: E402
from tiny_variants import lowered  # noqa: E402

DATA = ROOT / "tests" / "data"
MODELS = {**PLAIN, **VARIANTS}
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "detection_masks")
RESIZED = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"  # what the resizer gives, and its size
TRUE_SIZE = "Preprocessor/map/TensorArrayStack_1/TensorArrayGatherV3"
MASKS = 8  # rows of masks that are kept of an export


def find(graph_def: tf1.GraphDef, image: np.ndarray) -> list[np.ndarray]:
    """TensorFlow's detections; where there is a loop for the resizer, its result is put in place of it."""
    feed = {"image_tensor:0": image[None]}
    if any(node.name == TRUE_SIZE for node in graph_def.node):
        feed[f"{RESIZED}:0"] = image[None].astype(np.float32)
        feed[f"{TRUE_SIZE}:0"] = np.array([image.shape], np.int32)
    with tf.Graph().as_default():
        tf1.import_graph_def(graph_def, name="")
        with tf1.Session() as session:
            return [array[0] for array in session.run([f"{name}:0" for name in OUTPUTS], feed)]


def make_tiny(name: str) -> None:
    model = MODELS[name]
    with tf.Graph().as_default() as graph:
        model.build()
        graph_def = graph.as_graph_def()
    if name == "tiny_lowered":
        graph_def = lowered(graph_def, (*OUTPUTS, "num_detections"))
    (DATA / f"{name}.pb").write_bytes(graph_def.SerializeToString())
    size = (96, 112) if model.resizer == "fixed" else (96, 120)  # the resizer leaves these as they are
    save(name, size, find(graph_def, picture(*size)))


def make_deep(name: str) -> None:
    packed = lzma.compress(DEEP[name].graph_def().SerializeToString(deterministic=True), preset=9)
    (DATA / f"{name}.pb.xz").write_bytes(packed)
    graph_def = tf1.GraphDef()
    graph_def.ParseFromString(own_model(name).read_bytes())
    size = (96, 120)
    save(name, size, find(graph_def, picture(*size)))


def make_export(name: str) -> None:
    graph_def = tf1.GraphDef()
    graph_def.ParseFromString(filled(name).read_bytes())
    size = (96, 128)
    boxes, scores, classes, masks = find(graph_def, picture(*size))
    save(name, size, [boxes, scores, classes, masks[:MASKS]])


def make_resized() -> None:
    """What TensorFlow's kernels make of a picture of noise; `METHOD SAMPLING WIDTHxHEIGHT` names each."""
    frame = np.random.default_rng(5).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    kernels = {
        "nearest": tf.raw_ops.ResizeNearestNeighbor,
        "bicubic": tf.raw_ops.ResizeBicubic,
        "area": tf.raw_ops.ResizeArea,
    }
    arrays = {}
    for method, kernel in kernels.items():
        for sampling in ("legacy", "align_corners", "half_pixel"):
            flags = {"align_corners": sampling == "align_corners", "half_pixel_centers": sampling == "half_pixel"}
            if method == "area" and flags.pop("half_pixel_centers"):  # it has none
                continue
            for width, height in ((23, 19), (7, 5), (1, 1), (17, 30)):
                with tf1.Session(graph=tf.Graph()) as session, session.graph.as_default():
                    resized = kernel(images=frame[None].astype(np.float32), size=[height, width], **flags)
                    arrays[f"{method} {sampling} {width}x{height}"] = session.run(resized)[0]
    np.savez_compressed(DATA / "resized.npz", frame=frame, **arrays)


def make_pasted() -> None:
    """Soft masks, boxes and frames in which TensorFlow pastes them; `HEIGHTxWIDTH NAME` names each array."""
    rng = np.random.default_rng(23)
    arrays = {}
    for height, width, count in ((48, 64, 16), (61, 1, 4), (1, 47, 4), (7, 5, 16), (120, 160, 4)):
        size = np.array([width, height] * 2, np.float32)
        corners = np.sort(rng.uniform(-0.1, 1.1, (count, 2, 2)).astype(np.float32), axis=1).reshape(count, 4)
        boxes = np.clip(corners, 0, 1)
        boxes[:2] = [[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5]]  # all of the frame, and nothing
        soft = rng.random((count, 15, 15), np.float32)
        if count == 16:
            smooth = cv2.GaussianBlur(soft[8:].transpose(1, 2, 0), (0, 0), 2).transpose(2, 0, 1)
            soft[8:] = np.clip(smooth * 20 - 9.5, 0, 1)
        xyxy = boxes * size
        values = {"xyxy": xyxy, "soft": soft, "pasted": reframe(soft, xyxy, (height, width))}
        arrays.update({f"{height}x{width} {name}": array for name, array in values.items()})
    np.savez_compressed(DATA / "pasted.npz", **arrays)


def reframe(soft: np.ndarray, xyxy: np.ndarray, frame_size: tuple[int, int]) -> np.ndarray:
    """The Object Detection API's reframe_box_masks_to_image_masks: (n, height, width) before the cut."""
    height, width = frame_size
    boxes = xyxy[:, [1, 0, 3, 2]] / np.array([height, width] * 2, np.float32)
    with tf1.Session(graph=tf.Graph()) as session, session.graph.as_default():
        unit = tf.constant([[[0, 0], [1, 1]]], tf.float32)
        low, high = tf.constant(boxes[:, None, :2]), tf.constant(boxes[:, None, 2:])
        reverse = tf.reshape((unit - low) / tf.maximum(high - low, 1e-4), [-1, 4])
        pasted = tf.image.crop_and_resize(soft[..., None], reverse, np.arange(len(soft)), [height, width])
        return np.asarray(session.run(pasted)[..., 0])


def save(name: str, size: tuple[int, int], arrays: list[np.ndarray]) -> None:
    np.savez_compressed(DATA / f"{name}.npz", size=size, **dict(zip(OUTPUTS, arrays)))


KERNELS = {"resized": make_resized, "pasted": make_pasted}


def main() -> None:
    for name in sys.argv[1:] or [*MODELS, *DEEP, *EXPORTS, *KERNELS]:
        if name in KERNELS:
            KERNELS[name]()
            continue
        (make_tiny if name in MODELS else make_deep if name in DEEP else make_export)(name)
        print(name, np.load(DATA / f"{name}.npz")["detection_scores"][:5].round(3))


if __name__ == "__main__":
    main()
