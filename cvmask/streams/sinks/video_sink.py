"""Video files: whole or not at all, with every frame at its time."""

from __future__ import annotations

import glob
import importlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SinkError
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.av_encoder import SUFFIXES as AV_SUFFIXES
from cvmask.streams.sinks.av_encoder import AvEncoder, has_av
from cvmask.streams.sinks.encoders import CODECS, LONGEST_PAUSE_S, Encoder, OpenCVEncoder, wrong_codec
from cvmask.streams.sinks.mp4 import is_finished
from cvmask.streams.sinks.sink import Clock, Sink
from cvmask.streams.sources.av_capture import AV_CURE
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.system.files import fit_name, whole_path, wrong_name
from cvmask.system.interrupts import deferred_signals

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None


def even(width: int, height: int) -> tuple[int, int]:
    """Round a size up to even sides: the codecs store colour for 2x2 pixels."""
    return width + width % 2, height + height % 2


def fit(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frame in this size; the frame itself if it fits.

    If it only lacks a row or column to be even, its last one is repeated. Otherwise it is scaled in proportion, with
    black borders.
    """
    width, height = size_wh
    rows, columns = image.shape[:2]
    if (columns, rows) == size_wh:
        return image
    if even(columns, rows) == size_wh:
        sides = (0, height - rows, 0, width - columns)
        return cast("NDArray[np.uint8]", cv2.copyMakeBorder(image, *sides, cv2.BORDER_REPLICATE))
    scale = min(width / columns, height / rows)
    columns, rows = max(1, round(columns * scale)), max(1, round(rows * scale))
    scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    left, top = (width - columns) // 2, (height - rows) // 2
    sides = (top, height - rows - top, left, width - columns - left)
    return cast("NDArray[np.uint8]", cv2.copyMakeBorder(scaled, *sides, cv2.BORDER_CONSTANT))


DEFAULT_RATE = Fraction(25)
# OpenCV's writer refuses rates below 1/1000, and FFmpeg refuses frames longer than some hours.
_LOWEST_RATE = Fraction(1, 300)
_SPARE_BYTES = 1 << 16
_LOOK_EVERY = 25
_LONGEST_STEM = 100  # bytes: an identifier and two endings fit behind it
_IDLE_S = 600


def _stem_of(name: str) -> str:
    return fit_name(Path(os.path.realpath(name)).stem, longest=_LONGEST_STEM)


@contextmanager
def _claimed(part: Path) -> Iterator[None]:
    """Hold a lock beside a part; the system releases it when the process ends."""
    lock = part.with_suffix(".lock")
    with open(lock, "wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                lock.unlink()


def _is_claimed(part: Path) -> bool:
    """Return whether a part is being written; without such locks, whether it was written recently."""
    lock = part.with_suffix(".lock")
    with suppress(OSError), open(lock, "rb") as file:
        if fcntl is None:
            return time.time() - part.stat().st_mtime < _IDLE_S
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        lock.unlink()
    return False


def _plays(part: Path) -> bool:
    capture = cv2.VideoCapture(str(part), cv2.CAP_FFMPEG)
    try:
        return capture.grab()
    finally:
        capture.release()


class _Discarded(Exception):
    """Tells `whole_file` that the file is not wanted."""


class VideoFile(Sink):
    """A video, of the size of the first frame; sides are made even, as the codecs need.

    Frames of another size are fitted into it. With PyAV (``pip install av``) all sound tracks are copied into
    .mp4, .m4v, .mov and .mkv. Otherwise sound is not kept, and `on_message` is called.

    Parameters
    ----------
    path
        Ends in .mp4, .m4v, .mov, .mkv, .avi or .webm. It appears when `close` returns.
    frame_rate
        Frames a second: how long the last frame lasts, at most five minutes, and when frames without a time
        are due.
    audio_from
        The file whose sound is copied from the time of the first frame on.
    codec
        "h264", which needs PyAV and a file of .mp4, .m4v, .mov or .mkv; "mp4v", MPEG-4 part 2, in these
        and .avi: written about twice as fast, up to twice as large. None: H.264 if possible,
        and VP8 in .webm.
    use_av
        Whether to encode with PyAV; None: if it is installed.
    live
        Whether the frames come only once. Then the written part plays even if the process is killed; the next
        recording of this name finds it and gives it a name of its own.

    Raises
    ------
    SinkError
        If the ending is unknown or does not fit the codec, or the file cannot be written or read back.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        frame_rate: Fraction | None = None,
        audio_from: str | None = None,
        on_message: Notify = ignore,
        codec: str | None = None,
        use_av: bool | None = None,
        live: bool = False,
    ) -> None:
        self.name = os.fspath(path)
        suffix = Path(self.name).suffix.lower()
        if suffix not in CODECS:
            raise SinkError(f"{self.name}: a video ends in one of {' '.join(CODECS)}")
        if wrong := wrong_name(os.path.abspath(self.name)) or wrong_name(os.path.realpath(self.name)):
            raise SinkError(f"{self.name}: {wrong}")
        self._use_av = suffix in AV_SUFFIXES and (has_av() if use_av is None else use_av)
        self._av_codec = codec or "h264"
        if wrong := wrong_codec(suffix, codec, self._use_av):
            raise SinkError(f"{self.name}: {wrong}")
        self._rate = frame_rate or DEFAULT_RATE
        self._audio_from, self._live = audio_from, live
        self._notify = on_message
        self._encoder: Encoder | None = None
        self._closed = False
        self._stack = ExitStack()
        self._size_wh = (0, 0)
        self._told_fitted = self._told_sound = False
        self._count = 0
        self._clock = Clock(self._rate)

    @deferred_signals()
    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Encode one frame; TypeError or ValueError if it is none."""
        if self._closed:
            raise SinkError(f"{self.name} is closed: no frame can follow")
        image = check_frame(image)
        try:
            if self._encoder is None:
                self._open(image, frame)
            assert self._encoder is not None
            if self._count % _LOOK_EVERY == 0:
                self._look_for_space()
            self._encoder.add(self._fit(image), self._clock.time(frame))
        except OSError as error:
            raise SinkError(f"{self.name} cannot be written: {error.strerror or error}") from None
        self._count += 1

    @deferred_signals()
    def close(self) -> None:
        """Finish the file, check that it can be read, and give it its name; no file appears if no frame came.

        If a live recording cannot be finished, for example on a full disk, the part that plays is kept, and the error
        says so.
        """
        encoder = self._take_encoder()
        if encoder is None:
            return
        with self._stack:
            try:
                count = encoder.finish()
                self._tell_lost_sound(encoder)
                self._tell_left_out(encoder)
                self._check(count)
                return
            except OSError as error:
                wrong = f"{self.name} cannot be written: {error.strerror or error}"
            except ValueError as error:
                wrong = f"{self.name} cannot be written: {error}{self._full()}"
            except SinkError as error:
                wrong = str(error)
            if not self._live or not _plays(self._part):
                raise SinkError(wrong)
        raise SinkError(f"{wrong}; the part written before is kept")

    @deferred_signals()
    def discard(self) -> None:
        """End without a file."""
        encoder = self._take_encoder()
        if encoder is not None:
            try:
                encoder.abandon()
            except OSError:
                pass  # It is thrown away: whether it could be finished no longer matters.
            finally:
                self._stack.__exit__(_Discarded, _Discarded(), None)

    def _take_encoder(self) -> Encoder | None:
        encoder, self._encoder, self._closed = self._encoder, None, True
        return encoder

    def _open(self, image: NDArray[np.uint8], frame: Frame | None) -> None:
        height, width = image.shape[:2]
        self._size_wh = even(width, height)
        if self._size_wh != (width, height):
            self._notify(f"{self.name}: sides made even, {width}x{height} became {self._size_text()}")
        with self._stack:
            # A colon in a relative name would name a protocol of FFmpeg.
            mark = f"{_stem_of(self.name)}." if self._live else ""
            self._part = Path(os.path.abspath(self._stack.enter_context(whole_path(self.name, mark))))
            if self._live:
                self._rescue()
                self._stack.enter_context(_claimed(self._part))
            self._encoder = self._new_encoder((frame.time_s if frame else None) or 0.0)
            # Only now that nothing failed does the file outlive this block.
            self._stack = self._stack.pop_all()

    def _rescue(self) -> None:
        """Name the recordings that killed runs left, and remove those that cannot be read."""
        suffix = Path(self.name).suffix
        for part in sorted(self._part.parent.glob(f".{glob.escape(_stem_of(self.name))}.*.part{suffix}")):
            if part == self._part or _is_claimed(part):
                continue
            with suppress(OSError):
                if not _plays(part):
                    part.unlink()
                    self._notify(f"{self.name}: the part that a killed run left cannot be read and is removed")
                    continue
                rescued = next(
                    place for number in itertools.count(1)
                    if not (place := part.with_name(f"{_stem_of(self.name)}_rescued_{number}{suffix}")).exists()
                )  # fmt: skip
                part.rename(rescued)
                self._notify(f"{self.name}: the part that a killed run left is now {rescued}")

    def _new_encoder(self, start_s: float) -> Encoder:
        rate = max(self._rate, _LOWEST_RATE)
        if self._use_av:
            encoder = AvEncoder(
                self._part, self._size_wh, rate, self._av_codec, self._audio_from, start_s, self._live
            )
            self._tell_lost_sound(encoder)
            return encoder
        if self._audio_from is not None:
            able = Path(self.name).suffix.lower() in AV_SUFFIXES
            cure = f"{AV_CURE} copies it" if able else f"{' '.join(AV_SUFFIXES)} can hold it, with PyAV"
            self._notify(f"{self.name}: sound, if there is any, is not kept: {cure}")
        if self._live:
            cure = f"PyAV keeps {' '.join(AV_SUFFIXES)}: {AV_CURE}"
            self._notify(f"{self.name}: may be lost if the process is killed; {cure}")
        return OpenCVEncoder(self._part, self._size_wh, rate)

    def _tell_lost_sound(self, encoder: Encoder) -> None:
        lost = getattr(encoder, "lost_sound", "")
        if lost and not self._told_sound:
            self._told_sound = True
            self._notify(f"{self.name}: sound is not kept{lost}")

    def _tell_left_out(self, encoder: Encoder) -> None:
        if left_out_s := getattr(encoder, "left_out_s", 0):
            why = f"pauses are kept up to {LONGEST_PAUSE_S} s each, an .mp4 file keeps all"
            self._notify(f"{self.name}: is {left_out_s:.0f} s shorter than its source: {why}")

    def _fit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        if even(width, height) != self._size_wh and not self._told_fitted:
            self._told_fitted = True
            self._notify(f"{self.name}: frames of {width}x{height} are fitted into {self._size_text()}")
        return fit(image, self._size_wh)

    def _size_text(self) -> str:
        return "x".join(str(side) for side in self._size_wh)

    def _look_for_space(self) -> None:
        if shutil.disk_usage(self._part.parent).free < _SPARE_BYTES:
            raise SinkError(f"{self.name} cannot be written{self._full()}")

    def _full(self) -> str:
        free = shutil.disk_usage(self._part.parent).free
        return ": the disk is full" if free < _SPARE_BYTES else ""

    def _check(self, count: int) -> None:
        """Read the file back: OpenCV's writer fails without a word."""
        if not is_finished(self._part):
            why = self._full() or ": is there a limit of file sizes (ulimit -f)?"
            raise SinkError(f"{self.name} cannot be written: it was cut short{why}")
        capture = cv2.VideoCapture(str(self._part), cv2.CAP_FFMPEG)
        try:
            found, image = capture.read()
            held = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        if not found or image.shape[1::-1] != self._size_wh:
            raise SinkError(f"{self.name} cannot be written: what OpenCV wrote cannot be read{self._full()}")
        if 0 < held < count and Path(self.name).suffix.lower() not in (".mkv", ".webm"):
            raise SinkError(f"{self.name} holds {held} of {count} frames{self._full()}")
