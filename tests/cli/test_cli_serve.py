from __future__ import annotations

import importlib.util
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.cli.main import main

installed = importlib.util.find_spec("fastapi") is not None
with_extra = pytest.mark.skipif(not installed, reason="needs cvmask[serve]")
COMMAND = [sys.executable, "-m", "cvmask", "serve", "-m", "shapes", "--size", "160x128", "--port", "0"]


@contextmanager
def started(*arguments: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command until the block ends; gives it and the address that it has printed."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    pipe = subprocess.PIPE
    command = subprocess.Popen([*COMMAND, *arguments], stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        assert command.stdout is not None
        line = command.stdout.readline()
        assert line.startswith("cvmask: http://"), command.communicate()
        yield command, line.split()[1]
    finally:
        command.kill()
        command.communicate()


@with_extra
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped_and_leaves_nothing(number: int, clip_mp4: Path, tmp_path: Path) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    with started(str(clip_mp4), folder=place) as (command, address):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
        assert b"<title>cvmask" in urllib.request.urlopen(address).read()
        assert list(place.glob("cvmask-serve-*"))
        client = pytest.importorskip("websockets.sync.client")
        with client.connect(address.replace("http", "ws") + "v1/live", proxy=None) as viewer:
            viewer.recv(timeout=60)
            command.send_signal(number)
            _, said = command.communicate(timeout=60)
        assert (command.returncode, said) == (0, "cvmask: stopped\n")
    assert not list(place.glob("cvmask-serve-*"))


@with_extra
def test_another_address_prints_a_token_and_asks_for_it(tmp_path: Path) -> None:
    with started("--host", "0.0.0.0", folder=tmp_path) as (_, address):
        port, token = re.fullmatch(r"http://[^:]+:(\d+)/\?token=([\w-]{32})", address).groups()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/model")
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/model", headers=headers)
        assert b"shapes" in urllib.request.urlopen(request).read()


@with_extra
def test_a_name_may_have_its_port(tmp_path: Path) -> None:
    with started("--name", "Cam.example.org:8443", folder=tmp_path) as (_, address):
        for host in ("cam.example.org:8443", "cam.example.org"):
            request = urllib.request.Request(f"{address}v1/model", headers={"Host": host})
            assert b"shapes" in urllib.request.urlopen(request).read()


@pytest.mark.parametrize("name", ["https://cam.example.org", "cam.example.org/", ""])
def test_a_name_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], name: str) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--name", name, "-m", "missing"])
    assert "--name" in capsys.readouterr().err


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["serve", "-m", "shapes", *arguments])
    return code, capsys.readouterr().err


@with_extra
def test_an_address_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, said = fails(capsys, "--port", str(port))
    assert code == 1
    assert said == f"cvmask: error: 127.0.0.1:{port} is in use by another program: give another --port\n"


@with_extra
def test_an_address_of_another_machine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys, "--host", "192.0.2.1", "--port", "0")
    assert code == 1
    assert said.startswith("cvmask: error: 192.0.2.1:0 cannot be listened on")
    assert said.count("\n") == 1


@with_extra
def test_a_source_that_cannot_be_opened_is_one_line(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    before = set(Path(tempfile.gettempdir()).glob("cvmask-serve-*"))
    code, said = fails(capsys, "missing.mp4", "--port", "0")
    assert code == 1
    assert "missing.mp4" in said
    assert said.count("\n") == 1
    assert set(Path(tempfile.gettempdir()).glob("cvmask-serve-*")) <= before


@with_extra
@pytest.mark.parametrize("token", ["short", "with spaces in it here", "ümlautümlautümlaut"])
def test_a_token_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str], token: str) -> None:
    code, said = fails(capsys, "--token", token)
    assert code == 2
    assert "a token needs 16 or more" in said


@pytest.mark.skipif(installed, reason="cvmask[serve] is installed here")
def test_a_missing_extra_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = fails(capsys)
    assert code == 1
    assert "pip install fastapi uvicorn" in said
    assert said.count("\n") == 1


@with_extra
def test_a_camera_that_is_not_there_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "-m", "shapes", "--port", "0", "93"]) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert "camera 93" in said


@with_extra
def test_a_damaged_picture_of_a_folder_is_told_once(work: Path, tmp_path: Path) -> None:
    Path("a.png").write_bytes(b"no picture")
    cv2.imwrite("b.png", np.full((128, 160, 3), 90, np.uint8))
    with started(".", folder=tmp_path) as (command, address):
        client = pytest.importorskip("websockets.sync.client")
        with client.connect(address.replace("http", "ws") + "v1/live", proxy=None) as viewer:
            while b'"index":1' not in viewer.recv(timeout=60):
                viewer.send('{"do":"seen"}')
        command.send_signal(signal.SIGTERM)
        _, said = command.communicate(timeout=60)
    assert [line for line in said.splitlines() if "a.png" in line] == said.splitlines()[:1]


@with_extra
def test_an_empty_part_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "-m", "shapes", "clip.mp4", "--start", "5", "--end", "3"]) == 2
    assert "--end must come after --start" in capsys.readouterr().err
