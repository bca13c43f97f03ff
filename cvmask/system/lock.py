"""One process at a time: a lock that the system drops when its holder dies, so none is ever stale."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

from cvmask.errors import ModelError
from cvmask.system.disk import writing_to

POLL_S = 0.2


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` for the time of the block; wait as long as another holds it.

    The file itself stays: removing it would let two processes lock two files of one name.

    Parameters
    ----------
    path
        The lock file; it and its folder are made if need be.
    on_wait
        Called once, if there is someone to wait for.

    Raises
    ------
    ModelError
        If the file cannot be made, or its file system knows no locks.
    """
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait(handle, path, on_wait)
        yield
    finally:
        # Closing is unlocking, on every system.
        os.close(handle)


def _wait(handle: int, path: Path, on_wait: Callable[[], None]) -> None:
    told = False
    while not _try_lock(handle, path):
        if not told:
            on_wait()
            told = True
        time.sleep(POLL_S)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int, path: Path) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int, path: Path) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ModelError(
                f"{path.parent} knows no file locks ({error.strerror}): set CVMASK_HOME to a local folder"
            ) from error
        return True
