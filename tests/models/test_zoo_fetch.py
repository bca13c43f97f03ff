from __future__ import annotations

import os
import socket
import threading
from email.utils import formatdate

import pytest
from zoo_server import (
    answer_with,
    break_off,
    claim_length,
    etag,
    honest,
    ignore_range,
    noise,
    serving,
    slow,
    stall,
    status,
)

from cvmask.errors import ModelError
from cvmask.models import fetch
from cvmask.models.fetch import Part
from cvmask.system import files

CONTENT = noise(500_000, seed=7)


@pytest.fixture
def server():
    with serving({"file": CONTENT}) as server:
        yield server


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, none of them really."""
    seconds = []
    monkeypatch.setattr(fetch, "sleep", seconds.append)
    return seconds


class Bring:
    def __init__(self, url, folder):
        self.url, self.part = f"{url}/file", Part(folder / "file.part")
        self.lines, self.seen = [], []

    def __call__(self, limit_bytes=10**6):
        fetch.fetch(self.url, self.part, limit_bytes, lambda *now: self.seen.append(now), self.lines.append)
        return self.part.path.read_bytes()


@pytest.fixture
def bring(server, waits, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Bring(server.url, tmp_path)


def test_fetch_brings_a_file_and_tells_how_far_it_is(bring, waits):
    assert bring() == CONTENT
    assert bring.seen[0] == (0, len(CONTENT))
    assert bring.seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in bring.seen] == sorted(done for done, _ in bring.seen)
    assert waits == []
    assert bring.lines == []


def test_fetch_names_itself(bring, server):
    bring()
    assert server.requests[0][1]["User-Agent"].startswith("cvmask/")


def test_fetch_resumes_where_it_broke_off(bring, server, waits):
    server.behaviours = [break_off(100_000), break_off(50_000)]
    assert bring() == CONTENT
    assert server.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert "the connection ended at 100000 of 500000 bytes; trying again in 1 s" in bring.lines[0]


def test_fetch_resumes_in_a_later_call(bring, server):
    server.behaviours = [break_off(100_000), status(404)]
    with pytest.raises(ModelError):
        bring()
    assert bring.part.size == 100_000
    assert bring() == CONTENT
    assert server.ranges()[-1] == "bytes=100000-"
    assert bring.seen[-1] == (500_000, 500_000)


def test_fetch_goes_on_as_long_as_something_comes(bring, server, waits):
    server.behaviours = [break_off(40_000)] * 12
    assert bring() == CONTENT
    assert set(waits) == {1.0}


def test_fetch_starts_over_when_the_file_has_changed(bring, server):
    server.behaviours = [break_off(100_000)]
    server.files["file"] = noise(500_000, seed=8)
    first = server.files["file"]

    def change(handler, content):
        server.files["file"] = CONTENT
        honest(handler, CONTENT)

    server.behaviours.append(change)
    assert bring() == CONTENT
    assert first != CONTENT


def test_fetch_starts_over_when_the_server_ignores_the_range(bring, server):
    server.behaviours = [break_off(100_000), ignore_range]
    assert bring() == CONTENT
    assert server.ranges() == [None, "bytes=100000-"]


def test_fetch_starts_over_when_the_range_is_another(bring, server):
    def shifted(handler, content):
        span = f"bytes 90000-{len(content) - 1}/{len(content)}"
        handler.head(206, Content_Range=span, Content_Length=len(content) - 90_000, ETag=etag(content))
        handler.wfile.write(content[90_000:])

    server.behaviours = [break_off(100_000), shifted]
    assert bring() == CONTENT
    assert server.ranges() == [None, "bytes=100000-", None]


def test_fetch_takes_nothing_more_for_done_when_all_is_here(bring, server):
    bring()
    assert bring() == CONTENT
    assert server.ranges()[-1] == "bytes=500000-"


def test_fetch_gives_up_on_a_server_that_never_gets_past_a_point(bring, server, waits):
    def ignore_and_break(handler, content):
        handler.head(200, Content_Length=len(content))
        handler.wfile.write(content[:1000])

    server.behaviours = [ignore_and_break] * 20
    with pytest.raises(ModelError, match="could not be downloaded: the connection ended at 1000 of 500000 bytes"):
        bring()
    assert waits == [1.0, 2.0, 4.0, 8.0][: len(waits)]
    assert len(server.requests) == fetch.ATTEMPTS


def test_fetch_notices_a_length_that_is_too_large(bring, server):
    server.behaviours = [claim_length(len(CONTENT) + 1000)]
    # The next request is for what is past the end; the answer says that there is nothing.
    assert bring() == CONTENT


def test_fetch_never_takes_less_than_was_promised(bring, server):
    server.behaviours = [claim_length(len(CONTENT) + 1000)] * 20
    with pytest.raises(ModelError, match="ended at 500000 of 501000 bytes"):
        bring()


def test_fetch_without_a_length_reads_to_the_end(bring, server):
    def endless(handler, content):
        handler.head(200)
        handler.wfile.write(content)

    server.behaviours = [endless]
    assert bring() == CONTENT
    assert bring.seen[-1] == (500_000, None)


def test_fetch_takes_chunks(bring, server):
    def chunked(handler, content):
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, Transfer_Encoding="chunked")
        for start in range(0, len(content), 100_000):
            handler.wfile.write(b"186a0\r\n" + content[start : start + 100_000] + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.behaviours = [chunked]
    assert bring() == CONTENT


def test_fetch_tries_again_when_chunks_break_off(bring, server):
    def chunked(handler, content):
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, Transfer_Encoding="chunked")
        handler.wfile.write(b"186a0\r\n" + content[:50_000])

    server.behaviours = [chunked]
    assert bring() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("code", [403, 404, 410])
def test_fetch_ends_at_once_where_nothing_will_come(bring, server, waits, code):
    server.behaviours = [status(code)]
    with pytest.raises(ModelError) as caught:
        bring()
    line = str(caught.value)
    assert bring.url in line
    assert str(code) in line
    assert "CVMASK_MIRROR" in line
    assert "\n" not in line
    assert waits == []


def test_fetch_follows_a_redirect_and_resumes_through_it(bring, server):
    server.behaviours = [status(302, Location="/elsewhere/file"), break_off(100_000)]
    server.behaviours += [status(302, Location="/elsewhere/file")]
    assert bring() == CONTENT
    assert [path for path, _ in server.requests] == ["/file", "/elsewhere/file"] * 2
    assert server.ranges()[-1] == "bytes=100000-"


def test_fetch_ends_a_redirect_in_circles_in_one_line(bring, server):
    server.behaviours = [status(302, Location="/file")] * 30
    with pytest.raises(ModelError, match="cannot be downloaded: the server answered 302") as caught:
        bring()
    assert "\n" not in str(caught.value)


def test_fetch_tries_again_where_no_http_is_spoken(waits, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def babble():
            for _ in range(fetch.ATTEMPTS):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH\r\n\r\n")

        thread = threading.Thread(target=babble)
        thread.start()
        with pytest.raises(ModelError, match=r"SSH-2\.0") as caught:
            Bring(f"http://127.0.0.1:{listener.getsockname()[1]}", tmp_path)()
        thread.join(5)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_fetch_tries_again_where_it_may_pass(bring, server, waits, code):
    server.behaviours = [status(code), status(code)]
    assert bring() == CONTENT
    assert waits == [1.0, 2.0]
    assert f"the server answered {code}" in bring.lines[0]


def test_fetch_waits_as_long_as_the_server_asks(bring, server, waits):
    server.behaviours = [status(503, Retry_After=7)]
    assert bring() == CONTENT
    assert waits == [7.0]


def test_fetch_understands_a_date_to_wait_for(bring, server, waits):
    server.behaviours = [status(503, Retry_After=formatdate(fetch.time.time() + 30, usegmt=True))]
    assert bring() == CONTENT
    assert 25 < waits[0] <= 30


def test_fetch_does_not_wait_for_an_hour(bring, server, waits):
    server.behaviours = [status(503, Retry_After=3600)]
    with pytest.raises(ModelError, match="asks to wait 3600 s"):
        bring()
    assert waits == []


def test_fetch_gives_up_after_its_attempts(bring, server, waits):
    server.behaviours = [status(503)] * 20
    with pytest.raises(ModelError, match="could not be downloaded: the server answered 503"):
        bring()
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_fetch_gives_up_on_silence(bring, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.5)
    server.behaviours = [stall(5)]
    assert bring() == CONTENT
    assert "no data for 0.5 s" in bring.lines[0]
    assert server.ranges() == [None, "bytes=100-"]


def test_fetch_is_patient_with_a_slow_server(bring, server, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 1.0)
    server.behaviours = [slow(0.1, pieces=12)]
    assert bring() == CONTENT
    assert bring.lines == []


def test_fetch_tries_again_when_nobody_listens(waits, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bring = Bring(f"http://127.0.0.1:{port}", tmp_path)
    with pytest.raises(ModelError, match=r"cannot be reached \(Connection refused\)"):
        bring()
    assert len(waits) == fetch.ATTEMPTS - 1


def test_fetch_ends_at_once_without_a_network(waits, tmp_path, monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match="was not found; check the network, set HTTP_PROXY"):
        Bring("http://host.invalid", tmp_path)()
    assert waits == []


def test_fetch_refuses_what_is_too_large_before_it_comes(bring):
    with pytest.raises(ModelError, match="is not the model: it has 500 kB or more, expected at most 100 kB"):
        bring(limit_bytes=100_000)
    assert bring.part.size == 0


def test_fetch_stops_an_answer_without_end(bring, server):
    def endless(handler, content):
        handler.head(200)
        for _ in range(1000):
            handler.wfile.write(content)

    server.behaviours = [endless]
    with pytest.raises(ModelError, match="is not the model"):
        bring(limit_bytes=800_000)
    assert bring.part.size == 0


def test_fetch_refuses_an_answer_without_a_file(bring, server):
    server.behaviours = [status(204)]
    with pytest.raises(ModelError, match="answered 204"):
        bring()


def test_fetch_asks_for_room_first(bring, monkeypatch):
    class Usage:
        free = 1000

    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: Usage)
    with pytest.raises(files.DiskError, match=r"has 1.0 kB free, needed 500 kB"):
        bring()


def test_fetch_says_that_the_disk_is_full(bring, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    monkeypatch.setattr(fetch, "regular_handle", lambda *how, **more: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(files.DiskError, match="is full: make room"):
        bring()


def test_fetch_keeps_what_came_when_it_is_interrupted(bring, server):
    def interrupt(done_bytes, total_bytes):
        if done_bytes > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(bring.url, bring.part, 10**6, interrupt, bring.lines.append)
    kept = bring.part.size
    assert 0 < kept <= len(CONTENT)
    assert bring() == CONTENT
    assert server.ranges()[-1] == f"bytes={kept}-"


def test_fetch_refuses_an_address_that_is_none(waits, tmp_path):
    with pytest.raises(ModelError, match="is not a usable address"):
        Bring("http://host/with space", tmp_path)()


def test_fetch_accepts_a_page_as_it_comes(bring, server):
    server.behaviours = [answer_with(b"<html>login</html>", Content_Type="text/html")]
    assert bring() == b"<html>login</html>"


def part_of_it(handler, content):
    """A 206 that nobody asked for, which claims to begin where nothing is yet."""
    handler.head(206, Content_Range=f"bytes 0-99/{len(content)}", Content_Length=100, ETag=etag(content))
    handler.wfile.write(bytes(100))


def test_fetch_appends_no_part_that_it_did_not_ask_for(bring, server):
    server.behaviours = [part_of_it]
    assert bring() == CONTENT
    assert "the whole file was requested, the server answered 206" in bring.lines[0]


def test_fetch_of_nothing_but_unasked_parts_ends(bring, server):
    server.behaviours = [part_of_it] * 20
    with pytest.raises(ModelError, match="answered 206"):
        bring()
    assert bring.part.size == 0


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 25])
def test_fetch_of_a_size_of_thousands_of_digits_is_one_line(bring, server, length):
    server.behaviours = [lambda handler, content: handler.head(200, Content_Length=length)]
    with pytest.raises(ModelError, match=f"a size of {len(length)} digits"):
        bring()


@pytest.mark.parametrize("after", ["9" * 5000, "Sun, 28 Jan 99999999999 00:00:00 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"])
def test_fetch_survives_the_time_that_a_busy_server_names(bring, server, after):
    server.behaviours = [status(503, Retry_After=after)] * 5
    with pytest.raises(ModelError, match="could not be downloaded"):
        bring()
