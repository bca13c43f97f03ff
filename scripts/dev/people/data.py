"""Training pictures: photographs with people and without, cut, mixed and distorted.

Boxes are float32 (x1, y1, x2, y2) here, in pixels of the picture, edges at whole numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from cvmask import scenes

from . import config as c

# Others in these pictures are not labelled: only what is labelled is known.
PARTLY_LABELLED = ("clothing-co-parsing", "PennFudan")
HELD_OUT, HELD_OUT_EMPTY = 160, 70
# Of the samples: drawn from partly labelled pictures, and without a person of their own; of the latter, some get
# persons pasted in.
PARTLY, EMPTY, PASTED = 0.18, 0.30, 0.35
MIN_SIDE = 14  # smaller persons are neither learned nor held against the network


@dataclass(frozen=True)
class Person:
    """One person: its box, and its mask (h, w) of 0 and 1 where there is one; `unsure` ones are left out."""

    box: np.ndarray
    mask: np.ndarray | None = None
    unsure: bool = False


@dataclass(frozen=True)
class Picture:
    """One entry of the data set."""

    path: Path
    size_wh: tuple[int, int]
    annotations: tuple[dict[str, Any], ...] = field(repr=False)
    partly: bool
    unseen: bool

    def read(self) -> np.ndarray:
        """uint8 (h, w, 3) BGR."""
        image = cv2.imread(str(self.path))
        if image is None:
            raise SystemExit(f"{self.path}: cannot be read")
        return image

    def persons(self) -> list[Person]:
        width, height = self.size_wh
        found = []
        for a in self.annotations:
            x, y, w, h = a["bbox"]
            box = np.array([x, y, x + w, y + h], np.float32)
            segmentation = a.get("segmentation")
            mask = None if not segmentation or a["iscrowd"] else _decode(segmentation, height, width)
            found.append(Person(box, mask, bool(a["iscrowd"])))
        return found

    @property
    def fully_masked(self) -> bool:
        return all(a.get("segmentation") for a in self.annotations)


def _decode(segmentation: Any, height: int, width: int) -> np.ndarray:
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(segmentation)


@dataclass(frozen=True)
class Pictures:
    """The data set, split."""

    people: list[Picture]
    partly: list[Picture]
    empty: list[Picture]
    held_out: list[Picture]
    held_out_empty: list[Picture]


def read_pictures(folder: Path) -> Pictures:
    """Split by a fixed shuffle; held out are fully masked pictures that the backbone has not seen, and empty ones."""
    data = json.loads((folder / "instances.json").read_text())
    by_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in data["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    pictures = [
        Picture(
            folder / "pictures" / image["file_name"],
            (image["width"], image["height"]),
            tuple(by_image.get(image["id"], ())),
            image["source"].endswith(PARTLY_LABELLED),
            image["val2017"],
        )
        for image in sorted(data["images"], key=lambda image: image["file_name"])
    ]
    np.random.default_rng(27).shuffle(pictures)
    empty = [p for p in pictures if not p.annotations]
    whole = [p for p in pictures if p.annotations and not p.partly]
    held_out = [p for p in whole if p.unseen and p.fully_masked][:HELD_OUT]
    kept = {p.path for p in held_out}
    return Pictures(
        people=[p for p in whole if p.path not in kept],
        partly=[p for p in pictures if p.partly],
        empty=empty[HELD_OUT_EMPTY:],
        held_out=held_out,
        held_out_empty=empty[:HELD_OUT_EMPTY],
    )


class Mixer:
    """Makes samples: a picture of SIZE x SIZE, its persons, and whether others may be in it unlabelled."""

    def __init__(self, pictures: Pictures, more_empty: list[Path]):
        self.pictures = pictures
        self.more_empty = more_empty
        masked = [p for p in pictures.people if any(a.get("segmentation") for a in p.annotations)]
        self._donors = pictures.partly + masked

    def sample(self, rng: np.random.Generator) -> tuple[np.ndarray, list[Person], bool]:
        partly = False
        kind = rng.random()
        if kind < EMPTY:
            image, persons = self._empty(rng), []
            if rng.random() < PASTED:
                image, persons = self._paste(image, rng)
        else:
            partly = kind < EMPTY + PARTLY
            picture = _pick(self.pictures.partly if partly else self.pictures.people, rng)
            image, persons = picture.read(), picture.persons()
        image, persons = cut(image, persons, rng)
        return distort(image, rng), persons, partly

    def _empty(self, rng: np.random.Generator) -> np.ndarray:
        """A picture without a person."""
        kind = rng.random()
        if kind < 0.1:
            size = (int(rng.integers(200, 600)), int(rng.integers(200, 600)))
            return scenes.make_scene(int(rng.integers(1 << 30)), size, objects=int(rng.integers(0, 8))).image
        if kind < 0.2 and self.more_empty:
            image = cv2.imread(str(_pick(self.more_empty, rng)))
            scale = min(1.0, 640 / max(image.shape[:2]))
            return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        if kind < 0.45:
            picture = _pick(self.pictures.people, rng)
            found = without_people(picture, rng)
            if found is not None:
                return found
        return _pick(self.pictures.empty, rng).read()

    def _paste(self, image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[Person]]:
        """Persons with masks from other pictures, each in front of those before it."""
        image, persons = image.copy(), []
        for _ in range(int(rng.integers(1, 4))):
            picture = _pick(self._donors, rng)
            masked = [p for p in picture.persons() if p.mask is not None and p.mask.sum() > 2500]
            if masked:
                donor = masked[rng.integers(len(masked))]
                persons = paste_(image, persons, picture.read(), donor, rng)
        return image, persons


def _pick(items: list[Any], rng: np.random.Generator) -> Any:
    return items[rng.integers(len(items))]


def without_people(picture: Picture, rng: np.random.Generator) -> np.ndarray | None:
    """A part of the picture that touches no box; None where a few tries find none."""
    width, height = picture.size_wh
    boxes = np.array([[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in picture.annotations)])
    for _ in range(12):
        w, h = rng.uniform(0.3, 0.8) * width, rng.uniform(0.3, 0.8) * height
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
        apart = (boxes[:, 2] + 4 < x) | (boxes[:, 0] - 4 > x + w) | (boxes[:, 3] + 4 < y) | (boxes[:, 1] - 4 > y + h)
        if apart.all():
            return picture.read()[int(y) : int(y + h), int(x) : int(x + w)].copy()
    return None


def paste_(
    image: np.ndarray, persons: list[Person], source: np.ndarray, donor: Person, rng: np.random.Generator
) -> list[Person]:
    """Put the donor into the image; give the persons that are then in it."""
    assert donor.mask is not None
    height, width = image.shape[:2]
    ys, xs = np.nonzero(donor.mask)
    part = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    mask, pixels = donor.mask[part].astype(np.float32), source[part]
    cut_off = ys.max() >= source.shape[0] - 3  # stands on the picture's edge: it has to here, too
    scale = height * np.exp(rng.uniform(np.log(0.25), np.log(1.3))) / mask.shape[0]
    w, h = max(8, round(mask.shape[1] * scale)), max(8, round(mask.shape[0] * scale))
    mask, pixels = cv2.resize(mask, (w, h)), cv2.resize(pixels, (w, h))
    if rng.random() < 0.5:
        mask, pixels = mask[:, ::-1], pixels[:, ::-1]
    x = int(rng.integers(-w // 3, max(width - 2 * w // 3, 1 - w // 3)))
    y = height - h if cut_off else int(rng.integers(-h // 6, max(height - h // 2, 1 - h // 6)))
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if min(x2 - x1, y2 - y1) < 8:
        return persons
    inner = np.s_[y1 - y : y2 - y, x1 - x : x2 - x]
    alpha = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 1.2))[inner][..., None]
    pixels = np.clip(pixels[inner] * rng.uniform(0.75, 1.25) + rng.uniform(-15, 15), 0, 255)
    target = image[y1:y2, x1:x2]
    target[:] = (target * (1 - alpha) + pixels * alpha).astype(np.uint8)
    whole = np.zeros((height, width), np.uint8)
    whole[y1:y2, x1:x2] = mask[inner] > 0.5
    left = [_covered(person, whole) for person in persons]
    return [p for p in left if p is not None] + [Person(_extent(whole), whole)] if whole.any() else persons


def _covered(person: Person, front: np.ndarray) -> Person | None:
    assert person.mask is not None
    mask = person.mask & ~front & 1
    if mask.sum() < 30:
        return None
    return Person(_extent(mask), mask, person.unsure or mask.sum() < 0.35 * person.mask.sum())


def _extent(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def cut(
    image: np.ndarray, persons: list[Person], rng: np.random.Generator
) -> tuple[np.ndarray, list[Person]]:
    """The picture, or at 0.6 to 2.2 times a part of it, as SIZE x SIZE, perhaps mirrored."""
    matrix = _placement(image.shape[1], image.shape[0], persons, rng)
    # Matrices move edges; cv2 moves the middles of pixels, half a pixel to the right and below.
    middles = matrix.copy()
    middles[:, 2] += 0.5 * (matrix[:, 0] + matrix[:, 1]) - 0.5
    size = (c.SIZE, c.SIZE)
    border = tuple(int(v) for v in rng.integers(0, 256, 3))
    warped = cv2.warpAffine(image, middles, size, flags=cv2.INTER_LINEAR, borderValue=border)
    found = [_moved(person, matrix, middles) for person in persons]
    return warped, [person for person in found if person is not None]


def _placement(width: int, height: int, persons: list[Person], rng: np.random.Generator) -> np.ndarray:
    """The matrix (2, 3) that takes the picture to the sample."""
    near_whole = rng.random() < 0.4
    zoom = rng.uniform(0.95, 1.1) if near_whole else np.exp(rng.uniform(np.log(0.6), np.log(2.2)))
    stretch = np.exp(rng.normal(0, 0.15))
    sx, sy = c.SIZE / width * zoom * stretch, c.SIZE / height * zoom / stretch
    spare = np.array([c.SIZE - width * sx, c.SIZE - height * sy])
    offset = rng.uniform(np.minimum(spare, 0), np.maximum(spare, 0))
    if persons and rng.random() < 0.6:  # where the picture is larger than the sample, rather where a person is
        box = persons[rng.integers(len(persons))].box
        place = box[:2] + rng.uniform((0.2, 0.05), (0.8, 0.7)) * (box[2:] - box[:2])
        aimed = c.SIZE * rng.uniform(0.3, 0.7, 2) - place * (sx, sy)
        offset = np.where(spare < 0, np.clip(aimed, spare, 0), offset)
    if rng.random() < 0.5:
        return np.array([[-sx, 0, c.SIZE - offset[0]], [0, sy, offset[1]]])
    return np.array([[sx, 0, offset[0]], [0, sy, offset[1]]])


def _moved(person: Person, matrix: np.ndarray, middles: np.ndarray) -> Person | None:
    """The person in the sample; None where nothing of it is there."""
    corners = person.box.reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    whole = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    box = np.clip(whole, 0, c.SIZE)
    size, visible = np.prod(whole[2:] - whole[:2]), np.prod(box[2:] - box[:2])
    if visible <= 0:
        return None
    mask = None
    if person.mask is not None:
        mask = (
            cv2.warpAffine(person.mask * np.uint8(255), middles, (c.SIZE, c.SIZE), flags=cv2.INTER_LINEAR) > 127
        ).astype(np.uint8)
        if mask.sum() < 30:
            return replace(person, box=box, mask=None, unsure=True)
        box = _extent(mask)
    tiny = (box[2:] - box[:2]).max() < MIN_SIDE or (box[2:] - box[:2]).min() < 5
    return Person(box, mask, person.unsure or tiny or visible < 0.15 * size)


def distort(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Light, colour, blur, noise and compression as cameras have them."""
    x = image.astype(np.float32)
    x = (x - 128) * rng.uniform(0.65, 1.35) + 128 + rng.uniform(-30, 30)
    x *= rng.uniform(0.88, 1.12, 3)
    if rng.random() < 0.12:  # a dark room
        x *= rng.uniform(0.3, 0.7)
    if rng.random() < 0.1:
        x[:] = x.mean(2, keepdims=True)
    if rng.random() < 0.2:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.4, 1.8))
    if rng.random() < 0.25:
        x += rng.normal(0, rng.uniform(2, 12), x.shape)
    x = np.clip(x, 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        _, packed = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        x = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return x


def stream(mixer: Mixer, seed: int) -> Iterator[tuple[np.ndarray, list[Person], bool]]:
    """Samples without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield mixer.sample(rng)
