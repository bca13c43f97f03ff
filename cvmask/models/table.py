"""The table of known models, and where each of them comes from."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from cvmask.errors import ModelError

ORIGIN = "http://download.tensorflow.org/models/object_detection"
GRAPH_FILE = "frozen_inference_graph.pb"
CONFIG_FILE = "pipeline.config"


@dataclass(frozen=True)
class KnownModel:
    """One model that has a name.

    ``archive`` is the file's name at the source, None for the bundled model. ``archive_sha1`` and
    ``graph_sha1`` are binding. ``listed_sha256`` and ``archive_bytes`` are what the Open Model Zoo
    lists for the same file: good enough for a hint and for an estimate, not verified here.
    """

    name: str
    summary: str
    archive: str | None = None
    archive_bytes: int = 0
    archive_sha1: str | None = None
    graph_sha1: str | None = None
    listed_sha256: str | None = None

    @property
    def bundled(self) -> bool:
        return self.archive is None

    @property
    def folder_prefix(self) -> str:
        """How the archive's own top folder begins: the archive's name up to the date."""
        return (self.archive or "").split("_2018")[0]


_TABLE = (
    KnownModel("shapes", "bundled: small, real, eight shapes"),
    KnownModel(
        "coco",
        "Inception v2, 90 COCO classes, mask mAP 25; the default",
        archive="mask_rcnn_inception_v2_coco_2018_01_28.tar.gz",
        archive_bytes=177_817_887,
        archive_sha1="f8a920756744d0f7ee812b3ec2474979f74ab40c",
        graph_sha1="c8adff66a1e23e607f57cf1a7cfabad0faa371f9",
    ),
    KnownModel(
        "coco-resnet50",
        "ResNet-50 atrous, 90 COCO classes, mask mAP 29",
        archive="mask_rcnn_resnet50_atrous_coco_2018_01_28.tar.gz",
        archive_bytes=449_505_463,
        listed_sha256="f3741f099bdb414e172cc8cc41370213a41afd04d7aa970f7854f09a75172481",
    ),
    KnownModel(
        "coco-resnet101",
        "ResNet-101 atrous, 90 COCO classes, mask mAP 33",
        archive="mask_rcnn_resnet101_atrous_coco_2018_01_28.tar.gz",
        archive_bytes=661_899_639,
        listed_sha256="67ac8d5f0974753e9a5b04d36376e20b3be55b5dcd6ce43bc25aed6c5583709d",
    ),
    KnownModel(
        "coco-inception-resnet",
        "Inception-ResNet v2 atrous, 90 COCO classes, mask mAP 36; slow",
        archive="mask_rcnn_inception_resnet_v2_atrous_coco_2018_01_28.tar.gz",
        archive_bytes=727_390_102,
        listed_sha256="816afc8987c2152cbd0e24af3a6fb82086cea0645a38778884bd166c0d016bb5",
    ),
)
_BY_NAME = {model.name: model for model in _TABLE}
NAMES = tuple(_BY_NAME)


def known() -> tuple[KnownModel, ...]:
    """List the known models, the bundled one first."""
    return _TABLE


def get(name: str) -> KnownModel:
    """Look a known model up.

    Raises
    ------
    ModelError
        If there is none of that name; the message suggests the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise ModelError(f"no model is called {name!r}{suggestion(name)}: known are {', '.join(NAMES)}")


def suggestion(name: str) -> str:
    """Say which known model was probably meant: ``, did you mean 'coco'?``, or nothing."""
    # Users also type the zoo's own name of a model, with or without its ending.
    spellings = {model.name: model.name for model in _TABLE}
    spellings.update({model.archive[: -len(".tar.gz")]: model.name for model in _TABLE if model.archive})
    near = difflib.get_close_matches(name.lower().replace(".tar.gz", ""), spellings, n=1, cutoff=0.6)
    return f", did you mean {spellings[near[0]]!r}" if near else ""


def source_url(model: KnownModel) -> str:
    """Say where a model's archive is: under ``CVMASK_MIRROR`` if that is set, else at its origin.

    Raises
    ------
    ModelError
        If ``CVMASK_MIRROR`` is no http or https address, or holds a password.
    """
    mirror = os.environ.get("CVMASK_MIRROR", "").strip()
    if not mirror:
        return f"{ORIGIN}/{model.archive}"
    parts = urlsplit(mirror)
    if "@" in parts.netloc:
        raise ModelError("CVMASK_MIRROR holds a login, which is not supported: give an address without one")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ModelError(f"CVMASK_MIRROR is {mirror!r}, an address like https://host/folder was needed")
    return f"{mirror.rstrip('/')}/{model.archive}"


def is_offline() -> bool:
    """Say whether ``CVMASK_OFFLINE`` forbids the network."""
    return os.environ.get("CVMASK_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")
