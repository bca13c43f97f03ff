"""A source that never ends: it can be paused, is reopened when it is lost, and plays files over and over."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from cvmask.errors import SourceError
from cvmask.serve.answers import check_picture
from cvmask.serve.problems import Problem
from cvmask.streams.sources import Frame, Images, Source, Video
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.source import ignore

LIVE, LOST, ENDED, STILL = "live", "lost", "ended", "still"
PASSED_OVER, UNWATCHED, UNDECODABLE, UNFINISHED = "passed_over", "unwatched", "undecodable", "unfinished"
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 15.0
_PICTURE_S = 2.0
_FRAME_S = 0.04


class Feed(Source):
    """The newest frame of a source, for as long as the server runs.

    Cameras and streams run at their own pace and are reopened whenever they are lost. Videos and folders are
    repeated at their own pace (2 s a picture); a single picture stays. Frame numbers and times are counted anew,
    so that both always rise.

    Parameters
    ----------
    open_again
        Opens the source; called at once, and errors of the first call are raised.
    lost_s
        Seconds without a frame after which it counts as lost.

    Attributes
    ----------
    state
        ``live``; ``lost``: no frames come, it is retried; ``ended``: no more frames will come;
        ``still``: a single picture.
    message
        Why it is lost, or the text given to `say`; otherwise "".
    paused
        Whether the frame shown stays; see `pause`.
    wanted
        Whether frames are wanted now. If not, the source is still read, so that a loss is noticed and the newest
        frame is available, but no frame is given.
    dropped
        How many frames were skipped for newer ones, watched or not.
    fates
        How many frames were not given, by cause: ``passed_over`` for newer ones, ``unwatched`` while it had no viewer
        or was paused, ``undecodable``.
    given
        How many frames were given.
    on_lost
        Called with such a cause, and how many.
    """

    live = True
    newest = True

    def __init__(self, open_again: Callable[[], Source], lost_s: float = 2.5) -> None:
        self._open_again = open_again
        inner = open_again()
        if isinstance(inner, Video) and inner.length == 0:
            inner.close()
            raise SourceError(f"{inner.name}: ends before the part that is wanted begins")
        self._inner: Source | None = inner
        self.size_wh, self.frame_rate = inner.size_wh, inner.frame_rate
        # Viewers of the page need not know the paths of files.
        path = inner.name.rstrip(os.sep)
        self._path = path if os.sep in path and not inner.live else ""
        self.name = inner.name if inner.live else os.path.basename(os.path.abspath(inner.name))
        self.state, self.message, self.paused = LIVE, "", False
        self.dropped = self.given = 0
        self.fates: Counter[str] = Counter()
        self.on_state: Callable[[], None] = lambda: None
        self.on_lost: Callable[[str, int], None] = lambda why, times: None
        self.wanted: Callable[[], bool] = lambda: True
        self._lost_s = lost_s
        self._changed = threading.Condition()
        self._slot: Frame | None = None
        self._held: Frame | None = None
        self._again = self._closed = False
        self._error: BaseException | None = None
        self._came_s = time.monotonic()
        self._paused_s = 0.0
        self._thread: threading.Thread | None = None

    def pause(self, on: bool) -> None:
        """Keep the frame shown, or go on; a file waits as well."""
        with self._changed:
            self.paused = on
            self._changed.notify_all()

    def give_again(self) -> None:
        """Give the current frame once more if no newer one comes, because its controls have changed."""
        with self._changed:
            self._again = True
            self._changed.notify_all()

    def say(self, message: str) -> None:
        """Set the message about the source until the next frame comes."""
        self._be(self.state, message)

    @property
    def behind(self) -> bool:
        """Whether a frame waits that is newer than the one shown."""
        with self._changed:
            return self._slot is not None and not self._is_paused()

    def close(self) -> None:
        """End it; its thread is gone when this returns."""
        with self._changed:
            self._closed = True
            inner = self._inner
            self._changed.notify_all()
        if inner is not None:
            inner.close()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _frames(self) -> Iterator[Frame]:
        with self._changed:  # `close` can only wait for a thread that has been started
            if not self._closed:
                self._thread = threading.Thread(target=self._follow, name="cvmask-feed")
                self._thread.start()
        index, first_s = 0, time.monotonic()
        while True:
            with self._changed:
                # Read once: the viewer that wants the frame may leave at any moment.
                while not ((fresh := self._is_fresh()) or self._closed or self._is_again()):
                    self._changed.wait(0.5)
                    self._look_whether_lost()
                if self._closed:
                    break
                frame = self._held
                if fresh:
                    frame, self._slot = self._slot, None
                self._again = False
            assert frame is not None
            if fresh:
                time_s = (frame.taken_at_s or time.monotonic()) - first_s
                frame = dataclasses.replace(frame, index=index, time_s=max(0.0, time_s))
                index += 1
                self.given = index
            self._held = frame
            yield frame
        if self._error is not None:
            raise self._error

    def _is_paused(self) -> bool:
        # The first frame is given anyway, so that there is something to show.
        return self.paused and self._held is not None

    def _is_fresh(self) -> bool:
        return self._slot is not None and not self._is_paused() and self.wanted()

    def _is_again(self) -> bool:
        return self._again and self._held is not None

    def _look_whether_lost(self) -> None:
        if self.state == LIVE and not self.paused and time.monotonic() - self._came_s > self._lost_s:
            self._be(LOST, f"nothing came for {self._lost_s:g} s")

    def _be(self, state: str, message: str = "") -> None:
        if (state, message) != (self.state, self.message):
            self.state, self.message = state, message
            self.on_state()

    def _follow(self) -> None:
        """Read, and open again; in a thread of its own."""
        failures = 0
        try:
            while not self._closed:
                before = self._came_s
                once = self._play_once()
                if self._closed or once is None:
                    return
                failures = 1 if self._came_s > before else failures + 1
                if once:
                    self._be(LOST, self._without_folder(once))
                    delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** (failures - 1))
                    with self._changed:
                        self._changed.wait_for(lambda: self._closed, delay_s)
        except BaseException as error:
            self._error = error
            self.close()

    def _without_folder(self, message: str) -> str:
        """Drop the source's name from the start of a message."""
        known = bool(self._path) and message.startswith(self._path)
        return self.name + message[len(self._path) :] if known else message

    def _play_once(self) -> str | None:
        """Read the source to its end; return why it was lost, "" to play it again, None if it has ended."""
        before = self._came_s
        try:
            source = self._inner or self._open_again()
        except SourceError as error:
            return str(error)
        with self._changed:
            self._inner = source
        try:
            self._read(source)
        except SourceError as error:
            return str(error)
        finally:
            source.close()
            self._inner = None
        if isinstance(source, Images) and self._came_s == before:
            return f"{self.name}: holds no picture that can be read"
        if isinstance(source, Video) or (isinstance(source, Images) and len(source.paths) > 1):
            return ""
        if source.live and source.returns:
            return "ended"
        self._be(STILL if source.length == 1 and not isinstance(source, Video) else ENDED)
        return None

    def _read(self, source: Source) -> None:
        began_s: float | None = None
        before = (0, 0)
        for number, frame in enumerate(source):
            if self._closed:
                return
            if not source.live:
                began_s = self._clock_s() if began_s is None else began_s
                self._wait_until(began_s + (number * _PICTURE_S if frame.time_s is None else frame.time_s))
                frame = dataclasses.replace(frame, taken_at_s=time.monotonic())
            self._offer(frame)
            # The frames that the source itself has left out since it was opened.
            now = (source.dropped, source.lost)
            self._count_lost(PASSED_OVER, now[0] - before[0])
            self._count_lost(UNDECODABLE, now[1] - before[1])
            before = now
        if began_s is not None and isinstance(source, Images) and len(source.paths) > 1:
            self._wait_until(self._clock_s() + _PICTURE_S)
        elif isinstance(source, Video):
            # The last frame lasts too; otherwise a video of one frame would be reopened in a tight loop.
            self._wait_until(self._clock_s() + min(_PICTURE_S, max(_FRAME_S, float(1 / (source.frame_rate or 25)))))

    def _clock_s(self) -> float:
        """Return the time of a clock that stops while the feed is paused."""
        return time.monotonic() - self._paused_s

    def _wait_until(self, due_s: float) -> None:
        with self._changed:
            while not self._closed and (self._is_paused() or self._clock_s() < due_s):
                began_s, paused = time.monotonic(), self._is_paused()
                self._changed.wait(1.0 if paused else due_s - self._clock_s())
                self._paused_s += (time.monotonic() - began_s) if paused else 0.0

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            replaces = self._slot is not None
            self._slot = frame
            self._came_s = time.monotonic()
            self._changed.notify_all()
        if replaces:
            self.dropped += 1
            self._count_lost(PASSED_OVER if self.wanted() and not self.paused else UNWATCHED, 1)
        self._be(LIVE)

    def _count_lost(self, why: str, times: int) -> None:
        if times > 0:
            self.fates[why] += times
            self.on_lost(why, times)


class BrowserSource(Source):
    """The newest of the pushed pictures; older ones are dropped without decoding.

    Parameters
    ----------
    max_pixels
        Pictures with more are left out and `on_message` is called. The same holds for damaged pictures, and for
        kinds that `POST /v1/detect` does not take.
    """

    live = True
    returns = False

    def __init__(self, max_pixels: int, on_message: Callable[[str], None] = ignore) -> None:
        self.name = "browser camera"
        self._max_pixels, self._notify = max_pixels, on_message
        self._changed = threading.Condition()
        self._latest: tuple[bytes, float] | None = None
        self._closed = False

    def push(self, data: bytes) -> None:
        """Take an encoded picture; it replaces one that still waits."""
        with self._changed:
            self.dropped += self._latest is not None
            self._latest = (data, time.monotonic())
            self._changed.notify()

    def close(self) -> None:
        """End it."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _frames(self) -> Iterator[Frame]:
        index, first_s = 0, time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None or self._closed)
                if self._closed or self._latest is None:
                    return
                (data, taken_at_s), self._latest = self._latest, None
            try:
                check_picture(data, self._max_pixels)
                image, _ = decode_image(data, "a picture of the browser camera", self._max_pixels)
            except (Problem, SourceError) as error:
                self.lost += 1
                self._notify(str(error))
                continue
            yield Frame(image, index, taken_at_s - first_s, self.name, taken_at_s=taken_at_s)
            index += 1
