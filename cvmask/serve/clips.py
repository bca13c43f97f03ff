"""Clips dropped on the page: annotated one after the other, in the order of their arrival."""

from __future__ import annotations

import errno
import queue
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.effects import HIDING
from cvmask.errors import CvmaskError, SourceError
from cvmask.results.detections import Detections
from cvmask.serve.limits import Limits
from cvmask.serve.pool import Pool, QueueFullError, share
from cvmask.serve.view import Controls, paint
from cvmask.streams.follow import Every
from cvmask.streams.keyframes import longest
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sources import Video
from cvmask.streams.sources.av_capture import find_av

WAITING, WORKING, DONE, FAILED = "waiting", "working", "done", "failed"
_SAID = 5
HEAD_BYTES = 256
_EBML = b"\x1a\x45\xdf\xa3"


def suffix_of(head: bytes) -> str | None:
    """Return the container by the first `HEAD_BYTES` bytes; None for anything else.

    FFmpeg would also read play lists and SDP, which name further files and addresses: those never reach it.
    It looks for them in the whole beginning, so one magic word is not enough: each container is checked as
    far as FFmpeg's own probe is sure of it.
    """
    # The size of the first box: no text begins with a zero byte, and probes for text end there.
    if head[:1] == b"\0" and head[4:8] == b"ftyp":
        return ".mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return ".avi"
    return ".mkv" if _is_matroska(head) else None


def _is_matroska(head: bytes) -> bool:
    """Tell whether a whole EBML header is there that names Matroska or WebM."""
    if head[:4] != _EBML or len(head) < 5 or head[4] == 0:
        return False
    width = 9 - head[4].bit_length()
    begin = 4 + width
    size = int.from_bytes(head[4:begin], "big") & ((1 << 7 * width) - 1)
    if begin + size > len(head) or size + 1 == 1 << 7 * width:
        return False
    content = head[begin : begin + size]
    return b"matroska" in content or b"webm" in content


@dataclass(eq=False)
class Clip:
    """One clip, and how far it is."""

    folder: Path
    suffix: str
    controls: Controls
    client: str = ""
    shown_width: int | None = None
    every: Every = 1
    key: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = WAITING
    message: str = ""
    frames: int = 0
    length: int | None = None
    found: int = 0
    most: int = 0
    ended_s: float = 0.0

    @property
    def source(self) -> Path:
        """The upload."""
        return self.folder / f"{self.key}_in{self.suffix}"

    @property
    def video(self) -> Path:
        """The annotated video, in a format that browsers play, which MPEG-4 part 2 is not."""
        return self.folder / f"{self.key}{'.mp4' if has_av() else '.webm'}"

    @property
    def video_type(self) -> str:
        """The media type of the annotated video."""
        return f"video/{self.video.suffix[1:]}"

    @property
    def lines(self) -> Path:
        """The detections, as JSON lines."""
        return self.folder / f"{self.key}.jsonl"

    def status(self) -> dict[str, Any]:
        """Return the state as values for JSON."""
        place = f"/v1/clips/{self.key}"
        done = self.state == DONE
        return {
            "id": self.key,
            "state": self.state,
            "message": self.message,
            "frames": self.frames,
            "length": self.length,
            "found": self.found,
            "most": self.most,
            "video_type": self.video_type if done else None,
            "video": f"{place}/video" if done else None,
            "detections": f"{place}/detections" if done else None,
        }

    def remove_(self) -> None:
        """Remove its files."""
        for path in (self.source, self.video, self.lines):
            path.unlink(missing_ok=True)


class Clips:
    """Takes clips and annotates them, in a thread of its own."""

    def __init__(self, pool: Pool, folder: Path, labels: tuple[str, ...], limits: Limits) -> None:
        self._pool, self._folder, self._labels, self._limits = pool, folder, labels, limits
        self._lock = threading.Lock()
        self._clips: dict[str, Clip] = {}
        self._queue: queue.Queue[Clip | None] = queue.Queue()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="cvmask-clips")
        self._thread.start()

    def new(
        self, suffix: str, controls: Controls, client: str = "", shown_width: int | None = None, every: Every = 1
    ) -> Clip | None:
        """Reserve a place for a clip, before its file is written. None if too many wait, in all or from this client."""
        self._forget_old()
        most = self._limits.clips
        with self._lock:
            clients = [clip.client for clip in self._clips.values() if clip.state in (WAITING, WORKING)]
            if len(clients) >= most or clients.count(client) >= share(most) or self._closed:
                return None
            clip = Clip(self._folder, suffix, controls, client, shown_width, every)
            self._clips[clip.key] = clip
        return clip

    def start(self, clip: Clip) -> None:
        """Queue it: its file is whole."""
        self._queue.put(clip)

    def find(self, key: str) -> Clip | None:
        """Find it by its key."""
        with self._lock:
            return self._clips.get(key)

    def remove(self, clip: Clip) -> None:
        """Stop working on it and remove its files."""
        with self._lock:
            self._clips.pop(clip.key, None)
            clip.state = FAILED
        clip.remove_()

    def close(self) -> None:
        """Stop, and abandon the current clip."""
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _forget_old(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            ended = [clip for clip in self._clips.values() if clip.state in (DONE, FAILED)]
            old = [clip for clip in ended if now_s - clip.ended_s > self._limits.kept_s]
        for clip in {*old, *ended[: -self._limits.kept_clips]}:
            self.remove(clip)

    def _serve(self) -> None:
        while True:
            try:
                clip = self._queue.get(timeout=60)
            except queue.Empty:
                self._forget_old()
                continue
            if clip is None or self._closed:
                return
            if clip.state != WAITING:
                continue
            clip.state = WORKING
            try:
                said = self._annotate(clip)
                self._end(clip, DONE if clip.state == WORKING else FAILED, said)
            except CvmaskError as error:
                self._end(clip, FAILED, str(error))
            except Exception as error:
                self._end(clip, FAILED, f"{type(error).__name__} while it was worked on")
            clip.source.unlink(missing_ok=True)
            if clip.state == FAILED:
                clip.remove_()

    def _end(self, clip: Clip, state: str, message: str) -> None:
        clip.message = message.replace(str(clip.source), "the clip").replace(str(clip.video), "the video")
        # The state is set last, because a reader of the state expects the rest to be set.
        clip.ended_s = time.monotonic()
        clip.state = state

    def _annotate(self, clip: Clip) -> str:
        """Annotate the clip; return a warning about it, or ""."""
        said: list[str] = []
        model = _Asking(self._pool, clip, self._labels)
        with Video(clip.source, on_message=said.append) as source:
            clip.length = source.length
            # Every line of the results holds the name, which must not show where the server keeps the file.
            source.name = f"clip{clip.suffix}"
            self._check_pixels(*(source.size_wh or (0, 0)))
            for size_wh in _frame_sizes(clip.source, self._limits.pixels):
                self._check_pixels(*size_wh)
                if self._closed or clip.state != WORKING:
                    return ""

            def painted(image: NDArray[np.uint8], found: Detections) -> NDArray[np.uint8]:
                return paint(image, found, clip.controls, self._labels, shown_width=clip.shown_width)

            track = clip.controls.color_by == "instance"
            outputs, bridge = [clip.video, clip.lines], clip.controls.effect in HIDING
            every = self._every(clip, *(source.size_wh or (0, 0)))
            if every != clip.every:
                said.append(f"detect_every was {every} and not {clip.every}: frames of this size need too much memory")
            with annotate(
                source, model, outputs=outputs, paint=painted, track=track, bridge=bridge, detect_every=every
            ) as run:
                for result in run:
                    clip.frames += 1
                    clip.found += len(result.detections)
                    clip.most = max(clip.most, len(result.detections))
                    if self._closed or clip.state != WORKING:
                        return ""
                    if result.frame.index >= self._limits.clip_frames:
                        limit = self._limits.clip_frames
                        raise SourceError(f"the clip: more than {limit} frames: cut it, or use cvmask predict")
        # There is one message for each damaged frame; the last says how many are missing.
        return "; ".join([*said[: _SAID - 1], *said[_SAID - 1 :][-1:]])

    def _every(self, clip: Clip, width: int, height: int) -> Every:
        """Return the requested interval, or a smaller one if the kept frames would need more than `held_bytes`."""
        most = self._limits.held_bytes // (2 * 3 * max(1, width * height))
        return clip.every if longest(clip.every) <= max(1, most) else max(1, most)

    def _check_pixels(self, width: int, height: int) -> None:
        if width * height > self._limits.pixels:
            raise SourceError(f"the clip: a frame of {width}x{height} pixels, the limit is {self._limits.pixels}")


def _frame_sizes(path: Path, most_pixels: int) -> Iterator[tuple[int, int]]:
    """Give the width and height of a video at each packet; only key frames are decoded, as only they change it.

    OpenCV decodes a frame of any size and scales it to the first: it does not say that one is larger. FFmpeg
    takes no memory for a frame of more than `most_pixels`. Yields nothing if PyAV is not installed.
    """
    av = find_av()
    if av is None:
        return
    with suppress(av.FFmpegError), av.open(str(path)) as container:
        for stream in container.streams.video[:1]:
            decoder = stream.codec_context
            decoder.skip_frame, decoder.options = "NONKEY", {"max_pixels": str(most_pixels)}
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except av.FFmpegError as error:
                    # Some decoders refuse frames that are too large without giving their size.
                    if error.errno == errno.EINVAL:
                        raise SourceError(f"the clip: a frame has more than {most_pixels} pixels, the limit") from None
                    continue
                yield decoder.width, decoder.height
                yield from ((frame.width, frame.height) for frame in frames)


class _Asking:
    """The model of the loop: it uses the pool, in turn with all clients."""

    def __init__(self, pool: Pool, clip: Clip, labels: tuple[str, ...]) -> None:
        self._pool, self._client, self.labels = pool, f"clip:{clip.key}", labels
        self._asked = clip.controls.settings()

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        try:
            answer = self._pool.submit(
                self._client, lambda worker: worker.find(frame, self._asked, "clip"), limited=False
            )
        except QueueFullError:
            raise CvmaskError("the server is ending") from None
        found: Detections = answer.result()[0]
        return found
