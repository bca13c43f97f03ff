from __future__ import annotations

import io
import os
import struct
import subprocess
import sys

import pytest
from zoo_server import ARCHIVE, RESNET50, clean_home, put_model, serving

from cvmask.cli.loading import find_or_download
from cvmask.errors import ModelError

NAME = "coco-resnet50"
OFFER = """
from zoo_server import RESNET50, replace, zoo
zoo._BY_NAME[RESNET50.name] = replace(RESNET50, listed_sha256=None)
from cvmask.cli.loading import find_or_download
print(find_or_download(RESNET50.name))
"""


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def server(home, monkeypatch):
    with serving({RESNET50.archive: ARCHIVE}) as server:
        monkeypatch.setenv("CVMASK_MIRROR", server.url)
        yield server


def test_offer_asks_nothing_about_a_model_at_hand(home, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    folder = put_model(home, NAME)
    assert find_or_download(NAME) == folder
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("answer", ["\n", "y\n", "Yes\n"])
def test_offer_downloads_when_the_user_agrees(server, home, monkeypatch, capsys, answer):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    assert find_or_download(NAME) == home / "models" / NAME
    captured = capsys.readouterr()
    assert captured.err.startswith(f"model {NAME!r} is not installed: download 450 MB now? [Y/n] ")
    assert captured.out == ""


@pytest.mark.parametrize("answer", ["n\n", "no\n", "", "what?\n"])
def test_offer_declined_is_one_line(server, monkeypatch, answer):
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pytest.raises(ModelError, match=f"run 'cvmask models download {NAME}'"):
        find_or_download(NAME)
    assert server.requests == []


def test_offer_does_not_ask_a_pipe(server, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(ModelError, match=f"run 'cvmask models download {NAME}'"):
        find_or_download(NAME)
    assert capsys.readouterr().err == ""
    assert server.requests == []


def test_offer_does_not_ask_without_a_stdin(server, monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ModelError, match="is not installed"):
        find_or_download(NAME)


def test_offer_does_not_ask_offline(server, monkeypatch, capsys):
    monkeypatch.setenv("CVMASK_OFFLINE", "1")
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    with pytest.raises(ModelError, match="is not installed"):
        find_or_download(NAME)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_offer_shows_its_progress_on_a_real_terminal(server, home):
    import fcntl
    import pty
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", OFFER],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    os.close(terminal)
    os.write(controller, b"y\n")
    shown = b""
    try:
        while block := os.read(controller, 4096):
            shown += block
    except OSError:
        pass  # the other end is closed: that is how a pseudo-terminal ends
    os.close(controller)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert output == f"{home}/models/{NAME}\n"
    assert b"download 450 MB now? [Y/n]" in shown
    assert b"100%" in shown or b"100 %" in shown
