"""The newest picture and its state, for any number of viewers."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.captions import text_height_px
from cvmask.drawing.draw import MOST_PX, draw
from cvmask.drawing.effects import EFFECTS, HIDING_MARGIN, make_effect
from cvmask.results.classes import class_ids
from cvmask.results.detections import Detections
from cvmask.serve.metrics import Metrics

JPEG_QUALITY = 85
JPEG_SIDE = 65_500


class View:
    """Holds the newest message; it is made once, however many take it.

    A message is a header and a JPEG: 4 bytes with the length of the header (big endian), the header
    as JSON, the JPEG (no bytes if there is no picture yet).

    Attributes
    ----------
    on_first
        Called before the first viewer comes.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # The first is held during encoding; the loop never waits for it.
        self._lock, self._viewers_lock = threading.Lock(), threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._image: NDArray[np.uint8] | None = None
        self._jpeg: bytes | None = None
        self._status: Mapping[str, Any] = {}
        self._message: bytes | None = None
        self.version = 0
        self.on_first: Callable[[], None] = lambda: None

    @property
    def viewers(self) -> int:
        """How many look on."""
        return len(self._waiting)

    def show(self, image: NDArray[np.uint8], status: Mapping[str, Any]) -> None:
        """Show another picture, shape (height, width, 3), BGR. From any thread."""
        with self._lock:
            self._image, self._jpeg = image, None
        self.tell(status)

    def clear(self, status: Mapping[str, Any]) -> None:
        """Show no picture: the last one is out of date. From any thread."""
        with self._lock:
            self._image = self._jpeg = None
        self.tell(status)

    def tell(self, status: Mapping[str, Any]) -> None:
        """Change the state of the picture shown. From any thread."""
        with self._lock:
            self._status, self._message = status, None
            self.version += 1
        with self._viewers_lock:
            waiting = list(self._waiting)
        if waiting:
            self.newest()
        for loop, event in waiting:
            # The event loop may have ended meanwhile, with all its waiting tasks.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def newest(self) -> tuple[int, bytes]:
        """Return the newest message and its version; encode the picture if this is the first request for it."""
        with self._lock:
            if self._message is None:
                text = json.dumps(self._status, ensure_ascii=False, separators=(",", ":"))
                # For file names that are not UTF-8: their replacement is a JSON escape too.
                header = text.encode("utf-8", "backslashreplace")
                self._message = b"".join([struct.pack(">I", len(header)), header, self._encoded()])
            return self.version, self._message

    def ready(self) -> tuple[int, bytes] | None:
        """Return the newest message if it is ready and none is being made."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return None if self._message is None else (self.version, self._message)
        finally:
            self._lock.release()

    @contextmanager
    def viewer(self) -> Iterator[asyncio.Event]:
        """Count as a viewer while the block runs; the event is set when there is a new message."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        if not self._waiting:
            self.on_first()
        with self._viewers_lock:
            self._waiting.add(entry)
        try:
            yield entry[1]
        finally:
            with self._viewers_lock:
                self._waiting.discard(entry)

    def _encoded(self) -> bytes:
        if self._image is None:
            return b""
        if self._jpeg is None:
            _, buffer = cv2.imencode(".jpg", _fit(self._image), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            self._jpeg = buffer.tobytes()
            self._metrics.count("encodings_total")
        return self._jpeg


def _fit(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a picture that is too wide or too high for a JPEG."""
    height, width = image.shape[:2]
    scale = JPEG_SIDE / max(width, height)
    if scale >= 1:
        return image
    size_wh = max(1, int(width * scale)), max(1, int(height * scale))
    return cast("NDArray[np.uint8]", cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA))


NO_EFFECT = "none"
EFFECT_NAMES = (NO_EFFECT, *EFFECTS)
COLOR_MODES = ("class", "instance")
_SHARES = ("score_threshold", "mask_threshold", "opacity")


_LONGEST_NAME = 200


def _short(value: Any) -> str:
    """Return a received value for a message, shortened."""
    return repr(value)[:100]


@dataclass(frozen=True)
class Controls:
    """The settings of a view: what is shown, and how.

    Attributes
    ----------
    score_threshold, mask_threshold, opacity
        From 0 to 1.
    classes
        Ids to show; None for all.
    color_by
        One of `COLOR_MODES`.
    effect
        One of `EFFECT_NAMES`.

    Raises
    ------
    ValueError
        If a value is out of range.
    """

    score_threshold: float = 0.5
    mask_threshold: float = 0.5
    opacity: float = 0.45
    classes: tuple[int, ...] | None = None
    color_by: str = "class"
    effect: str = NO_EFFECT

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number from 0 to 1, got {_short(value)}")
        for name, choices in (("color_by", COLOR_MODES), ("effect", EFFECT_NAMES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {_short(getattr(self, name))}")

    def changed(self, fields: Mapping[str, Any], labels: Sequence[str]) -> Controls:
        """Give these with some values replaced; `classes` are names or ids. ValueError names what is wrong."""
        known = {field.name for field in dataclasses.fields(self)}
        if not set(fields) <= known:
            raise ValueError(f"there is no control {_short(sorted(set(fields) - known)[0])}")
        fields = dict(fields)
        wanted = fields.get("classes")
        if wanted is not None:
            if not isinstance(wanted, (list, tuple)):
                raise ValueError(f"classes must be a list of names or ids, got {_short(wanted)}")
            if not all(isinstance(one, (str, int)) for one in wanted):
                raise ValueError("classes must be a list of names or ids, got something else in it")
            # Each class may be given as a name and as an id.
            wanted, most = set(wanted), 2 * len(labels)
            if len(wanted) > most:
                raise ValueError(f"classes must be names or ids of the {len(labels)} labels, got {len(wanted)} of them")
            if any(len(str(one)) > _LONGEST_NAME for one in wanted):
                raise ValueError(f"a class must be a name of at most {_LONGEST_NAME} characters, or an id")
            fields["classes"] = class_ids(wanted, labels)
        return dataclasses.replace(self, **fields)

    def settings(self) -> dict[str, Any]:
        """Return the settings in which the model must differ from its own: fields of `runtime.model.Settings`."""
        return {name: getattr(self, name) for name in ("score_threshold", "mask_threshold", "classes")}

    def keep(self, detections: Detections) -> Detections:
        """Return the detections to show."""
        wanted = detections.confidence > self.score_threshold
        if self.classes is not None:
            wanted &= np.isin(detections.class_id, self.classes)
        return detections[wanted]


# Capitals of this height, in pixels of the screen, can be read on a phone.
_READABLE_PX = 9


def paint(
    image: NDArray[np.uint8],
    shown: Detections,
    controls: Controls,
    labels: Sequence[str],
    transparent: bool = False,
    shown_width: int | None = None,
) -> NDArray[np.uint8]:
    """Make the picture from the detections that `Controls.keep` returned.

    Parameters
    ----------
    shown_width
        How wide the picture will be on the screen, in pixels; labels are drawn large enough to be read there.
        None: as wide as it is.

    Returns
    -------
    Shape (height, width, 3), BGR. Without a background it is green there; BGRA where `transparent`.
    """
    threshold = controls.mask_threshold
    if controls.effect != NO_EFFECT:
        effect = make_effect(
            controls.effect, mask_threshold=threshold, alpha=transparent, margin=HIDING_MARGIN
        )
        return effect(image, shown)
    if not len(shown):
        return image
    if controls.color_by == "class":
        shown = dataclasses.replace(shown, tracker_id=None)
    return draw(
        image,
        shown,
        labels=labels,
        color_by=controls.color_by,
        opacity=controls.opacity,
        mask_threshold=threshold,
        text_px=_text_px(image, shown_width),
    )


def _text_px(image: NDArray[np.uint8], shown_width: int | None) -> int | None:
    """Choose the height of capitals if the usual one cannot be read; None if it can."""
    if shown_width is None:
        return None
    needed = _READABLE_PX * image.shape[1] / shown_width
    return None if needed <= text_height_px(image.shape[:2]) else min(MOST_PX, round(needed))
