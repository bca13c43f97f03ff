"""Behind the real nginx: TLS, names, and clients that are told apart. The configuration is the one of docs/serve.md."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra: pip install '.[serve]'")
httpx = pytest.importorskip("httpx", reason="needs the extra: pip install '.[serve-test]'")

from conftest import ROOT  # noqa: E402
from serve_helpers import png, served, until  # noqa: E402

from cvmask import scenes  # noqa: E402
from cvmask.runtime.model import MaskRCNN  # noqa: E402

pytestmark = pytest.mark.skipif(
    not (shutil.which("nginx") and shutil.which("openssl")), reason="needs nginx and openssl"
)
TOKEN = "right-token-right"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[str]:
    """Run nginx with TLS before a server of this port, as the page of the documentation says; gives its address."""
    block = re.search(r"```nginx\n(.*?)```", (ROOT / "docs" / "serve.md").read_text(encoding="utf-8"), re.S)
    assert block is not None
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    own = free_port()
    site = block[1].replace("443", f"127.0.0.1:{own}").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    site = site.replace("cam.example.org", "localhost").replace("/etc/ssl/cam", str(folder))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary}\n{site} }}\n"
    )
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: process.poll() is not None or _answers(own))
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield f"https://localhost:{own}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as opened:
        return opened.connect_ex(("127.0.0.1", port)) == 0


def test_nginx_with_tls_and_clients_that_are_told_apart(tmp_path: Path, quick_model: MaskRCNN) -> None:
    with served(quick_model, token=TOKEN, proxies=["127.0.0.1"]) as server, nginx(tmp_path, server.port) as address:
        trusted = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        with httpx.Client(base_url=address, verify=trusted) as client:
            door = client.get(f"/?token={TOKEN}")
            assert door.status_code == 303
            assert "secure" in door.headers["set-cookie"].lower()
            assert "<html" in client.get("/").text, "the cookie opens the page"
            picture = png(scenes.make_scene(3, (96, 96), objects=2).image)
            headers = {"Content-Type": "image/png", "Origin": address}
            found = client.post("/v1/detect", content=picture, headers=headers)
            assert found.status_code == 200, found.text
            assert _upgraded(address, trusted, client.cookies), "WebSockets go through"


def _upgraded(address: str, trusted: ssl.SSLContext, cookies: Any) -> bool:
    """Tell whether a WebSocket is opened through the proxy."""
    port = int(address.rpartition(":")[2])
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    with trusted.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as opened:
        opened.sendall(
            f"GET /v1/camera HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {address}\r\nCookie: {cookie}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        return opened.recv(1000).startswith(b"HTTP/1.1 101")


def test_forwarded_clients_have_shares_of_their_own_and_only_proxies_are_believed(quick_model: MaskRCNN) -> None:
    for proxies, shared in (([], True), (["127.0.0.1"], False), (["10.0.0.0/8"], True)):
        with (
            served(quick_model, proxies=proxies, connections=2) as server,
            socket.create_connection(("127.0.0.1", server.port)) as slow,
        ):
            slow.sendall(
                b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 192.0.2.1\r\n"
                b"Content-Type: image/png\r\nContent-Length: 100\r\n\r\nhalf"
            )
            until(lambda: server.client.get("/healthz").status_code == 200)
            wanted = 503 if shared else 200  # half of the connections is all that one client may have
            until(partial(_has_status, server, wanted))


def _has_status(server: Any, status: int) -> bool:
    return bool(server.client.get("/v1/model", headers={"X-Forwarded-For": "192.0.2.2"}).status_code == status)
