"""Find out what an http(s) address is: a stream of JPEGs, a picture, or something for FFmpeg."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import string
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any, Callable
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources.mjpeg import decode_jpegs
from cvmask.system.interrupts import deferred_signals

_MOST_REDIRECTS = 5
_CHUNK_BYTES = 1 << 16
_OPEN_TIMEOUT_S = 5.0
# From the colon after a name to the last @; a colon and a number before a path are a port.
_PASSWORD = re.compile(r"^([^:/]+://[^:/?#@\[]*):(?!\d{0,5}[/?]).*@", re.DOTALL)
MJPEG, LIVE, PLAYLIST, FILE = "mjpeg", "live", "playlist", "file"
_BOUNDARY = re.compile(
    rb"\s*--[^\r\n]{1,200}\r?\n(?:[A-Za-z-]+:[^\r\n]*\r?\n)*Content-Type:\s*image/jpe?g", re.IGNORECASE
)
# FLV, Matroska and WebM, Ogg. An MP4 file may come without a length and still be one.
_LIVE_STARTS = (b"FLV", b"\x1aE\xdf\xa3", b"OggS")
_TS_BYTES = 188
_TARGET = re.compile(rb"#EXT-X-TARGETDURATION:\s*(\d{1,4})")
_KINDS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class HttpStream:
    """An open response; `close` from any thread ends a waiting read.

    `timeout_s` limits each read; connecting may take as long, and at least 5 s.
    `on_damaged` is called for each JPEG that is left out, except one that the end cuts short.

    Attributes
    ----------
    content_type
        The server's content type in lower case: ``multipart/x-mixed-replace`` is a stream of JPEGs.
    whole_bytes
        The length that the server states; None if it states none, as for live streams.

    Raises
    ------
    OSError, SourceError
        If the server cannot be reached, or answers anything but 200.
    """

    def __init__(self, address: str, timeout_s: float, on_damaged: Callable[[], None] = lambda: None) -> None:
        self.name = without_password(address)
        self._timeout_s = timeout_s
        self._on_damaged = on_damaged
        self._closed = threading.Event()
        self._ended = False
        for _ in range(_MOST_REDIRECTS):
            self._ask(address)
            target = self._answer.getheader("Location")
            if self._answer.status not in (301, 302, 303, 307, 308) or target is None:
                break
            self._finish()
            self._closed.clear()
            address = self._joined(address, target)
        if self._answer.status != 200:
            self._finish()
            raise SourceError(f"{self.name}: the server answers {self._answer.status} {self._answer.reason}")
        self._socket.settimeout(timeout_s)
        self.content_type = (self._answer.getheader("Content-Type") or "").split(";")[0].strip().lower()

        said = self._answer.getheader("Content-Length") or ""
        self.whole_bytes = int(said) if said.isascii() and said.isdigit() else None

    def form(self) -> str:
        """Return the kind by the first bytes: MJPEG, LIVE, PLAYLIST (of HLS), or FILE.

        Transport streams, FLV, Matroska, WebM and Ogg without a length are live. JPEGs are MJPEG whatever content
        type the server states, unless it states a picture. SourceError if nothing comes.
        """
        if self.content_type.startswith("multipart/"):
            return MJPEG
        try:
            start: bytes = self._answer.peek(_CHUNK_BYTES)
        except socket.timeout:
            raise SourceError(f"{self.name}: nothing came for {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self.name}: broke off: {error}") from None
        if start.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"#EXTM3U"):
            return PLAYLIST
        if self.content_type.startswith("image/"):
            return FILE
        if start.startswith(b"\xff\xd8\xff") or _BOUNDARY.match(start):
            return MJPEG
        live = start.startswith(_LIVE_STARTS) or (start[:1] == b"G" and start[_TS_BYTES : _TS_BYTES + 1] in (b"", b"G"))
        return LIVE if self.whole_bytes is None and live else FILE

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each whole JPEG as it arrives; damaged ones are left out."""
        try:
            yield from decode_jpegs(self._read_some, self.name, self._leave_out)
        finally:
            self._finish()

    def read(self, most_bytes: int) -> bytes:
        """Read the whole answer; SourceError if it is longer, or does not come."""
        try:
            data: bytes = self._answer.read(most_bytes + 1)
        except socket.timeout:
            raise SourceError(f"{self.name}: nothing came for {self._timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"{self.name}: broke off: {error}") from None
        if len(data) > most_bytes:
            raise SourceError(f"{self.name}: more than {most_bytes >> 20} MB")
        return data

    def close(self) -> None:
        """End the connection; reading gives no more bytes."""
        self._closed.set()
        with suppress(OSError):
            # Closing alone would not end a read that waits in another thread.
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def _finish(self) -> None:
        """Close the response too; only the thread that reads from it may do so."""
        self.close()
        self._answer.close()

    def _joined(self, address: str, target: str) -> str:
        try:
            return urljoin(address, target)
        except ValueError:
            raise SourceError(f"{self.name}: the server redirects to an invalid address") from None

    def _ask(self, address: str) -> None:
        url, port = self._split(address)
        open_timeout_s = max(self._timeout_s, _OPEN_TIMEOUT_S)
        headers = {"User-Agent": "cvmask", "Connection": "close"}
        if url.username is not None:
            secret = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(secret).decode()
        path = quote((url.path or "/") + (f"?{url.query}" if url.query else ""), safe=string.punctuation)
        with ExitStack() as stack:  # closes the connection unless there is a response
            try:
                self._connection = _KINDS[url.scheme](url.hostname or "", port, timeout=open_timeout_s)
                self._connection.response_class = _new_answer
                stack.callback(self._connection.close)
                self._connection.connect()
                self._socket = self._connection.sock
                self._connection.request("GET", path, headers=headers)
                self._answer = self._connection.getresponse()
            except (http.client.InvalidURL, UnicodeError):
                raise SourceError(f"{self.name}: no http address: the host is no name") from None
            except http.client.HTTPException as error:
                raise SourceError(f"{self.name}: answers no HTTP: {error!r}") from error
            stack.pop_all()

    def _split(self, address: str) -> tuple[SplitResult, int | None]:
        try:
            url = urlsplit(address)
            if url.scheme in _KINDS and url.hostname:
                return url, url.port
        except ValueError:  # which may name a part of a password
            cure = "a port is a number up to 65535; / # ? @ in a password are written %2F %23 %3F %40"
            raise SourceError(f"{self.name}: no http address: {cure}") from None
        raise SourceError(f"{self.name}: no http address")

    def _read_some(self) -> bytes:
        try:
            some: bytes = self._answer.read1(_CHUNK_BYTES)
            self._ended = not some
            return some
        except socket.timeout:
            raise SourceError(f"nothing came for {self._timeout_s:g} s") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            if self._closed.is_set():
                self._ended = True
                return b""
            raise SourceError(f"broke off: {error}") from None

    def _leave_out(self) -> None:
        if not self._ended:
            self._on_damaged()


_PLAYLIST_BYTES = 4 << 20
_USUAL_SEGMENT_S = 6


def live_playlist(answer: HttpStream, address: str, timeout_s: float) -> int | None:
    """Return how many seconds a segment of a live HLS playlist lasts (RFC 8216); None if it is a complete film.

    In a list of playlists, the first one decides.
    """
    text = answer.read(_PLAYLIST_BYTES)
    for _ in range(_MOST_REDIRECTS):
        lines = text.decode("utf-8", "replace").splitlines()
        inner = next((line for line in lines if line and not line.startswith("#")), None)
        if b"#EXT-X-STREAM-INF" not in text or inner is None:
            break
        address = urljoin(address, inner)
        with closing(HttpStream(address, timeout_s)) as answer:
            text = answer.read(_PLAYLIST_BYTES)
    if b"#EXT-X-ENDLIST" in text:
        return None
    target = _TARGET.search(text)
    return int(target[1]) if target else _USUAL_SEGMENT_S


@deferred_signals()
def _new_answer(*arguments: Any, **options: Any) -> http.client.HTTPResponse:
    """Create a response in one step: if Ctrl-C leaves it half made, Python complains on stderr."""
    return http.client.HTTPResponse(*arguments, **options)


def without_password(address: str) -> str:
    """Return an address without its password, even if that holds characters that are not allowed there."""
    return _PASSWORD.sub(r"\1:***@", address)
