"""Uvicorn around the app: the socket, a clean stop, and limits for silent clients.

All is done with uvicorn's own options, but for its HTTP protocol on h11, which is given to `Config(http=...)` as a
subclass, because it has no options for these: a time for the head of a request (`timeout_keep_alive` begins behind
the first one), letting go of the oldest silent connection (`limit_concurrency` refuses the new one, health checks
too), a limit of WebSocket messages for each path, and a limit of a head that comes at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import errno
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cvmask.errors import CvmaskError
from cvmask.serve.guard import CAMERA
from cvmask.serve.limits import Limits

_GRACE_S = 5
_PIECE = 16 << 10


def listen(host: str, port: int) -> socket.socket:
    """Open the socket; CvmaskError names what is wrong with the address."""
    place = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CvmaskError(f"{place}: no address of this machine: {error.strerror or error}") from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        if error.errno == errno.EADDRINUSE:
            raise CvmaskError(f"{place} is in use by another program: give another --port") from None
        raise CvmaskError(f"{place} cannot be listened on: {error.strerror or error}") from None
    return opened


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(app: ASGIApp, limits: Limits, proxies: Sequence[str] = ()) -> uvicorn.Server:
    """Make a server for `app`; ``run(sockets=[...])`` serves until it is stopped.

    Of requests that come from an address of `proxies`, the client and the scheme are what ``X-Forwarded-For`` and
    ``X-Forwarded-Proto`` say.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        app,
        http=_protocol(limits),
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ws_max_size=limits.order_bytes,
        # Compression does not make pictures smaller, and would be repeated for each viewer.
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def ending_in_order(server: uvicorn.Server) -> Iterator[None]:
    """While the block runs, Ctrl-C and SIGTERM only stop the server; a second one stops it at once.

    Uvicorn takes both while it serves, and raises them again when it has ended: they come here, and change nothing.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, server.handle_exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out the tracebacks of tasks that are cancelled when the server stops."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _protocol(limits: Limits) -> type[H11Protocol]:
    # Connections without a whole request, the oldest first.
    idle: dict[Protocol, None] = {}

    class Protocol(H11Protocol):
        """A connection that is closed when a request does not come in time, or is the oldest of too many."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(limits.head_s, self._give_up)
            idle[self] = None
            if len(idle) > limits.connections:
                # Not the new one, so that /healthz is answered however many connections are silent.
                oldest = next(iter(idle))
                del idle[oldest]
                oldest.transport.abort()

        def handle_websocket_upgrade(self, event: h11.Request) -> None:
            if event.target.partition(b"?")[0] == CAMERA.encode():
                self.config = copy.copy(self.config)
                self.config.ws_max_size = limits.frame_bytes
            idle.pop(self, None)
            super().handle_websocket_upgrade(event)

        def data_received(self, data: bytes) -> None:
            while self.conn.their_state is h11.IDLE and len(data) > _PIECE:
                # h11 parses a head above its limit if it arrives at once.
                self._take(data[:_PIECE])
                data = data[_PIECE:]
            if self.conn.their_state is not h11.ERROR:
                self._take(data)

        def _take(self, data: bytes) -> None:
            super().data_received(data)
            self._note_idle()
            begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if begun and self._timer is None:
                self._timer = self.loop.call_later(limits.head_s, self._give_up)
            elif not begun:
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            idle.pop(self, None)
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._note_idle()

        def _note_idle(self) -> None:
            if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
                idle[self] = None
            else:
                idle.pop(self, None)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            # A WebSocket may have taken the connection over.
            if self.transport.get_protocol() is self:
                self.transport.abort()

    return Protocol
