"""Score a network or an exported model on held-out pictures, with pycocotools, by the size of the persons."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from shapes import boxes as bx

from cvmask.results.masks import paste, to_frame

from . import config as c
from . import targets
from .data import Picture, read_pictures
from .network import PeopleNet

# By a person's height in parts of the picture's.
RANGES = {"all": (0.0, 9.0), "near": (1 / 3, 9.0), "middle": (1 / 6, 1 / 3), "far": (0.0, 1 / 6)}
MOST = 30  # detections of a picture
# Boxes (n, 4) as (x1, y1, x2, y2) in pixels, scores (n,), masks bool (n, h, w) of a BGR picture.
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


class NetDetector:
    """Detections of a network in PyTorch."""

    def __init__(self, net: PeopleNet):
        self.net, self.anchors = net.eval(), targets.anchors((c.SIZE, c.SIZE))

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from .train import propose

        net, device = self.net, next(self.net.parameters()).device
        height, width = image.shape[:2]
        resized = cv2.resize(image, (c.SIZE, c.SIZE), interpolation=cv2.INTER_LINEAR)[..., ::-1]
        x = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].to(device).float().div(127.5).sub(1)
        with torch.autocast(device.type, torch.bfloat16):
            features = net.features(x.contiguous(memory_format=torch.channels_last))
            encodings, logits = (v[0].float().cpu().numpy() for v in net.propose(features))
            features = features.float()
            proposals = propose(encodings, logits, self.anchors, (c.SIZE, c.SIZE), c.MAX_PROPOSALS)
            scores, offsets = net.classify(net.roi_features(features, [_parts(proposals, device)]))
            scores = scores.float().softmax(1)[:, 1].cpu().numpy()
            boxes = np.clip(bx.decode(offsets.float().cpu().numpy(), proposals), 0, c.SIZE).astype(np.float32)
            keep = bx.suppress(boxes, scores, c.SECOND_STAGE_NMS_IOU, c.MAX_DETECTIONS)
            keep = keep[scores[keep] > c.SCORE_THRESHOLD][:MOST]
            boxes, scores = boxes[keep], scores[keep]
            if not len(keep):
                return np.zeros((0, 4), np.float32), scores, np.zeros((0, height, width), bool)
            soft = net.mask(net.roi_features(features, [_parts(boxes, device)])).float().sigmoid().cpu().numpy()
        boxes = boxes[:, [1, 0, 3, 2]] * (np.array([width, height, width, height], np.float32) / c.SIZE)
        return boxes, scores, to_frame(paste(soft, boxes, (height, width)), (height, width))


def _parts(boxes: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(boxes / c.SIZE).float().to(device)


class ModelDetector:
    """Detections of an exported model, through cvmask."""

    def __init__(self, model: str):
        import cvmask

        self.model = cvmask.load(model, score_threshold=c.SCORE_THRESHOLD)
        self.spent_ms: list[float] = []

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        began = time.perf_counter()
        found = self.model.detect(image)
        self.spent_ms.append(1000 * (time.perf_counter() - began))
        return found.xyxy, found.confidence, found.masks()


def evaluate(detector: Detector, pictures: list[Picture], empty: list[Picture]) -> dict[str, Any]:
    """AP and AP50 of boxes and masks by the size of persons, and pictures without people that stay empty."""
    truth: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for i, picture in enumerate(pictures):
        image = picture.read()
        truth += _truth(i, picture)
        for box, confidence, mask in zip(*detector(image)):
            box = [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]
            results.append(
                {"image_id": i, "category_id": 1, "bbox": box, "score": float(confidence),
                 "segmentation": _rle(mask), "part": box[3] / picture.size_wh[1]}
            )  # fmt: skip
    figures: dict[str, Any] = {}
    for kind in ("bbox", "segm"):
        figures[kind] = _score(truth, results, kind, pictures)
    highest = [float(max(detector(picture.read())[1], default=0)) for picture in empty]
    figures["empty"] = {"pictures": len(empty), "above_0.5": sum(score > 0.5 for score in highest)}
    return figures


def _truth(image_id: int, picture: Picture) -> list[dict[str, Any]]:
    rows = []
    for a, person in zip(picture.annotations, picture.persons()):
        mask = person.mask if person.mask is not None else np.zeros(picture.size_wh[::-1], np.uint8)
        rows.append(
            {"image_id": image_id, "category_id": 1, "bbox": a["bbox"], "iscrowd": int(person.unsure),
             "segmentation": _rle(mask), "part": a["bbox"][3] / picture.size_wh[1]}
        )  # fmt: skip
    return rows


def _score(
    truth: list[dict[str, Any]], results: list[dict[str, Any]], kind: str, pictures: list[Picture]
) -> dict[str, list[float]]:
    """AP and AP50, for each of RANGES. The height in parts of the picture's takes the place of COCO's area."""

    def rows(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {k: v for k, v in item.items() if k != "part"} | {"id": n, "area": 1000 * item["part"]}
            for n, item in enumerate(items, 1)
        ]

    reference = COCO()
    reference.dataset = {
        "info": {},
        "images": [{"id": i, "width": p.size_wh[0], "height": p.size_wh[1]} for i, p in enumerate(pictures)],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": rows(truth),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        reference.createIndex()
        found = COCO()
        found.dataset = {**reference.dataset, "annotations": rows(results)}
        found.createIndex()
        evaluation = COCOeval(reference, found, kind)
        evaluation.params.areaRng = [[1000 * low, 1000 * high] for low, high in RANGES.values()]
        evaluation.params.areaRngLbl = list(RANGES)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, :, 2]  # IoU, recall, range
    figures = {}
    for i, name in enumerate(RANGES):
        part = precision[:, :, i]
        figures[name] = [round(float(part.mean()), 3), round(float(part[0].mean()), 3)]
    return figures


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return coco_mask.encode(np.asfortranarray(mask, np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a name, a folder, or a checkpoint (.pt)")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    cv2.setNumThreads(args.threads)
    torch.set_num_threads(args.threads)
    pictures = read_pictures(args.data / "people")
    detector: Any
    if args.model.endswith(".pt"):
        net = PeopleNet()
        net.load_state_dict(torch.load(args.model, weights_only=True, map_location="cpu")["mean"])
        detector = NetDetector(net)
    else:
        detector = ModelDetector(args.model)
    figures = evaluate(detector, pictures.held_out, pictures.held_out_empty)
    if isinstance(detector, ModelDetector):
        figures["median_ms"] = round(statistics.median(detector.spent_ms), 1)
        figures["opencv"] = cv2.__version__
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
