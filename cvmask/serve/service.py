"""The state of the server while it runs."""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cvmask.runtime.model import MaskRCNN
from cvmask.serve.clips import Clips
from cvmask.serve.feed import BrowserSource, Feed
from cvmask.serve.limits import Limits
from cvmask.serve.metrics import Metrics, resident_bytes
from cvmask.serve.pool import Pool, share
from cvmask.serve.session import Session
from cvmask.serve.view import Controls
from cvmask.streams.sources import Source

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_PREFIX = "cvmask-serve-"


def _new_folder() -> tuple[Path, int | None]:
    """Make the folder for uploads and recordings, and remove those of servers that were killed.

    The folder is locked for as long as the process lives. Where the system has no such locks nothing is removed.
    """
    for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            handle = _lock(old)
            if handle is not None:
                shutil.rmtree(old, ignore_errors=True)
                os.close(handle)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if fcntl is None:
            return folder, None
        # Another server may just have mistaken it for an abandoned one.
        with suppress(OSError):
            handle = _lock(folder)
            if handle is not None and folder.exists():
                return folder, handle


def _lock(folder: Path) -> int | None:
    """Lock a folder; None if the system cannot."""
    if fcntl is None or not stat.S_ISDIR(os.lstat(folder).st_mode):
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


class Service:
    """The workers, the live picture, browser cameras, clips: made before the server listens, closed after it.

    Parameters
    ----------
    model
        Loaded with a score threshold of 0, so that requests can use any; the default is in `controls`.
    open_source
        Opens what the live page shows; None for nothing.
    name
        The name of the model.
    controls
        The initial settings of the page, and the defaults of requests.
    workers
        How many networks work at the same time.

    Raises
    ------
    SourceError
        If the source cannot be opened the first time.
    """

    def __init__(
        self,
        model: MaskRCNN,
        open_source: Callable[[], Source] | None,
        *,
        name: str = "model",
        controls: Controls,
        workers: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self.model, self.name, self.controls, self.workers = model, name, controls, workers
        self.limits = limits = limits or Limits()
        self.labels = tuple(model.labels)
        self.metrics = Metrics()
        feed = Feed(open_source, limits.lost_s) if open_source is not None else None
        self.folder, self._lock_handle = _new_folder()
        self.pool = Pool(model, workers, limits.queue, self.metrics)
        self.clips = Clips(self.pool, self.folder, self.labels, limits)
        self._lock = threading.Lock()
        self._cameras: dict[Session, str] = {}
        self._made = 0
        self.ending = False
        self.live = None if feed is None else self._session(feed, "live")
        self.metrics.gauges = {
            "queue_length": lambda: self.pool.waiting,
            "viewers": lambda: self.live.view.viewers if self.live else 0,
            "cameras": lambda: len(self._cameras),
            "resident_memory_bytes": resident_bytes,
        }

    def open_camera(self, client: str) -> tuple[Session, BrowserSource] | None:
        """Begin a session for a browser's camera; None if there are too many, in all or from this client."""
        most = self.limits.cameras
        with self._lock:
            clients = list(self._cameras.values())
            if self.ending or len(clients) >= most or clients.count(client) >= share(most):
                return None
            self._made += 1
            pushed = BrowserSource(self.limits.pixels, lambda message: feed.say(message))
            feed = Feed(lambda: pushed, self.limits.lost_s)
            session = self._session(feed, f"camera:{self._made}")
            self._cameras[session] = client
        return session, pushed

    def close_camera(self, session: Session) -> None:
        """End it, with its recording."""
        session.close()
        session.recorder.forget_()
        with self._lock:
            self._cameras.pop(session, None)

    def recording(self, key: str) -> Path | None:
        """Find the recording of this key, of any session."""
        with self._lock:
            sessions = [*self._cameras, *([self.live] if self.live else [])]
        for session in sessions:
            if key and session.recorder.key == key and session.recorder.state == "ready":
                return session.recorder.path
        return None

    def close(self) -> None:
        """End everything, and empty the folder."""
        self.ending = True
        with self._lock:
            cameras = list(self._cameras)
        for session in [*cameras, *([self.live] if self.live else [])]:
            session.close()
        self.clips.close()
        self.pool.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock_handle is not None:
            os.close(self._lock_handle)

    def _session(self, feed: Feed, key: str) -> Session:
        return Session(
            feed,
            self.pool,
            self.metrics,
            labels=self.labels,
            controls=self.controls,
            key=key,
            folder=self.folder,
            limits=self.limits,
        )
