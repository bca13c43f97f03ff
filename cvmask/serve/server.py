"""Uvicorn around the app: a socket, a stop that ends well, clients that say nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from cvmask.errors import CvmaskError
from cvmask.serve.limits import Limits

_GRACE_S = 5
_SPARE = 20


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
    """Tell whether nobody but this machine can call this address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_server(app: ASGIApp, limits: Limits) -> Server:
    """Make a server for `app`; ``run(sockets=[...])`` serves until it is stopped."""
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
        proxy_headers=False,
        ws_max_size=limits.picture_bytes,
        # Pictures do not get smaller by it, and it would be done again for each viewer.
        ws_per_message_deflate=False,
        limit_concurrency=limits.connections + _SPARE,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return Server(config)


class Server(uvicorn.Server):
    """Ends in order on Ctrl-C and SIGTERM, and returns instead of raising the signal again."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take both signals while it runs; a second one ends at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _is_news(record: logging.LogRecord) -> bool:
    """Leave out the tracebacks of what is given up when the server ends."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _protocol(limits: Limits) -> type[H11Protocol]:
    class Protocol(H11Protocol):
        """A connection that is closed when the head of a request does not come in time."""

        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._timer = self.loop.call_later(limits.head_s, self._give_up)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
            if begun and self._timer is None:
                self._timer = self.loop.call_later(limits.head_s, self._give_up)
            elif not begun:
                self._stop_timer()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def _stop_timer(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            # A WebSocket may have taken the connection over.
            if self.transport.get_protocol() is self:
                self.transport.abort()

    return Protocol
