"""The formats by the names that the command line takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cvmask.formats.coco import CocoWriter
from cvmask.formats.crops import CropsWriter
from cvmask.formats.csv import CsvWriter
from cvmask.formats.cutouts import CutoutsWriter
from cvmask.formats.images import PngWriter
from cvmask.formats.labelme import LabelmeWriter
from cvmask.formats.lines import JsonlWriter
from cvmask.formats.record import Writer
from cvmask.formats.yolo import YoloWriter


class Settings(NamedTuple):
    """What a format may need: where to write, names and colours (BGR, shape (k, 3)) of the classes."""

    folder: Path
    labels: Sequence[str] = ()
    colors: NDArray[np.uint8] | None = None
    mask_threshold: float = 0.3


def _coco(to: Settings) -> Writer:
    return CocoWriter(to.folder / "coco.json", to.folder / "coco_results.json", to.labels, to.mask_threshold)


def _png(to: Settings, kind: str) -> Writer:
    return PngWriter(to.folder / kind, to.labels, kind, to.colors, to.mask_threshold)


FORMATS: Mapping[str, Callable[[Settings], Writer]] = MappingProxyType(
    {
        "coco": _coco,
        "labelme": lambda to: LabelmeWriter(to.folder / "labelme", to.labels, to.mask_threshold),
        "yolo": lambda to: YoloWriter(to.folder / "yolo", to.labels, to.mask_threshold),
        "png": partial(_png, kind="masks"),
        "png-instances": partial(_png, kind="instances"),
        "png-classes": partial(_png, kind="classes"),
        "csv": lambda to: CsvWriter(to.folder / "detections.csv", to.labels, to.mask_threshold),
        "jsonl": lambda to: JsonlWriter(to.folder / "detections.jsonl", to.labels, to.mask_threshold),
        "crops": lambda to: CropsWriter(to.folder / "crops", to.labels),
        "cutouts": lambda to: CutoutsWriter(to.folder / "cutouts", to.labels, to.mask_threshold),
    }
)

# All records in these files; the other formats write files for each record, in folders of their own.
FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"coco": ("coco.json", "coco_results.json"), "csv": ("detections.csv",), "jsonl": ("detections.jsonl",)}
)
ONE_FILE = frozenset(FILES)
