"""What a user means by the name of a source."""

from __future__ import annotations

import glob
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable

import numpy as np

from cvmask.errors import SourceError
from cvmask.streams.sources.capture import check_name
from cvmask.streams.sources.headers import picture_kind
from cvmask.streams.sources.http import FILE, LIVE, MJPEG, PLAYLIST, HttpStream, live_playlist, without_password
from cvmask.streams.sources.image_source import (
    MAX_PIXELS,
    RARE_SUFFIXES,
    SUFFIXES,
    Images,
    Still,
    decode_image,
    find_images,
)
from cvmask.streams.sources.live import Camera, Connection, FfmpegConnection, Newest, Stream
from cvmask.streams.sources.mjpeg import DamagedCount, Stdin
from cvmask.streams.sources.moving import Animation, NumberedFrames, is_animation, is_numbered
from cvmask.streams.sources.picture_metadata import read_metadata
from cvmask.streams.sources.source import Notify, Source, ignore, local_path
from cvmask.streams.sources.video_source import Video

CAMERA, STDIN, ADDRESS, STREAM = "camera", "standard input", "address", "stream"
_LARGEST_PICTURE_BYTES = 256 << 20
_SEGMENTS = 3
_FILE_TIMEOUT_S = 10.0
# OpenCV has 31 bits for them.
_LONGEST_CAMERA_NUMBER = 9


def open_source(
    place: str | int | os.PathLike[str],
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    stride: int = 1,
    every_frame: bool = False,
    size_wh: tuple[int, int] | None = None,
    frame_rate: Fraction | None = None,
    retries: int = 10,
    timeout_s: float = 1.5,
    max_pixels: int = MAX_PIXELS,
    on_message: Notify = ignore,
    on_error: Callable[[SourceError], None] | None = None,
) -> Source:
    """Open the source that `place` names.

    Parameters
    ----------
    place
        A picture, a folder of pictures, a pattern (``in/*.jpg``), a video, an animated GIF, PNG or WebP (with
        Pillow), numbered frames (``frame_%04d.png``, or a folder and `frame_rate`), a camera (``0``, ``1``,
        ``/dev/video0``), a network stream (``rtsp://``, ``http://`` and others that FFmpeg knows), or
        ``-``: frames on standard input. ``file:///folder/name`` is the file.
    start_s, end_s, stride
        Which part of a video; see `Video`.
    every_frame
        Give every frame of a live source, however late; otherwise always the newest.
    size_wh, frame_rate
        For standard input: the size of raw frames (None: JPEGs), and frames a second. The rate is also used for
        numbered frames.
    retries, timeout_s
        For network streams: attempts in a row before one is given up, and how long a stream may send nothing; the
        latter is at least 10 s for a file at an address, and three segments for live HLS. `close` never waits for a
        server.
    max_pixels
        Pictures with more are refused.
    on_message
        Called with one line for each thing that the user should know; from any thread.
    on_error
        Called for each picture that cannot be read, and the next one follows; None: it is raised.

    Raises
    ------
    SourceError
        If there is no such thing, or it cannot be opened; the message names it.
    """
    if isinstance(place, np.ndarray):
        raise TypeError("source must be a file, an address or a camera's number, got an array: give it to model.detect")
    if not isinstance(place, (str, int, os.PathLike)):
        cure = ": one at a time" if isinstance(place, (list, tuple)) else ""
        raise TypeError(f"source must be a file, an address or a camera's number, got {type(place).__name__}{cure}")
    if place == "":
        raise SourceError("source must be a file, an address or a camera's number, got an empty text")
    part: dict[str, Any] = {"start_s": start_s, "end_s": end_s, "stride": stride}
    name = local_path(os.fspath(place)) if not isinstance(place, int) else str(place)
    live = live_kind(name)
    if live or "\0" in name:  # pictures are read by Python, which takes any other name
        check_name(name)
    if live == CAMERA:
        return _live(Camera(_camera_number(name) if name.isdigit() else name), every_frame)
    if live == STDIN:
        return Stdin(size_wh, frame_rate, on_message=on_message)
    if live in (ADDRESS, STREAM):
        return _open_address(name, every_frame, retries, timeout_s, max_pixels, part, on_message)
    if is_numbered(name) or (os.path.isdir(name) and frame_rate is not None):
        return NumberedFrames(name, frame_rate, **part, max_pixels=max_pixels, on_message=on_message)
    if os.path.isdir(name) or is_pattern(name):
        return Images(find_images(name), name=name, max_pixels=max_pixels, on_error=on_error)
    if is_animation(name):
        return Animation(name, **part, max_pixels=max_pixels, on_message=on_message)
    if is_picture(name):
        return Images([name], max_pixels=max_pixels, on_error=on_error)
    return Video(name, **part, on_message=on_message)


def live_kind(name: str) -> str:
    """Return what a name looks like: a camera, standard input, a stream, or an http address; "" for a file or folder.

    Only the server knows what an http address is.
    """
    if (name.isascii() and name.isdigit()) or name.startswith("/dev/video"):
        return CAMERA
    if name == "-":
        return STDIN
    if "://" not in local_path(name):
        return ""
    return ADDRESS if name.startswith(("http://", "https://")) else STREAM


def is_pattern(name: str) -> bool:
    """Tell whether a name is a glob pattern: it has a wildcard, and no file is called so."""
    return glob.has_magic(name) and not os.path.exists(name)


def is_picture(name: str) -> bool:
    """Tell whether a file is a picture, by its ending or else by its first bytes."""
    name = local_path(name)
    return Path(name).suffix.lower() in (*SUFFIXES, *RARE_SUFFIXES) or bool(picture_kind(name))


def _open_address(
    name: str,
    every_frame: bool,
    retries: int,
    timeout_s: float,
    max_pixels: int,
    part: dict[str, Any],
    on_message: Notify,
) -> Source:
    if name.lower().startswith("file:"):
        raise SourceError(f"{name}: a file of another machine cannot be read; of this one it is file:///folder/name")
    if not name.startswith(("http://", "https://")):
        stream = Stream(
            name, lambda: FfmpegConnection(name, timeout_s), retries=retries, on_message=on_message
        )
        return _live(stream, every_frame)
    # One connection to see what it is; a stream of JPEGs goes on with it.
    damaged = DamagedCount(without_password(name), on_message)
    first = _answer(name, timeout_s, damaged.add)
    connect: Callable[[], Connection] | None = None
    try:
        form = first.form()
        if form == FILE and first.content_type.startswith("image/"):
            _tell_unused(first.name, "picture", part, on_message)
            data = first.read(_LARGEST_PICTURE_BYTES)
            first.close()
            image, warnings = decode_image(data, first.name, max_pixels)
            return Still(image, first.name, warnings, read_metadata(data))
        if form == LIVE:
            connect = lambda: FfmpegConnection(name, timeout_s)  # noqa: E731
        elif form == PLAYLIST and (segment_s := live_playlist(first, name, timeout_s)) is not None:
            # A segment comes all at once, and nothing comes while it is made.
            limit_s = max(timeout_s, _SEGMENTS * max(segment_s, 1))
            connect = lambda: FfmpegConnection(name, limit_s, paced=True)  # noqa: E731
    except BaseException:
        first.close()
        raise
    if form == MJPEG:
        waiting = [first]
        connect = lambda: waiting.pop() if waiting else HttpStream(name, timeout_s, damaged.add)  # noqa: E731
    else:
        first.close()
    if connect is None:
        return Video(name, **part, timeout_s=max(timeout_s, _FILE_TIMEOUT_S), on_message=on_message)
    _tell_unused(first.name, "stream", part, on_message)
    stream = Stream(name, connect, retries=retries, on_message=on_message, damaged=lambda: damaged.count)
    return _live(stream, every_frame)


def _camera_number(name: str) -> int:
    if len(name) > _LONGEST_CAMERA_NUMBER:
        raise SourceError(f"no camera {name}: cameras are numbered from 0")
    return int(name)


def _tell_unused(name: str, what: str, part: dict[str, Any], on_message: Notify) -> None:
    if part != {"start_s": 0.0, "end_s": None, "stride": 1}:
        on_message(f"{name}: start, end and stride do not apply to a {what}: all of it is read")


def _answer(name: str, timeout_s: float, on_damaged: Callable[[], None]) -> HttpStream:
    try:
        return HttpStream(name, timeout_s, on_damaged)
    except OSError as error:
        raise SourceError(f"{without_password(name)}: cannot be reached: {error}") from None


def _live(source: Source, every_frame: bool) -> Source:
    return source if every_frame else Newest(source)
