"""One live picture: the loop, what it shows, and the controls that change it."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.effects import HIDING
from cvmask.errors import CvmaskError, SinkError
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.serve.feed import UNFINISHED, Feed
from cvmask.serve.limits import Limits
from cvmask.serve.metrics import Metrics
from cvmask.serve.pool import Pool, QueueFullError
from cvmask.serve.view import Controls, View, paint
from cvmask.streams.live_masks import Follower
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import Sink, VideoFile
from cvmask.streams.sources import Frame
from cvmask.streams.summary import Summary

OFF, ON, READY = "off", "on", "ready"
_SPARE_BYTES = 16 << 20  # the most that is needed to finish a recording


class Recorder(Sink):
    """An output that can be switched on and off; the last recording can be downloaded.

    Parameters
    ----------
    folder
        Where recordings lie; it is emptied when the server ends.
    longest_s
        A recording is finished after so many seconds.

    Attributes
    ----------
    state
        ``off``, ``on``, or ``ready``: there is one to download.
    key
        Names the recording that is ready; cannot be guessed.
    message, message_s
        The error of the last recording, which may be ready nevertheless, or ""; and its time by
        `time.monotonic`.
    """

    name = "recording"

    def __init__(self, folder: Path, longest_s: float) -> None:
        self._folder, self._longest_s = folder, longest_s
        self._lock = threading.Lock()
        self._video: VideoFile | None = None
        self._last: Frame | None = None
        self._count = 0
        self.state, self.key, self.message, self.message_s = OFF, "", "", 0.0

    @property
    def path(self) -> Path:
        """Where the recording lies, or will."""
        return self._folder / f"{self.key}.mp4"

    def start(self) -> None:
        """Begin a new one; the one before is gone."""
        with self._lock:
            if self.state == ON:
                return
            self.forget_()
            self.key = secrets.token_urlsafe(12)
            self._video = VideoFile(self.path, live=True)
            self._began_s = time.monotonic()
            self._count, self._last = 0, None
            self.state, self.message = ON, ""

    def stop(self) -> None:
        """Finish it."""
        with self._lock:
            self._finish()

    def forget_(self) -> None:
        """Remove the recording that is ready."""
        if self.key:
            self.path.unlink(missing_ok=True)
        self.key, self.state = "", OFF

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Take a new frame while it is on; one that is drawn again is left out."""
        with self._lock:
            if self.state != ON or frame is self._last:
                return
            assert self._video is not None
            self._last = frame
            if shutil.disk_usage(self._folder).free < _SPARE_BYTES:
                self._finish("the disk is nearly full: the recording ends here")
                return
            try:
                self._video.write(image, frame)
                self._count += 1
            except SinkError as error:
                self._finish(self._without_folder(error))
            if self.state == ON and time.monotonic() - self._began_s > self._longest_s:
                self._finish()

    def close(self) -> None:
        """Finish what is being recorded."""
        self.stop()

    def _finish(self, why: str = "") -> None:
        """Offer the recording; the live picture goes on even if the disk is full."""
        if self.state != ON or self._video is None:
            return
        try:
            self._video.close()
        except SinkError as error:
            why = self._without_folder(error)
        # A recording that could not be finished is still offered if it plays.
        self.state = READY if self.path.exists() else OFF
        self._say(why if self._count else why or "no frame came while it was on")

    def _without_folder(self, error: SinkError) -> str:
        return str(error).replace(str(self.path), "the recording")

    def _say(self, message: str) -> None:
        self.message, self.message_s = message, time.monotonic()


_RATE_OVER_S = 3.0


class Session:
    """Runs `cvmask.annotate` over a feed, in threads, until it is closed.

    Without a viewer or a recording the loop waits, and the network sees no frames.

    Parameters
    ----------
    feed
        Where the frames come from.
    key
        Names it in the queue of the pool and, without what follows a colon, in the metrics.
    folder
        For recordings.

    Attributes
    ----------
    view
        The picture for the viewers.
    recorder
        Records it.
    error
        The error that ended the loop; "" while it runs.
    """

    def __init__(
        self,
        feed: Feed,
        pool: Pool,
        metrics: Metrics,
        *,
        labels: tuple[str, ...],
        controls: Controls,
        key: str,
        folder: Path,
        limits: Limits,
    ) -> None:
        self.feed, self.view, self.labels = feed, View(metrics), labels
        self.recorder = Recorder(folder, limits.recording_s)
        self.controls, self.error = controls, ""
        self._model = _Remembering(self, pool, key)
        self._metrics, self._key = metrics, key
        self._painted: deque[Detections] = deque()
        self._times_s: deque[float] = deque(maxlen=200)
        self._frame: Frame | None = None
        self._image_status: dict[str, Any] = {}
        self._summary = Summary()
        self._shown = 0
        self._widths_lock = threading.Lock()
        self._widths: dict[object, int] = {}
        self._shown_width: int | None = None
        feed.on_state, feed.on_lost, feed.wanted = self.tell, self._count_lost, self._is_wanted
        self.view.on_first = self._clear_old
        self._thread = threading.Thread(target=self._run, name="cvmask-session")
        self.tell()
        self._thread.start()

    def change(self, fields: Mapping[str, Any]) -> None:
        """Change controls; ValueError names what is wrong. The next frame shows it, or the one shown."""
        self.controls = self.controls.changed(fields, self.labels)
        self.feed.give_again()
        self.tell()

    def pause(self, on: bool) -> None:
        """Keep the picture, or go on."""
        self.feed.pause(on)
        if on:
            self.feed.give_again()  # the picture that stays must be one that the network saw itself
        self.tell()

    def fit(self, viewer: object, width: int | None) -> None:
        """Draw labels that can be read at the width in pixels at which this viewer sees the picture; None: it has left.

        All viewers see the same picture, so the smallest width counts. ValueError if the width is out of range.
        """
        if width is not None and (isinstance(width, bool) or not isinstance(width, int) or not 50 <= width <= 10_000):
            raise ValueError("width must be a whole number from 50 to 10000")
        with self._widths_lock:
            self._widths.pop(viewer, None)
            if width is not None:
                self._widths[viewer] = width
            before, self._shown_width = self._shown_width, min(self._widths.values(), default=None)
        if self._shown_width != before:
            self.feed.give_again()

    def record(self, on: bool) -> None:
        """Start or stop a recording; may take a moment."""
        (self.recorder.start if on else self.recorder.stop)()
        self.tell()

    def close(self) -> None:
        """End the loop; its threads are gone when this returns."""
        self.feed.close()
        self._thread.join()
        self.recorder.stop()
        if self.feed.given > self._shown:
            self._count_lost(UNFINISHED, self.feed.given - self._shown)

    def tell(self) -> None:
        """Tell viewers the state."""
        self.view.tell(self._status())

    def show(self, image: NDArray[np.uint8], frame: Frame) -> None:
        """Take a picture from the loop."""
        fresh, self._frame = frame is not self._frame, frame
        if fresh:
            self._times_s.append(time.monotonic())
        shown = self._painted.popleft()
        names = Counter(self.labels[i] for i in shown.class_id.tolist())
        age_s = time.monotonic() - frame.taken_at_s if frame.taken_at_s is not None else 0.0
        self._image_status = {
            "index": frame.index,
            "size": [image.shape[1], image.shape[0]],
            "inference_ms": round(1000 * self._model.spent_s, 1),
            "age_ms": round(1000 * age_s),
            "carried": shown.carried,
            "filled_in": self._summary.bridged,
            "total": len(shown),
            "counts": dict(names.most_common()),
        }
        if fresh:
            self._shown += 1
            self._metrics.count("frames_total", {"of": self._key.split(":")[0]})
        self.view.show(image, self._status())

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture from the detections with the current controls; `show` gets it later, in order."""
        controls = self.controls
        kept = controls.keep(detections)
        self._painted.append(kept)
        return paint(image, kept, controls, self.labels, shown_width=self._shown_width)

    def _count_lost(self, why: str, times: int) -> None:
        self._metrics.count("frames_lost_total", {"of": self._key.split(":")[0], "why": why}, times)

    def _is_wanted(self) -> bool:
        return self.view.viewers > 0 or self.recorder.state == ON

    def is_hiding(self) -> bool:
        """Return whether objects must stay hidden; then the network sees every frame that is shown."""
        return self.controls.effect in HIDING

    def _clear_old(self) -> None:
        # After a rest the picture may be hours old: a new viewer waits for the newest.
        if not self._is_wanted() and self.feed.behind:
            self._image_status = {}
            self.view.clear(self._status())

    def _status(self) -> dict[str, Any]:
        controls = self.controls
        return {
            "source": self.feed.name,
            "state": "failed" if self.error else self.feed.state,
            "message": self.error or self.feed.message,
            "paused": self.feed.paused,
            "fps": self._rate(),
            "fates": dict(self.feed.fates),
            "recording": {
                "state": self.recorder.state,
                "key": self.recorder.key,
                "message": self.recorder.message,
                "message_age_s": round(time.monotonic() - self.recorder.message_s) if self.recorder.message else 0,
            },
            "controls": {**vars(controls), "classes": controls.classes and list(controls.classes)},
            **self._image_status,
        }

    def _rate(self) -> float:
        now_s = time.monotonic()
        recent = [moment for moment in list(self._times_s) if now_s - moment < _RATE_OVER_S]
        return round((len(recent) - 1) / (recent[-1] - recent[0]), 1) if len(recent) > 1 else 0.0

    def _run(self) -> None:
        try:
            outputs = [self.recorder, _Shower(self)]
            run = annotate(
                self.feed, self._model, outputs=outputs, paint=self.paint, track=True, bridge=self.is_hiding
            )
            self._summary = run.summary
            run.run()
        except CvmaskError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            self._metrics.count("failed_total")
        if self.error:
            self.tell()


class _Shower(Sink):
    """Hands results to the session."""

    name = "live page"

    def __init__(self, session: Session) -> None:
        self._session = session

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        assert image is not None
        assert frame is not None
        self._session.show(image, frame)

    def close(self) -> None:
        pass


class _Remembering(Follower):
    """The model of the loop: carries the pool's last detections to each frame, and uses the pool as little as it can.

    The network itself sees a frame that is shown for long, or in which objects must stay hidden. It finds all classes
    at the current threshold; filtering and drawing come afterwards. So the network must see the same frame again
    only if the threshold becomes lower than that of the last answer.
    """

    def __init__(self, session: Session, pool: Pool, key: str) -> None:
        self._session = session
        self._pooled = _Pooled(session, pool, key)
        super().__init__([self._pooled], careful=True)
        self._image: NDArray[np.uint8] | None = None
        self._found: Detections | None = None

    @property
    def spent_s(self) -> float:
        """The duration of the last inference."""
        return self._pooled.spent_s

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        controls, again = self._session.controls, frame is self._image
        exact = self._session.feed.paused or self._session.is_hiding()
        known = again and self._found is not None and not (exact and self._found.carried)
        if self._found is None or not known or controls.score_threshold < self._pooled.threshold:
            self._found = self.follow(frame, wait=exact or again)
            self._image = frame
        return self._found


class _Pooled:
    """Asks the pool for objects above the current threshold."""

    def __init__(self, session: Session, pool: Pool, key: str) -> None:
        self._session, self._pool, self._key = session, pool, key
        self.threshold, self.spent_s = 1.0, 0.0

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        wanted = self._session.controls.score_threshold
        asked = {"score_threshold": wanted, "classes": None}
        kind = self._key.split(":")[0]
        try:
            answer = self._pool.submit(self._key, lambda worker: worker.find(frame, asked, kind), limited=False)
        except QueueFullError:
            raise CvmaskError("the server is ending") from None
        found: Detections
        found, self.spent_s = answer.result()
        self.threshold = wanted
        return found
