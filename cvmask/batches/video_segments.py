"""Split videos into segments that can be decoded separately, and read a segment."""

from __future__ import annotations

import atexit
import bisect
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cvmask.batches.storage import LOCAL, StoragePath, one_line
from cvmask.batches.work_items import VideoSegment
from cvmask.errors import SourceError
from cvmask.streams.sources.capture import FileCapture, length_of, open_file
from cvmask.streams.sources.source import Frame
from cvmask.streams.sources.video_source import Video
from cvmask.system.files import locked

# Times that OpenCV gives for one frame differ by rounding only; frames are never so close to each other.
_SAME_MS = 0.005
_STEPS_BACK_MS = (0.0, 2000.0, 20000.0)


def cut(path: str, least_frames: int) -> list[VideoSegment]:
    """Split a video at keyframes into segments of at least this many frames.

    The file is read but not decoded. Empty if segments would not be reliable: if the video has no times of its own,
    or times that are not those of the frames, or a wrong frame count. Such a video is read whole.

    Raises
    ------
    SourceError
        If it is no video that OpenCV can open.
    """
    times, keys, said = _packets(path)
    order = sorted(times)
    certain = bool(times) and keys[0] and times[0] <= order[0] + _SAME_MS and said in (None, len(times))
    if not certain or any(b - a <= _SAME_MS for a, b in zip(order, order[1:])):
        return []
    starts = [0]
    for time_ms in sorted(time_ms for time_ms, key in zip(times, keys) if key):
        index = bisect.bisect_left(order, time_ms - _SAME_MS)
        if index - starts[-1] >= least_frames:
            starts.append(index)
    ends = [*starts[1:], len(order)]
    return [
        VideoSegment(a, b - a, order[a], order[b] if b < len(order) else None, order[0]) for a, b in zip(starts, ends)
    ]


def read_segment(path: str, segment: VideoSegment, stride: int = 1) -> Iterator[Frame]:
    """Decode one segment: the frames whose index is a multiple of `stride`, as `Video` gives them.

    Raises
    ------
    SourceError
        If it cannot be opened, or fewer frames come than the segment has.
    """
    capture = _opened_at(path, segment.begin_ms)
    try:
        for index in range(segment.first, segment.first + segment.frames):
            time_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
            if segment.end_ms is not None and time_ms >= segment.end_ms - _SAME_MS:
                raise _missing(path, index, segment)
            if index % stride == 0:
                found, image = capture.retrieve()
                if not found or image is None:
                    raise _missing(path, index, segment)
                frame = cast("NDArray[np.uint8]", image)
                yield Frame(frame, index, time_ms / 1000 - segment.zero_ms / 1000, path)
            if index + 1 < segment.first + segment.frames and not capture.grab():
                raise _missing(path, index + 1, segment)
    finally:
        capture.release()


def read_whole(path: str, stride: int, notes: list[str]) -> Iterator[Frame]:
    """Decode a video that could not be split; `notes` gets its wrong statements about itself."""
    return iter(Video(path, stride=stride, on_message=notes.append))


def _packets(path: str) -> tuple[list[float], list[bool], int | None]:
    """Read a video without decoding it: each packet's time in ms, and if it is a keyframe; the stated frame count."""
    capture = open_file(path)
    said = length_of(capture)
    times, keys = [], []
    try:
        if not capture.set(cv2.CAP_PROP_FORMAT, -1):
            return [], [], said
        while capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
            keys.append(capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) != 0)
    finally:
        capture.release()
    return times, keys, said


def _opened_at(path: str, begin_ms: float) -> FileCapture:
    """Open a video with the frame grabbed that is due at `begin_ms`.

    OpenCV seeks by counting frames at the stated rate, which may be wrong. If it lands after the frame, a seek to an
    earlier time follows, and in the end a start from the first frame.
    """
    for back_ms in (*_STEPS_BACK_MS, begin_ms):
        capture = open_file(path)
        if begin_ms > back_ms:
            capture.set(cv2.CAP_PROP_POS_MSEC, begin_ms - back_ms)
        while capture.grab() and capture.get(cv2.CAP_PROP_POS_MSEC) < begin_ms - _SAME_MS:
            pass
        if abs(capture.get(cv2.CAP_PROP_POS_MSEC) - begin_ms) <= _SAME_MS:
            return capture
        capture.release()
    raise SourceError(f"{path}: no frame at {begin_ms / 1000:.3f} s could be decoded")


def _missing(path: str, index: int, segment: VideoSegment) -> SourceError:
    left = segment.first + segment.frames - index
    return SourceError(f"{path}: {left} frames from frame {index} on could not be decoded")


_KEPT = 4  # how many of the newest are kept: the workers of a machine read a video together
_CHUNK_BYTES = 8 << 20
_USERS = "users.lock"


def local_file(place: StoragePath, run: str) -> str:
    """Return a local path for a file; it stays until this process asks for another file, or ends.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    if place.root == LOCAL:
        return place.path
    folder, mine = _folders(run)
    name = hashlib.sha256(repr(place).encode()).hexdigest()[:16] + Path(place.path).suffix
    path = folder / name
    for old in mine.iterdir():
        old.unlink()
    with locked(folder / f"{name}.lock", _wait):
        if not path.exists():
            _copy(place, path)
        os.utime(path)
        # Other processes may remove the copy once there are enough newer ones, but not this hard link to it.
        try:
            os.link(path, mine / name)
        except OSError:  # a file system without hard links
            shutil.copyfile(path, mine / name)
    others = [one for one in folder.iterdir() if one.is_file() and one.suffix not in (".lock", ".part")]
    for old in sorted(others, key=_age)[_KEPT:]:
        with suppress(OSError):
            old.unlink()
    return str(mine / name)


@cache
def _folders(run: str) -> tuple[Path, Path]:
    """Make the run's folder on this machine, and this process's folder in it; the last process removes them."""
    folder = Path(tempfile.gettempdir()) / f"cvmask-batch-{run}"
    mine = folder / f"of-{os.getpid()}"
    with locked(folder / _USERS, _wait):
        mine.mkdir(parents=True, exist_ok=True)
    atexit.register(_leave, folder, mine)
    return folder, mine


def _leave(folder: Path, mine: Path) -> None:
    with locked(folder / _USERS, _wait):
        shutil.rmtree(mine, ignore_errors=True)
        # A killed process leaves only its folder.
        if not any(_is_alive(int(one.name[3:])) for one in folder.glob("of-*")):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    if sys.platform == "win32":
        return True  # signal 0 means Ctrl-C on Windows; the system clears folders of killed processes
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _copy(place: StoragePath, path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        with place.filesystem.open_input_stream(place.path) as source, open(part, "wb") as target:
            while data := source.read(_CHUNK_BYTES):
                target.write(data)
    except (OSError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else one_line(error)
        raise SourceError(f"{place.shown}: cannot be read: {reason}") from None
    os.replace(part, path)


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _wait() -> None:
    """Another worker copies the same video; this is not an error."""
