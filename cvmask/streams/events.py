"""Events in a video: a function or a command is called when an object appears or leaves."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Callable

from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.streams.sinks.sink import Sink
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.streams.tracking import MAX_GAP
from cvmask.system.process import printable

APPEARED, LEFT = "appeared", "left"


@dataclass(frozen=True)
class Event:
    """An object has appeared, or has left.

    Attributes
    ----------
    event
        "appeared" or "left".
    time
        Seconds since the first frame of the source; None if it has no times. For an object that has left, this and all
        other fields describe the frame in which it was last seen.
    frame
        The frame's index.
    id
        The id of the object, as in `Detections.tracker_id`.
    label
        The name of its class, or its number where there are no names.
    confidence
        From 0 to 1.
    box
        Left, top, right, bottom, in pixels.
    source
        The name of the source.
    """

    event: str
    time: float | None
    frame: int
    id: int
    label: str
    confidence: float
    box: tuple[float, float, float, float]
    source: str

    def as_json(self) -> str:
        """Give it as a JSON object in one line."""
        return json.dumps(asdict(self))


OnEvent = Callable[[Event], None]


class Events(Sink):
    """Calls a function for each object that appears, or leaves: was missing for more than `max_gap` frames.

    Objects that are there when the run ends have not left. The function is called in the thread that writes, which
    waits for it; what it raises ends the run.
    """

    def __init__(self, on_event: OnEvent, labels: Sequence[str] | None = None, max_gap: int = MAX_GAP) -> None:
        self.name = "events"
        self._tell, self._labels, self._max_gap = on_event, labels, max_gap
        self._seen: dict[int, tuple[int, Event]] = {}  # how many frames ago, and as what
        self._count = 0

    def write(self, image: Picture, frame: Frame | None = None, detections: Detections | None = None) -> None:
        """Compare with the frames before."""
        self._count += 1
        if frame is not None and detections is not None and detections.tracker_id is not None:
            for row, number in enumerate(detections.tracker_id.tolist()):
                known = number in self._seen
                self._seen[number] = self._count, self._event(row, number, frame, detections)
                if not known:
                    self._tell(self._seen[number][1])
        for number, (last, event) in list(self._seen.items()):
            if self._count - last > self._max_gap:
                del self._seen[number]
                self._tell(replace(event, event=LEFT))

    def close(self) -> None:
        """Do nothing: objects that are still there have not left."""

    def _event(self, row: int, number: int, frame: Frame, detections: Detections) -> Event:
        class_id = int(detections.class_id[row])
        label = str(class_id)
        if self._labels is not None:
            label = self._labels[class_id] if 0 <= class_id < len(self._labels) else label
        elif detections.labels is not None:
            label = str(detections.labels[row])
        left, top, right, bottom = (round(float(side), 2) for side in detections.xyxy[row])
        confidence = round(float(detections.confidence[row]), 4)
        time_s = None if frame.time_s is None else round(frame.time_s, 3)
        box = left, top, right, bottom
        return Event(APPEARED, time_s, frame.index, number, label, confidence, box, frame.name)


_PROCESSES = 4
_MOST_WAITING = 250  # for each of them
_LONGEST_S = 30.0
_GRACE_S = _END_S = 5.0
_MOST_READ = 4096  # bytes of what it said
_UNDONE = "was not done with all events when the run ended"
# Ctrl-C in the terminal is not for them.
_NEW_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # of Windows
_OWN_GROUP = {"creationflags": _NEW_GROUP} if os.name == "nt" else {"start_new_session": True}
_SETTINGS: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, **_OWN_GROUP}


class Command:
    """Runs a command for each event, with the event as a JSON object in one line on its standard input.

    The run does not wait for the commands. At most four run at the same time, and those for one object run one after
    the other; at most 1000 events wait. A command that takes more than 30 s is ended with all its child processes. Use
    it as a context manager, or call `close`.

    Parameters
    ----------
    words
        The program and its arguments; no shell.
    on_message
        Called with one line for the first event that failed; all failures are counted.
    """

    def __init__(self, words: Sequence[str] | str, on_message: Notify = ignore) -> None:
        self._words, self._notify = words, on_message
        self.count = self.failed = 0
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._over = False
        self._queues: list[queue.Queue[Event | None]] = [queue.Queue(_MOST_WAITING) for _ in range(_PROCESSES)]
        self._threads = [
            threading.Thread(target=self._work, args=(waiting,), name="cvmask-event", daemon=True)
            for waiting in self._queues
        ]
        for thread in self._threads:
            thread.start()

    def __call__(self, event: Event) -> None:
        """Start the command without waiting for it."""
        self.count += 1
        try:
            self._queues[event.id % _PROCESSES].put_nowait(event)
        except queue.Full:
            self._fail("is too slow: events are left out")

    def __enter__(self) -> Command:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Wait up to 5 s for the commands that are left, then end them."""
        if self._over:
            return
        until = time.monotonic() + _GRACE_S
        try:
            for waiting in self._queues:
                with suppress(queue.Full):
                    waiting.put(None, timeout=max(0, until - time.monotonic()))
            for thread in self._threads:
                thread.join(max(0, until - time.monotonic()))
        finally:
            self._over = True
            with self._lock:
                for process in self._running:
                    _kill(process)
            for waiting in self._queues:
                with suppress(queue.Empty):
                    while True:
                        if waiting.get_nowait() is not None:
                            self._fail(_UNDONE)
                waiting.put(None)
            for thread in self._threads:
                thread.join(_END_S)  # they count what was ended

    def summary(self) -> str:
        """Say how many events there were."""
        return f"{self.count} events" + (f", {self.failed} of their commands failed" if self.failed else "")

    def _work(self, waiting: queue.Queue[Event | None]) -> None:
        while (event := waiting.get()) is not None:
            try:
                self._run(event)
            except (OSError, ValueError) as error:
                self._fail(f"cannot run: {error}")

    def _run(self, event: Event) -> None:
        # A process that the command leaves running would keep a pipe open; a file has no such effect.
        with tempfile.TemporaryFile() as said:
            with self._lock:
                process = None if self._over else subprocess.Popen(self._words, stderr=said, **_SETTINGS)
                if process is not None:
                    self._running.add(process)
            if process is None:
                self._fail(_UNDONE)
                return
            try:
                process.communicate(event.as_json().encode() + b"\n", timeout=_LONGEST_S)
            except subprocess.TimeoutExpired:
                _kill(process)
                process.wait()
                self._fail(f"took more than {_LONGEST_S:.0f} s and was ended")
                return
            finally:
                with self._lock:
                    self._running.discard(process)
            if process.returncode and self._over:
                self._fail(_UNDONE)
            elif process.returncode:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _MOST_READ))
                last = ["", *said.read().decode(errors="replace").strip().splitlines()][-1][:200]
                self._fail(f"ended with {process.returncode}" + (f": {printable(last)}" if last else ""))

    def _fail(self, why: str) -> None:
        with self._lock:
            self.failed += 1
            first = self.failed == 1
        if first:
            name = self._words if isinstance(self._words, str) else self._words[0]
            self._notify(f"--on-event {name}: {why}; further failures are counted")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it began: of `sh -c` the shell alone would end."""
    if sys.platform == "win32":
        process.kill()
    elif process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
