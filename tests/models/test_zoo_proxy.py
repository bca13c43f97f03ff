"""The zoo's downloads through a real proxy: forwarded, tunnelled, refused, and passed by."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil

import pytest
from proxy_server import make_certificate, proxying, with_tls
from zoo_server import ARCHIVE, GRAPH, RESNET50, STEM, break_off, clean_home, serving

from cvmask import models
from cvmask.errors import ModelError
from cvmask.models import zoo
from cvmask.models.zoo import GRAPH_FILE

NAME = "coco-resnet50"
FILE = f"/{STEM}.tar.gz"


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def server(home):
    with serving({RESNET50.archive: ARCHIVE}) as server:
        yield server


@pytest.fixture
def proxy(home):
    with proxying() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes a certificate, is not installed")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_server(home, certificate):
    with serving({RESNET50.archive: ARCHIVE}, lambda server: with_tls(server, *certificate)) as server:
        yield server


def tls_url(server):
    return f"https://localhost:{server.server_address[1]}"


def arrived(home):
    return (home / "models" / NAME / GRAPH_FILE).read_bytes() == GRAPH


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy"])
def test_download_goes_through_the_proxy_to_a_host_that_only_it_knows(
    home, proxy, server, monkeypatch, variable
):
    proxy.hosts["download.tensorflow.org"] = server.server_address
    monkeypatch.setenv(variable, proxy.url)
    known = dataclasses.replace(RESNET50, listed_sha256=hashlib.sha256(ARCHIVE).hexdigest())
    monkeypatch.setitem(zoo._BY_NAME, NAME, known)
    said = []
    models.download(NAME, say=said.append)
    # What is asked first is https; where that fails, the file's known hash makes plain HTTP safe.
    assert proxy.asked[-1] == ("GET", f"{zoo.PLAIN_ORIGIN}/{STEM}.tar.gz", None)
    assert f"trying {zoo.PLAIN_ORIGIN}/{STEM}.tar.gz" in said[0]
    assert arrived(home)


def test_download_that_breaks_off_is_resumed_through_the_proxy(home, proxy, server, monkeypatch):
    server.behaviours = [break_off(after=100_000)]
    monkeypatch.setenv("CVMASK_MIRROR", server.url)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    models.download(NAME)
    assert len(proxy.asked) == 2
    assert server.ranges()[0] is None
    assert server.ranges()[1] == "bytes=100000-"
    assert arrived(home)


def test_download_logs_in_at_the_proxy(home, proxy, server, monkeypatch):
    proxy.login = "Basic bWU6c2VjcmV0"  # me:secret
    monkeypatch.setenv("CVMASK_MIRROR", server.url)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    with pytest.raises(ModelError, match="the proxy needs a login"):
        models.download(NAME)
    assert server.requests == []
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("//", "//me:secret@"))
    models.download(NAME)
    assert arrived(home)


@pytest.mark.parametrize(
    ("hosts", "asked"),
    [("127.0.0.1", 0), ("example.org, 127.0.0.1", 0), ("*", 0), ("example.org", 1)],
)
def test_hosts_of_no_proxy_are_asked_straight(home, proxy, server, monkeypatch, hosts, asked):
    monkeypatch.setenv("CVMASK_MIRROR", server.url)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", hosts)
    models.download(NAME)
    assert len(proxy.asked) == asked
    assert len(server.requests) == 1


def test_https_goes_through_a_tunnel_that_the_proxy_cannot_look_into(
    home, proxy, tls_server, certificate, monkeypatch
):
    monkeypatch.setenv("CVMASK_MIRROR", tls_url(tls_server))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    tls_server.behaviours = [break_off(after=100_000)]
    models.download(NAME)
    assert [asked[:2] for asked in proxy.asked] == [
        ("CONNECT", f"localhost:{tls_server.server_address[1]}")
    ] * 2
    assert [path for path, _ in tls_server.requests] == [FILE, FILE]
    assert arrived(home)


def test_https_passes_by_the_proxy_of_http_and_that_of_no_proxy(
    home, proxy, tls_server, certificate, monkeypatch
):
    monkeypatch.setenv("CVMASK_MIRROR", tls_url(tls_server))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    models.download(NAME)
    models.remove(NAME)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", "localhost")
    models.download(NAME)
    assert proxy.asked == []
    assert len(tls_server.requests) == 2


def test_https_with_an_unknown_certificate_is_refused_at_once(home, proxy, tls_server, monkeypatch):
    monkeypatch.setenv("CVMASK_MIRROR", tls_url(tls_server))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(ModelError, match=r"certificate is not trusted .*SSL_CERT_FILE"):
        models.download(NAME)
    assert len(proxy.asked) == 1


def test_a_tunnel_that_the_proxy_refuses_is_said_at_once(home, proxy, tls_server, monkeypatch):
    monkeypatch.setenv("CVMASK_MIRROR", tls_url(tls_server))
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    proxy.refuses = True
    with pytest.raises(ModelError, match=r"the proxy refuses it \(.*403.*\)"):
        models.download(NAME)
    proxy.login = "Basic bWU6c2VjcmV0"
    with pytest.raises(ModelError, match=r"the proxy needs a login .*HTTPS_PROXY=http://user:password"):
        models.download(NAME)
    assert len(proxy.asked) == 2
    assert tls_server.requests == []
