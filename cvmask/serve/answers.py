"""Turn the bytes of a picture into the bytes of an answer; runs in the workers."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError, SourceError
from cvmask.formats.metadata import embed
from cvmask.results.arrays import label_of
from cvmask.results.detections import Detections
from cvmask.serve.pool import Worker
from cvmask.serve.problems import Problem
from cvmask.serve.view import JPEG_SIDE, Controls, paint
from cvmask.streams.sources.headers import ALL, read_header
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.picture_metadata import read_metadata
from cvmask.streams.sources.pillow import cure, pillow_reads

JSON, JPEG, PNG, BOTH = "application/json", "image/jpeg", "image/png", "multipart/form-data"
MASK_FORMATS = ("rle", "polygons", "none")
_LONGEST_ACCEPT = 1000
_SUFFIX = {JPEG: ".jpg", PNG: ".png"}


@dataclass(frozen=True)
class Wish:
    """What a client asks for its picture.

    Attributes
    ----------
    controls
        Thresholds, classes and looks.
    masks
        One of `MASK_FORMATS`.
    media_type
        `JSON`; `JPEG` or `PNG` for the annotated picture; `BOTH` for a form with JSON and PNG.
    shown_width
        See `paint`.
    """

    controls: Controls
    masks: str = "rle"
    media_type: str = JSON
    shown_width: int | None = None


def check_picture(data: bytes, max_pixels: int) -> None:
    """Check the header of a picture; raise Problem if it is unreadable or too large."""
    header = read_header(data)
    if header is None:
        got = f"{len(data)} bytes that start with {data[:8]!r}"
        raise Problem(415, f"the body must be a picture, such as a JPEG or PNG, got {got}", "send the file itself")
    by_pillow = pillow_reads(header.kind)
    if header.odd and not by_pillow:
        what = f"{header.kind} files" if header.odd == ALL else f"a {header.kind} {header.odd}"
        raise Problem(415, f"this server cannot read {what}", f"on the server: {cure(header.kind)}")
    if header.size_wh is None and by_pillow:
        return  # Pillow looks at the size before it decodes
    if header.size_wh is None or min(header.size_wh) < 1:
        raise Problem(422, f"this {header.kind} does not state its size", "it is damaged: send another")
    width, height = header.size_wh
    if width * height > max_pixels:
        detail = f"{width}x{height} pixels, the limit is {max_pixels}"
        raise Problem(413, detail, "scale it down: the network works on a smaller one anyway")


def answer(worker: Worker, data: bytes, wish: Wish, labels: Sequence[str], max_pixels: int) -> tuple[bytes, str]:
    """Decode, detect and encode; return the answer and its media type. Raise Problem if the picture is damaged."""
    try:
        image, warnings = decode_image(data, "the picture", max_pixels)
    except SourceError as error:
        raise Problem(422, str(error), "it is damaged: send another") from None
    height, width = image.shape[:2]
    if wish.media_type == JPEG and max(width, height) > JPEG_SIDE:
        detail = f"{width}x{height} pixels, a JPEG has at most {JPEG_SIDE} a side"
        raise Problem(422, detail, f"ask for {PNG}, or scale it down")
    controls = wish.controls
    try:
        found, spent_s = worker.find(image, controls.settings(), "api")
    except ModelError as error:
        raise Problem(422, str(error), "the model cannot take this picture: send one of another size") from None
    picture = b""
    if wish.media_type != JSON:
        kind = JPEG if wish.media_type == JPEG else PNG
        painted = paint(image, found, controls, labels, kind == PNG, wish.shown_width)
        picture = embed(encode(painted, kind), read_metadata(data))
        if wish.media_type == kind:
            return picture, kind
    fields = {
        "width": width,
        "height": height,
        "score_threshold": controls.score_threshold,
        "mask_threshold": controls.mask_threshold,
        "inference_ms": round(1000 * spent_s, 1),
        "warnings": list(warnings),
        "detections": objects_of(found, labels, wish.masks, controls.mask_threshold),
    }
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    return (text, JSON) if wish.media_type == JSON else _form(text, picture)


def _form(text: bytes, picture: bytes) -> tuple[bytes, str]:
    """Put both into a form, the parts `json` and `picture`; browsers and mail libraries read it."""
    boundary = secrets.token_hex(16)
    content = b""
    for name, kind, part in (("json", JSON, text), ('picture"; filename="annotated.png', PNG, picture)):
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: {kind}\r\n\r\n'
        content += head.encode() + part + b"\r\n"
    return content + f"--{boundary}--\r\n".encode(), f"{BOTH}; boundary={boundary}"


def objects_of(found: Detections, labels: Sequence[str], masks: str, threshold: float) -> list[dict[str, Any]]:
    """Return each object as values for JSON."""
    objects: list[dict[str, Any]] = [
        {
            "class_id": class_id,
            "label": label_of(class_id, labels),
            "score": round(score, 4),
            "box": [round(side, 2) for side in box],
        }
        for class_id, score, box in zip(found.class_id.tolist(), found.confidence.tolist(), found.xyxy.tolist())
    ]
    if masks == "rle":
        for one, rle in zip(objects, found.rle(threshold)):
            one["rle"] = rle
    elif masks == "polygons":
        for one, parts in zip(objects, found.polygons(threshold)):
            one["polygons"] = [
                {"outline": part.outline.tolist(), "holes": [hole.tolist() for hole in part.holes]} for part in parts
            ]
    return objects


def encode(image: NDArray[np.uint8], media_type: str) -> bytes:
    """Encode a picture, BGR or BGRA."""
    return cv2.imencode(_SUFFIX[media_type], image)[1].tobytes()


def choose_media_type(accept: str) -> str:
    """Choose the media type by an Accept header; Problem 406 if it accepts none."""
    best, best_q = "", 0.0
    # Browsers send about 100 characters.
    accept = accept[:_LONGEST_ACCEPT]
    for part in accept.split(",") if accept.strip() else ["*/*"]:
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        q = next((_quality(one[2:]) for one in parameters if one.startswith("q=")), 1.0)
        offered = {"*/*": JSON, "application/*": JSON, "image/*": JPEG}.get(name, name)
        if offered in (JSON, JPEG, PNG, BOTH) and q > best_q:
            best, best_q = offered, q
    if not best:
        cure = f"accept {JSON}, {JPEG}, {PNG} or {BOTH}"
        raise Problem(406, f"Accept: {accept[:100]} names nothing that there is", cure)
    return best


def _quality(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
