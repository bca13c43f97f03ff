"""Score the bundled model on held-out scenes, through cvmask and cv2.dnn, with pycocotools."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import cvmask
from cvmask import scenes


def encode(mask: np.ndarray) -> dict[str, Any]:
    rle = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def xywh(box: np.ndarray) -> list[float]:
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def truth_rows(image_id: int, scene: scenes.Scene) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "category_id": int(c), "bbox": xywh(box), "area": int(mask.sum()), "iscrowd": 0,
         "segmentation": encode(mask)}
        for c, box, mask in zip(scene.class_id, scene.xyxy, scene.masks)
    ]  # fmt: skip


def result_rows(image_id: int, found: cvmask.Detections, mask_threshold: float | None) -> list[dict[str, Any]]:
    masks = found.masks(mask_threshold)
    return [
        {
            "image_id": image_id,
            "category_id": int(c),
            "bbox": xywh(box),
            "score": float(s),
            "segmentation": encode(mask),
        }
        for c, box, s, mask in zip(found.class_id, found.xyxy, found.confidence, masks)
    ]


def score(truth: COCO, results: list[dict[str, Any]], kind: str) -> dict[str, float]:
    """Average precision of boxes ("bbox") or masks ("segm")."""
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    figures = {"AP": evaluation.stats[0], "AP50": evaluation.stats[1], "AP75": evaluation.stats[2]}
    figures.update({name: float(precision[:, :, i].mean()) for i, name in enumerate(scenes.LABELS)})
    return figures


def to_coco(rows: list[dict[str, Any]], count: int) -> COCO:
    truth = COCO()
    truth.dataset = {
        "images": [{"id": i, "width": 320, "height": 320} for i in range(count)],
        "categories": [{"id": i, "name": name} for i, name in enumerate(scenes.LABELS)],
        "annotations": [{**row, "id": i} for i, row in enumerate(rows, 1)],
        "info": {},
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default="shapes")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--first-seed", type=int, default=0, help="training begins at 1,000,000")
    parser.add_argument("--score-threshold", type=float, default=0.05)
    parser.add_argument("--mask-threshold", type=float, help="default: that of the paste")
    parser.add_argument("--mask-paste", default="tensorflow")
    parser.add_argument("--proposals", type=int, help="other than the model's own number")
    parser.add_argument("--size", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    model = cvmask.load(
        args.model, score_threshold=args.score_threshold, proposals=args.proposals, size=args.size,
        mask_paste=args.mask_paste,
    )  # fmt: skip
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    spent_ms = []
    for i in range(args.scenes):
        scene = scenes.make_scene(args.first_seed + i)
        began = time.perf_counter()
        found = model.detect(scene.image)
        spent_ms.append(1000 * (time.perf_counter() - began))
        truth += truth_rows(i, scene)
        results += result_rows(i, found, args.mask_threshold)
    reference = to_coco(truth, args.scenes)
    figures = {
        "opencv": cv2.__version__,
        "scenes": args.scenes,
        "objects": len(truth),
        "median_ms": round(statistics.median(spent_ms), 1),
        "box": {k: round(float(v), 4) for k, v in score(reference, results, "bbox").items()},
        "mask": {k: round(float(v), 4) for k, v in score(reference, results, "segm").items()},
    }
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
