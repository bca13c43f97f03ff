"""Hold tiles against SAHI: the same model, picture, tile size and overlap."""

from __future__ import annotations

import sys
import time
from typing import Any

import cv2
import numpy as np
from measure_tiles import SIDE, hits, mosaic
from numpy.typing import NDArray
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

from cvmask import MaskRCNN, load, scenes
from cvmask.results.detections import Detections
from cvmask.runtime.tiles import detect_tiled

SMALLEST_PX = 9


class OfCvmask(DetectionModel):  # type: ignore[misc]
    """Gives SAHI what a model of cvmask finds; `inference_s` is the time within the network."""

    inference_s = 0.0

    def set_model(self, model: MaskRCNN, **_: Any) -> None:
        self.model, self.category_mapping = model, dict(enumerate(map(str, model.labels)))

    load_model = None  # it is loaded

    def perform_inference(self, image: NDArray[np.uint8], **_: Any) -> None:
        began = time.perf_counter()
        self._original_predictions = self.model.detect(np.ascontiguousarray(image))
        self.inference_s += time.perf_counter() - began

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        found: Detections = self._original_predictions
        shift, full = _pair(shift_amount_list or [0, 0]), _pair(full_shape_list or list(found.frame_size))
        made = []
        for one in found:
            outlines = [polygon.outline for polygon in one.polygons()]
            # SAHI stops at parts of a pixel or two, which become less than a triangle on its way.
            rings = [outline.ravel().tolist() for outline in outlines if cv2.contourArea(outline) >= SMALLEST_PX]
            if rings:
                made.append(
                    ObjectPrediction(
                        bbox=[int(side) for side in one.xyxy], category_id=one.class_id, score=float(one.confidence),
                        segmentation=rings, category_name=one.label, shift_amount=shift,
                        full_shape=full,
                    )
                )  # fmt: skip
        self._object_prediction_list_per_image = [made]


def _pair(one_or_list: list[Any]) -> list[Any]:
    """SAHI gives a pair of numbers, or a list with one of them."""
    return list(one_or_list[0]) if isinstance(one_or_list[0], (list, tuple)) else one_or_list


def hits_of_masks(boxes: NDArray[np.intp], masks: list[NDArray[np.bool_]], ids: list[int], scene: scenes.Scene,
                  place: tuple[int, int]) -> NDArray[np.intp]:  # fmt: skip
    """Count as `measure_tiles.hits` does, for masks of the whole picture."""
    counts = np.zeros(len(scene.masks), np.intp)
    x, y = place
    for (left, top, right, bottom), mask, class_id in zip(boxes.tolist(), masks, ids):
        if right > x and bottom > y and left < x + SIDE and top < y + SIDE:
            both = (mask[y : y + SIDE, x : x + SIDE] & scene.masks).sum((1, 2))
            union = mask[top:bottom, left:right].sum() + scene.masks.sum((1, 2)) - both
            counts += (2 * both > union) & (scene.class_id == class_id)
    return counts


def main() -> None:
    model = load("shapes")
    print("| scenes | by | found | right | twice | seconds | of them beside the inferences |")
    print("|---|---|---|---|---|---|---|")
    for count in map(int, sys.argv[1:] or ["2", "4", "6"]):
        parts, picture = mosaic(count, seed=1000)
        places = [((n % count) * SIDE, (n // count) * SIDE) for n in range(count * count)]
        theirs = OfCvmask(model=model)
        began = time.perf_counter()
        answer = get_sliced_prediction(
            picture, theirs, slice_height=SIDE, slice_width=SIDE, overlap_height_ratio=0.2, overlap_width_ratio=0.2,
            verbose=0,
        )  # fmt: skip
        spent_s = time.perf_counter() - began
        objects = answer.object_prediction_list
        boxes = np.array([one.bbox.to_xyxy() for one in objects], np.intp).reshape(-1, 4)
        masks = [one.mask.bool_mask for one in objects]
        ids = [one.category.id for one in objects]
        again = np.concatenate([hits_of_masks(boxes, masks, ids, s, place) for s, place in zip(parts, places)])
        tell(count, "SAHI", len(objects), again, spent_s, theirs.inference_s)

        inferences = Timed(model)
        began = time.perf_counter()
        found = inferences.tiled(picture)
        spent_s = time.perf_counter() - began
        again = np.concatenate([hits(found, s, place) for s, place in zip(parts, places)])
        tell(count, "cvmask", len(found), again, spent_s, inferences.spent_s)


class Timed:
    """A model whose inferences are timed while it looks at tiles."""

    def __init__(self, model: MaskRCNN) -> None:
        self.model, self.spent_s = model, 0.0

    def one(self, view: NDArray[np.uint8]) -> Detections:
        began = time.perf_counter()
        found = self.model.detect(view)
        self.spent_s += time.perf_counter() - began
        return found

    def tiled(self, picture: NDArray[np.uint8]) -> Detections:
        return detect_tiled([self.one], picture, (SIDE, SIDE), mask_threshold=self.model.settings.mask_threshold)


def tell(count: int, name: str, found: int, again: NDArray[np.intp], spent_s: float, inference_s: float) -> None:
    """Print a row."""
    cells = (count * count, name, found, np.count_nonzero(again), np.maximum(again - 1, 0).sum(),
             f"{spent_s:.2f}", f"{spent_s - inference_s:.3f}")  # fmt: skip
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
