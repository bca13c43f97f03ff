"""Find the pictures that crash their reader, without blaming pictures for processes killed from outside."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Callable, TypeVar

from cvmask.batches.storage import StoragePath, file_size, read_bytes, write_bytes
from cvmask.errors import SourceError

DEATHS = "_deaths"
CRASHES, KILLED = "kills the process that reads it", "the process that read it was killed each time: out of memory?"
# Signals of a process's own fault; others come from outside: the OOM killer, preemption, a person.
_OWN = ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
_OWN_CODES = {-getattr(signal, name) for name in _OWN if hasattr(signal, name)}
_WINDOWS_EXCEPTION = 0xC0000000
_MOST_CRASHES = 2
_MOST_TRIES = 12
_LONGEST_WAIT_S = 5.0
_WATCHED_CHUNKS = 8
T = TypeVar("T")


class Quarantine:
    """Writes a note before each picture is tried, in a worker that replaced a dead one.

    Other workers write no notes. A picture that was being tried when a watched worker died is only a suspect: it
    is tried in a process of its own. The picture fails only if that process crashes twice by itself, or is killed
    each time.

    Parameters
    ----------
    output
        The folder of the batch; a folder in it holds the notes until their part is written.
    watching
        Whether this worker replaced a dead one. It watches only its first chunks, which include the one that
        killed its predecessor.
    """

    def __init__(self, output: StoragePath, watching: bool) -> None:
        self._output = output
        self._chunks_left = _WATCHED_CHUNKS if watching else 0
        self._place: StoragePath | None = None
        # How often each picture was tried, or why it is not tried again.
        self._tried: dict[str, int | str] = {}

    def begin(self, unit: int, chunk: int) -> None:
        """Begin a chunk."""
        self._place = None
        if self._chunks_left:
            self._chunks_left -= 1
            self._place = self._output / DEATHS / f"{unit:06d}-{chunk:04d}.json"
            known = file_size(self._place) is not None
            self._tried = json.loads(read_bytes(self._place)) if known else {}

    def is_suspect(self, number: int) -> bool:
        """Return whether a watched worker died on this picture of the chunk; otherwise note that it is tried."""
        if self._place is None:
            return False
        if str(number) in self._tried:
            return True
        self._note(number, 1)
        return False

    def alone(self, number: int, work: Callable[..., T], *arguments: Any) -> T:
        """Process a suspect in a process of its own, until that survives.

        Raises
        ------
        SourceError
            If the picture crashes it, or it is killed each time.
        """
        verdict = self._tried[str(number)]
        crashes = 0
        while not isinstance(verdict, str):
            if verdict >= _MOST_TRIES:
                verdict = KILLED
                break
            verdict += 1
            self._note(number, verdict)
            try:
                return alone(work, *arguments)
            except _Died as death:
                crashes += death.is_crash
                if crashes == _MOST_CRASHES:
                    verdict = CRASHES
                elif not death.is_crash:
                    time.sleep(min(verdict / 10, _LONGEST_WAIT_S))
        self._note(number, verdict)
        raise SourceError(verdict)

    def end(self) -> None:
        """Forget the chunk: its part is written."""
        if self._place is not None:
            with suppress(OSError):
                self._place.filesystem.delete_file(self._place.path)

    def _note(self, number: int, state: int | str) -> None:
        """Note that a picture is being tried; all pictures before it are decided."""
        assert self._place is not None
        survived = {key for key, value in self._tried.items() if int(key) < number and not isinstance(value, str)}
        self._tried = {key: value for key, value in self._tried.items() if key not in survived}
        self._tried[str(number)] = state
        write_bytes(self._place, json.dumps(self._tried).encode())


class _Died(Exception):
    """A process of `alone` ended without a result; `is_crash` tells whether it crashed by itself."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.is_crash = code in _OWN_CODES or code >= _WINDOWS_EXCEPTION


_CHILD = "import sys; from cvmask.batches.quarantine import work_alone; work_alone(sys.argv[1])"


def alone(work: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a new process, which ends with this one; return its result or raise its error."""
    with tempfile.TemporaryDirectory(prefix="cvmask-alone-") as folder:
        answer = Path(folder) / "answer"
        process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(answer)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        assert process.stdin is not None
        try:
            with suppress(OSError):  # it died before it had read all
                pickle.dump((work, arguments), process.stdin)
                process.stdin.flush()
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            with suppress(OSError):
                process.stdin.close()
        if code or not answer.exists():
            raise _Died(code)
        result, error = pickle.loads(answer.read_bytes())
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


def work_alone(answer: str) -> None:
    """Run as the process of `alone`: read a function and its arguments from stdin, write its result to a file."""
    work, arguments = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    result, error = None, None
    try:
        result = work(*arguments)
    except Exception as raised:
        error = _portable(raised)
    Path(answer).write_bytes(pickle.dumps((result, error)))
    # Do not wait for threads of libraries.
    os._exit(0)


def _portable(error: Exception) -> Exception:
    """Return an error that another process can read, with the same words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # it holds what cannot be copied, or takes other arguments than its words
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
