"""The known models: their table, their place in the cache, finding and removing them."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable
from urllib.parse import urlsplit

from cvmask.errors import CvmaskError, ModelError
from cvmask.models.fetch import Part
from cvmask.system import folders
from cvmask.system.files import locked, size_text, writing_to
from cvmask.system.folders import cache_home

ORIGIN = "https://storage.googleapis.com/download.tensorflow.org/models/object_detection"
PLAIN_ORIGIN = "http://download.tensorflow.org/models/object_detection"
"""The same files for networks that block https; used only for models with a known hash."""
GRAPH_FILE = "frozen_inference_graph.pb"
CONFIG_FILE = "pipeline.config"


@dataclass(frozen=True)
class KnownModel:
    """One known model.

    ``archive`` is the file's name at the source, None for the bundled model. ``archive_sha1`` and
    ``graph_sha1`` are binding. ``listed_sha256`` and ``archive_bytes`` are what the Open Model Zoo
    lists for the same file: hints that are not verified here.
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
        """The start of the name of the archive's top folder: the archive's name up to the date."""
        return (self.archive or "").split("_2018")[0]


_TABLE = (
    KnownModel("people", "bundled: people, near and in middle distance; box AP50 64, mask AP50 63"),
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
    """Look up a known model.

    Raises
    ------
    ModelError
        If there is none of that name; the message suggests the most similar.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise ModelError(f"there is no model {name!r}{suggestion(name)}: known are {', '.join(NAMES)}")


def suggestion(name: str) -> str:
    """Return which known model was probably meant, ``, did you mean 'coco'?``, or an empty text."""
    # Users also type the zoo's own name of a model, with or without its ending.
    spellings = {model.name: model.name for model in _TABLE}
    spellings.update({model.archive[: -len(".tar.gz")]: model.name for model in _TABLE if model.archive})
    near = difflib.get_close_matches(name.lower().replace(".tar.gz", ""), spellings, n=1, cutoff=0.6)
    return f", did you mean {spellings[near[0]]!r}" if near else ""


def source_urls(model: KnownModel) -> list[str]:
    """Return the addresses of a model's archive, best first: under ``CVMASK_MIRROR`` if it is set, else the origin's.

    Raises
    ------
    ModelError
        If ``CVMASK_MIRROR`` is not an http or https address, or contains a login.
    """
    mirror = os.environ.get("CVMASK_MIRROR", "").strip()
    if not mirror:
        is_known = model.archive_sha1 is not None or model.listed_sha256 is not None
        return [f"{origin}/{model.archive}" for origin in ([ORIGIN, PLAIN_ORIGIN] if is_known else [ORIGIN])]
    parts = urlsplit(mirror)
    if "@" in parts.netloc:
        raise ModelError("CVMASK_MIRROR contains a login, which is not supported: give an address without one")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ModelError(f"CVMASK_MIRROR is {mirror!r}, needed an address like https://host/folder")
    return [f"{mirror.rstrip('/')}/{model.archive}"]


def is_offline() -> bool:
    """Return True if ``CVMASK_OFFLINE`` forbids the network."""
    return os.environ.get("CVMASK_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


@dataclass(frozen=True)
class Places:
    """The paths of one model in the cache."""

    folder: Path
    record: Path
    lock: Path
    part: Path


def places(model: KnownModel) -> Places:
    """Return the cache paths of a model, whether they exist or not."""
    models, downloads = cache_home() / "models", cache_home() / "downloads"
    return Places(
        folder=models / model.name,
        record=models / f"{model.name}.json",
        lock=downloads / f"{model.name}.lock",
        part=downloads / f"{model.archive}.part",
    )


def find(name: str) -> Path | None:
    """Return a known model's folder; None if it is not installed.

    Raises
    ------
    ModelError
        If there is no model of that name.
    """
    model = get(name)
    if not model.bundled:
        folder = places(model).folder
    else:
        try:
            folder = folders.path(f"models/{name}")
        except CvmaskError:
            return None
    return folder if (folder / GRAPH_FILE).is_file() else None


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the existing path, a folder or a file, for a user's name or path of a model.

    A name of the zoo takes precedence over a file or folder of that name; for those give ``./name`` or a Path.

    Raises
    ------
    ModelError
        If a known model is not installed, or there is neither a model nor a file of that name.
    """
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise TypeError(f"model must be a name, a folder or a .pb file, got {type(name_or_path).__name__}")
    text = os.fspath(name_or_path)
    if text in NAMES and isinstance(name_or_path, str):
        folder = find(text)
        if folder is None:
            raise ModelError(missing_text(get(text)))
        return folder
    path = Path(os.path.expanduser(text))
    if text and _exists(path):
        return path
    if os.path.islink(path):
        raise ModelError(f"the model {text!r} is a link to {os.readlink(path)}, which does not exist")
    if len(path.parts) > 1 or path.suffix:
        raise ModelError(f"the model {text!r} does not exist (looked at {path.absolute()})")
    raise ModelError(
        f"there is no model and no file {text!r}{suggestion(text)}: known are {', '.join(NAMES)}; "
        "or give a folder or a .pb file"
    )


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        raise ModelError(f"no permission to read the model {path}") from None
    except (OSError, ValueError):
        return False
    return True


def missing_text(model: KnownModel) -> str:
    """Return one line that says how to get a known model."""
    if model.bundled:
        return f"the bundled model {model.name!r} is missing from this installation: reinstall cvmask"
    other = ", or use '-m people', which is bundled and detects people" if find("people") else ""
    return (
        f"model {model.name!r} is not installed: run 'cvmask models download {model.name}' "
        f"({size_text(model.archive_bytes)}){other}"
    )


def remove(name: str, *, forget: bool = False, say: Callable[[str], None] | None = None) -> list[Path]:
    """Remove a downloaded model and the remains of an interrupted download.

    Parameters
    ----------
    forget
        Remove the record of the first download too: the next download is then not compared with it.
    say
        Called with a line before waiting for another process.

    Returns
    -------
    The paths that were removed.

    Raises
    ------
    ModelError
        If it is unknown or bundled, or cannot be removed.
    """
    model = get(name)
    if model.bundled:
        raise ModelError(f"model {name!r} is bundled with the package and cannot be removed")
    at = places(model)
    wanted = [at.folder, at.part, *([at.record] if forget else [])]
    gone = [path for path in wanted if path.exists() or path.is_symlink()]
    if gone:
        waiting = f"another process is downloading model {name!r}: waiting for it"
        with locked(at.lock, lambda: say(waiting) if say else None), writing_to(cache_home()):
            for path in gone:
                _remove(path)
            Part(at.part).discard()
    return gone


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Renamed first, so that nobody finds a half-removed model.
    with suppress(FileNotFoundError):
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        os.replace(path, aside / path.name)
        shutil.rmtree(aside)
