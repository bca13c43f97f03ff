"""One resumable download: attempts, waits between them, and the check that the file is complete."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import re
import socket
import ssl
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Optional, Union

import cvmask
from cvmask.errors import CvmaskError, ModelError
from cvmask.system.files import (
    create_file,
    need_free,
    read_text,
    regular_handle,
    size_text,
    write_private,
    writing_to,
)

if TYPE_CHECKING:
    from email.message import Message


TIMEOUT_S = 30.0
_PASSING_STATUS = {408, 425, 429, 500, 502, 503, 504}
_NOTHING_PAST_THAT = 416

Answer = Union[http.client.HTTPResponse, urllib.error.HTTPError]


class Passing(Exception):
    """A failure that another attempt may cure; `wait_s` is how long the server asks to wait, if it does."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def request(url: str, headers: Mapping[str, str]) -> Answer:
    """Send one GET, through ``HTTP_PROXY`` or ``HTTPS_PROXY`` where they are set.

    Returns
    -------
    An answer, for the caller to close, of status 200, 206 or 416 (the requested range is past the end).

    Raises
    ------
    Passing
        If the server is busy, or the connection broke or timed out.
    ModelError
        If another attempt would fail in the same way.
    """
    agent = {"User-Agent": f"cvmask/{cvmask.__version__}", "Accept-Encoding": "identity"}
    # A fresh opener each time: it reads the proxy variables as they are now.
    opener = urllib.request.build_opener()
    try:
        answer: Answer = opener.open(
            urllib.request.Request(url, headers={**agent, **headers}), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        if error.code == _NOTHING_PAST_THAT and "Range" in headers:
            return error
        with error:
            raise _refusal(url, error) from error
    except urllib.error.URLError as error:
        raise _unreachable(url, error.reason) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise ModelError(f"{url!r} is not a usable address: {error}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(url, error) from error
    if answer.status not in (200, 206):
        answer.close()
        raise ModelError(f"{url}: the server answered {answer.status}, which has no file")
    return answer


def read_some(answer: Answer, at_most: int) -> bytes:
    """Read what has arrived, without waiting for more; nothing at the end.

    Raises
    ------
    Passing
        If the connection broke or timed out.
    """
    try:
        return answer.read1(at_most)
    except (OSError, http.client.HTTPException) as error:
        raise Passing(_plain(error)) from error


def _refusal(url: str, error: urllib.error.HTTPError) -> Exception:
    status = " ".join(f"{error.code} {error.reason}".split())
    if error.code in _PASSING_STATUS:
        return Passing(f"the server answered {status}", _retry_after_s(error.headers.get("Retry-After")))
    if error.code == 407:
        return ModelError(
            f"{url}: the proxy needs a login ({status}), as in HTTP_PROXY=http://user:password@host:port"
        )
    return ModelError(
        f"{url} cannot be downloaded: the server answered {status}; check CVMASK_MIRROR if it is set, "
        "or set it to a server that has the file"
    )


def _unreachable(url: str, reason: object) -> Exception:
    # Neither goes away within seconds, so it is reported at once.
    if isinstance(reason, socket.gaierror):
        return ModelError(
            f"{url} cannot be reached: its host or the proxy's was not found; check the network, "
            "set HTTP_PROXY and HTTPS_PROXY behind a proxy, or CVMASK_MIRROR to another server"
        )
    if isinstance(reason, ssl.SSLCertVerificationError):
        return ModelError(
            f"{url}: the server's certificate is not trusted ({reason.verify_message}); "
            "if a proxy or mirror of your own signed it, set SSL_CERT_FILE to its certificate"
        )
    refusal = re.match(r"Tunnel connection failed: (4\d\d.*)", str(reason))
    if refusal:
        return _tunnel_refusal(url, refusal[1])
    return Passing(f"{url} cannot be reached ({_plain(reason)})")


def _tunnel_refusal(url: str, status: str) -> ModelError:
    """Explain why a proxy refused a tunnel; urllib gives only the status."""
    if status.startswith("407"):
        return ModelError(
            f"{url}: the proxy needs a login ({status}), as in HTTPS_PROXY=http://user:password@host:port"
        )
    return ModelError(
        f"{url}: the proxy refuses it ({status}); if the host can be reached directly, name it in NO_PROXY"
    )


def _plain(reason: object) -> str:
    if isinstance(reason, socket.timeout):
        return f"no data for {TIMEOUT_S:g} s"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke off"
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return " ".join(text.split()) or type(reason).__name__


def _retry_after_s(value: str | None) -> float | None:
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


class Part:
    """The first bytes of a download, and a note beside them that decides whether it can be resumed.

    Other users may write to a shared cache folder: a link, pipe or device in place of either file is replaced, and
    never followed, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note_path = path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        """The number of bytes that have arrived."""
        try:
            status = self.path.lstat()
        except FileNotFoundError:
            return 0
        return status.st_size if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 else 0

    def request_headers(self, url: str) -> dict[str, str]:
        """Return headers that request the rest, if it is certain to fit.

        Without an ETag or a date from the server it is unknown whether the file is still the same: then
        the whole file is requested.
        """
        note = self._note()
        validator = note.get("validator")
        if self.size == 0 or note.get("url") != url or not isinstance(validator, str):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def accept_whole(self, url: str, headers: Message) -> int | None:
        """Start over with an answer that begins at the first byte; return its length, if it states one."""
        total = _number(headers.get("Content-Length"))
        self.discard()
        create_file(self.path).close()
        note = {"url": url, "validator": _validator(headers), "total_bytes": total}
        write_private(self._note_path, json.dumps(note).encode())
        return total

    def accept_rest(self, headers: Message) -> int | None:
        """Continue with the answer to a Range; return the whole file's length.

        Raises
        ------
        ValueError
            If it is not the rest of this file.
        """
        note = self._note()
        span = re.fullmatch(rf"bytes ({_INTEGER})-{_INTEGER}/({_INTEGER}|\*)", headers.get("Content-Range", "").strip())
        if span is None or int(span[1]) != self.size:
            came = headers.get("Content-Range")
            raise ValueError(f"requested bytes from {self.size}, the answer's range is {came!r}")
        total = _number(span[2])
        if note.get("total_bytes") is not None and total is not None and total != note["total_bytes"]:
            raise ValueError(f"the file had {note['total_bytes']} bytes and now has {total}")
        validator = _validator(headers)
        if validator is not None and validator != note.get("validator"):
            raise ValueError("the file on the server has changed")
        return total

    def is_all_of(self, headers: Message) -> bool:
        """Return True if a 416 answer means that the file is complete."""
        return headers.get("Content-Range", "").strip() == f"bytes */{self.size}"

    def append(self) -> BinaryIO:
        """Open for the next bytes."""
        return os.fdopen(regular_handle(self.path, os.O_WRONLY | os.O_APPEND, follow_links=False), "ab")

    def discard(self) -> None:
        """Delete what has arrived."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads(read_text(self._note_path, max_bytes=_NOTE_BYTES, follow_links=False))
        except (CvmaskError, ValueError, RecursionError):
            return {}
        return note if isinstance(note, dict) else {}


def _validator(headers: Message) -> str | None:
    # A weak ETag does not guarantee the same bytes.
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified")


_NOTE_BYTES = 1 << 20
_INTEGER = "[0-9]{1,18}"  # digits of a byte position, in a file of any size


def _number(text: str | None) -> int | None:
    """Parse a size from a header, None if it is missing. ModelError if it is impossibly long."""
    text = (text or "").strip()
    if re.fullmatch("[0-9]{19,}", text):
        raise ModelError(f"the server states a size of {len(text)} digits: try another CVMASK_MIRROR")
    return int(text) if re.fullmatch(_INTEGER, text) else None


ATTEMPTS = 5
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
_CHUNK_BYTES = 1 << 18

Progress = Callable[[int, Optional[int]], None]
Say = Callable[[str], None]


def fetch(url: str, part: Part, limit_bytes: int, progress: Progress, say: Say) -> None:
    """Download a file, resuming an earlier attempt.

    Parameters
    ----------
    part
        Where the bytes go: complete when this returns, kept for a later call when it raises or is
        interrupted.
    limit_bytes
        Larger files are refused.
    progress
        Called with the bytes that have arrived, and the whole size or None.
    say
        Called with a line before each wait.

    Raises
    ------
    ModelError
        If the server does not have the file, `ATTEMPTS` in a row brought nothing new, the file is too
        large, or the disk is full.
    """
    failures, furthest = 0, part.size
    while True:
        try:
            return _attempt(url, part, limit_bytes, progress)
        except Passing as problem:
            # Only attempts without progress count: a connection that drops every minute still gets there.
            failures = failures + 1 if part.size <= furthest else 1
            furthest = max(furthest, part.size)
            wait_s = problem.wait_s if problem.wait_s is not None else BACKOFF_S * 2 ** (failures - 1)
            if failures >= ATTEMPTS or wait_s > LONGEST_WAIT_S:
                raise ModelError(_given_up(url, problem, part)) from problem
            say(f"{problem}; trying again in {wait_s:.0f} s ({size_text(part.size)} so far)")
            sleep(wait_s)


def _attempt(url: str, part: Part, limit_bytes: int, progress: Progress) -> None:
    headers = part.request_headers(url)
    with request(url, headers) as answer:
        if answer.status == 206 and "Range" not in headers:
            raise Passing("the whole file was requested, the server answered 206 (a part of it)")
        total_bytes = _accept(url, part, answer)
        if total_bytes is not None:
            _need_size(url, total_bytes, limit_bytes)
            need_free(part.path.parent, total_bytes - part.size)
        _copy(url, part, answer, total_bytes, limit_bytes, progress)
    # urllib treats a connection that closes early as the end of the file.
    if total_bytes is not None and part.size != total_bytes:
        raise Passing(f"the connection ended at {part.size} of {total_bytes} bytes")


def _accept(url: str, part: Part, answer: Answer) -> int | None:
    headers = answer.headers
    if answer.status == 416:
        if part.is_all_of(headers):
            return part.size
        part.discard()
        raise Passing("the server's file is shorter than what has arrived; starting over", wait_s=0)
    if answer.status == 200:
        with writing_to(part.path.parent):
            return part.accept_whole(url, headers)
    try:
        return part.accept_rest(headers)
    except ValueError as error:
        part.discard()
        raise Passing(f"{error}; starting over", wait_s=0) from error


def _copy(
    url: str, part: Part, answer: Answer, total_bytes: int | None, limit_bytes: int, progress: Progress
) -> None:
    done_bytes = part.size
    progress(done_bytes, total_bytes)
    if answer.status == 416:
        return
    with writing_to(part.path.parent), part.append() as file:
        while done_bytes <= limit_bytes and (chunk := read_some(answer, _CHUNK_BYTES)):
            file.write(chunk)
            done_bytes += len(chunk)
            progress(done_bytes, total_bytes)
    if done_bytes > limit_bytes:
        part.discard()
        _need_size(url, done_bytes, limit_bytes)


def _need_size(url: str, n_bytes: int, limit_bytes: int) -> None:
    if n_bytes > limit_bytes:
        raise ModelError(
            f"{url} is not the model: it has {size_text(n_bytes)} or more, "
            f"expected at most {size_text(limit_bytes)}"
        )


def _given_up(url: str, problem: Passing, part: Part) -> str:
    asked = f" and asks to wait {problem.wait_s:.0f} s" if problem.wait_s else ""
    kept = f"{size_text(part.size)} are kept; " if part.size else ""
    return f"{url} could not be downloaded: {problem}{asked}; {kept}run the same command to try again"
