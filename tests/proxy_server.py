"""A real HTTP proxy on loopback: it forwards plain requests, opens tunnels, and may want a login."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from background import running

_HOP_BY_HOP = ("connection", "proxy-connection", "proxy-authorization", "keep-alive")
_CHUNK = 1 << 14


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    server: Proxy

    def do_GET(self) -> None:
        if not self.admitted():
            return
        url = urlsplit(self.path)
        host, port = self.server.address_of(url.hostname or "", url.port or 80)
        upstream = http.client.HTTPConnection(host, port, timeout=30)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            upstream.request("GET", url.path, headers=headers)
            answer = upstream.getresponse()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in (*_HOP_BY_HOP, "server", "date"):
                    self.send_header(name, value)
            self.end_headers()
            while chunk := answer.read1(_CHUNK):
                self.wfile.write(chunk)
        except http.client.IncompleteRead:
            """The server broke off, and so does the proxy."""
        finally:
            upstream.close()

    def do_CONNECT(self) -> None:
        if not self.admitted():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection(self.server.address_of(host, int(port)), timeout=30) as upstream:
            self.send_response(200, "Connection established")
            self.end_headers()
            self.wfile.flush()
            relay(self.connection, upstream)

    def admitted(self) -> bool:
        self.server.asked.append((self.command, self.path, self.headers.get("Proxy-Authorization")))
        if self.server.login and self.headers.get("Proxy-Authorization") != self.server.login:
            self.send_error(407)
            return False
        if self.server.refuses:
            self.send_error(403)
            return False
        return True

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


def relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side closes."""
    partner = {one: other, other: one}
    while True:
        for ready in select.select([one, other], [], [], 30)[0]:
            try:
                data = ready.recv(_CHUNK)
            except ConnectionError:
                data = b""
            if not data:
                return
            partner[ready].sendall(data)


class Proxy(ThreadingHTTPServer):
    """Where it listens is `url`; `hosts` names servers that no name server knows."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.hosts: dict[str, tuple[str, int]] = {}
        self.login, self.refuses = "", False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def address_of(self, host: str, port: int) -> tuple[str, int]:
        return self.hosts.get(host, (host, port))

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


@contextmanager
def proxying() -> Iterator[Proxy]:
    with Proxy() as proxy, running(proxy):
        yield proxy


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key; made by openssl, valid for a day."""
    certificate, key = folder / "localhost.pem", folder / "localhost.key"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "1", *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def with_tls(server: ThreadingHTTPServer, certificate: Path, key: Path) -> None:
    """Let a server that is not yet serving speak TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
