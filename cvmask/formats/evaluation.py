"""Average precision of detections on a COCO data set, as pycocotools computes it (extra `eval`)."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError, SourceError, install
from cvmask.formats.coco import to_results
from cvmask.results.detections import Detections

KINDS = {"box": "bbox", "mask": "segm"}
SUMMARY = (
    *("AP", "AP50", "AP75", "AP small", "AP medium", "AP large"),
    *("AR 1", "AR 10", "AR 100", "AR small", "AR medium", "AR large"),
)
RECALLS = np.linspace(0, 1, 101)
_SURE = 0.5


@dataclass(frozen=True)
class Scores:
    """Scores of boxes or of masks.

    Attributes
    ----------
    summary
        By the names of `SUMMARY`, 0 to 1; nan if the truth has no such object.
    by_class
        AP of each class that the truth has, 0 to 1.
    curves
        Precision at `RECALLS` at an IoU of 0.5, by class, shape (101,).
    wrong
        By image id: how many objects were missed at an IoU of 0.5, and how many detections with a confidence of
        at least 0.5 match no object.
    """

    summary: dict[str, float]
    by_class: dict[str, float]
    curves: dict[str, NDArray[np.float64]]
    wrong: dict[int, tuple[int, int]] = field(default_factory=dict)


class Truth:
    """A COCO data set with the true objects.

    Parameters
    ----------
    path
        ``instances.json``.

    Raises
    ------
    CvmaskError
        If pycocotools is not installed.
    SourceError
        If the file cannot be read or is not such a data set.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self._coco = importlib.import_module("pycocotools.coco").COCO()
            self._evaluator = importlib.import_module("pycocotools.cocoeval").COCOeval
        except ImportError:
            raise CvmaskError(f"evaluating needs pycocotools: {install('eval')}") from None
        try:
            with open(path, encoding="utf-8-sig") as file:
                data = json.load(file)
            self.images: dict[int, dict[str, Any]] = {image["id"]: image for image in data["images"]}
            self.categories: dict[str, int] = {one["name"]: one["id"] for one in data["categories"]}
            names = {image["file_name"] for image in data["images"]}
            self._coco.dataset = {"info": {}, **data}
            with contextlib.redirect_stdout(io.StringIO()):
                self._coco.createIndex()
        except OSError as error:
            raise SourceError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            cause = f"no {error}" if isinstance(error, KeyError) else f"{str(error)[:200]}"
            raise SourceError(f"{os.fspath(path)}: is not a COCO data set of instances: {cause}") from None
        if not names or not data.get("annotations"):
            raise SourceError(f"{os.fspath(path)}: has no images or no annotations")

    def results(self, found: Detections, image_id: int, labels: Sequence[str]) -> list[dict[str, Any]]:
        """Give the results of one image, with the category ids of the truth by the names of the classes."""
        ids = {name.casefold(): number for name, number in self.categories.items()}
        wanted = [ids.get(label.casefold()) for label in labels]
        results = to_results(found, image_id)
        for result in results:
            result["category_id"] = wanted[result["category_id"] - 1]
        return [result for result in results if result["category_id"] is not None]

    def common(self, labels: Sequence[str]) -> list[str]:
        """Give the classes of the truth that a model with these labels knows."""
        known = {label.casefold() for label in labels}
        return [name for name in self.categories if name.casefold() in known]

    def score(
        self, results: Sequence[dict[str, Any]], kind: str, image_ids: Sequence[int], classes: Sequence[str]
    ) -> Scores:
        """Compare results with the truth of these images and classes; `kind` is of `KINDS`."""
        with contextlib.redirect_stdout(io.StringIO()):
            found = self._coco.loadRes(list(results)) if results else self._nothing()
            run = self._evaluator(self._coco, found, KINDS[kind])
            run.params.imgIds = sorted(image_ids)
            run.params.catIds = [self.categories[name] for name in classes]
            run.evaluate()
            run.accumulate()
            run.summarize()
        precision = run.eval["precision"]  # IoU, recall, class, size, most detections
        by_class, curves = {}, {}
        for column, name in enumerate(sorted(classes, key=lambda one: self.categories[one])):
            values = precision[:, :, column, 0, -1]
            if (values > -1).any():
                by_class[name] = float(values[values > -1].mean())
                curves[name] = np.maximum(values[0], 0)
        summary = [float(value) if value > -1 else float("nan") for value in run.stats]
        return Scores(dict(zip(SUMMARY, summary)), by_class, curves, _wrong(run))

    def _nothing(self) -> Any:
        empty = type(self._coco)()
        empty.dataset = {"images": self._coco.dataset["images"], "categories": self._coco.dataset["categories"]}
        empty.dataset["annotations"] = []
        empty.createIndex()
        return empty


def _wrong(run: Any) -> dict[int, tuple[int, int]]:
    wrong: dict[int, tuple[int, int]] = {}
    everything, most = list(run.params.areaRng[0]), run.params.maxDets[-1]
    for one in run.evalImgs:
        if one is None or list(one["aRng"]) != everything or one["maxDet"] != most:
            continue
        real = ~np.asarray(one["gtIgnore"]).astype(bool)
        hit = np.asarray(one["gtMatches"])[0] > 0
        sure = np.asarray(one["dtScores"]) >= _SURE
        false = sure & (np.asarray(one["dtMatches"])[0] == 0) & ~np.asarray(one["dtIgnore"])[0].astype(bool)
        missed, more = wrong.get(one["image_id"], (0, 0))
        wrong[one["image_id"]] = missed + int((real & ~hit).sum()), more + int(false.sum())
    return wrong
