from __future__ import annotations

import io
import sys

import pytest

from cvmask.cli import progress
from cvmask.cli.progress import DownloadProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_progress_prints_a_line_for_each_tenth(capsys, clock):
    with DownloadProgress("coco") as bar:
        for done in range(0, 1001):
            bar.advance(done * 1000, 1_000_000)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "coco: 0 bytes of 1.0 MB, 0 %"
    assert lines[-1] == "coco: 1.0 MB of 1.0 MB, 100 %"
    assert len(lines) == 11


def test_progress_prints_a_line_now_and_then_when_it_is_slow(capsys, clock):
    with DownloadProgress("coco") as bar:
        for _ in range(5):
            bar.advance(10_000, 1_000_000)
            clock[0] += 6
    assert len(capsys.readouterr().err.splitlines()) == 3


def test_progress_without_a_length_counts_what_came(capsys, clock):
    with DownloadProgress("coco") as bar:
        bar.advance(0, None)
        clock[0] += 11
        bar.advance(5_000_000, None)
    assert capsys.readouterr().err.splitlines() == ["coco: 0 bytes", "coco: 5.0 MB"]


def test_progress_starts_where_an_earlier_attempt_stopped(capsys, clock):
    with DownloadProgress("coco") as bar:
        bar.advance(550_000, 1_000_000)
        bar.advance(560_000, 1_000_000)
        bar.advance(600_000, 1_000_000)
    assert capsys.readouterr().err.splitlines() == [
        "coco: 550 kB of 1.0 MB, 55 %",
        "coco: 600 kB of 1.0 MB, 60 %",
    ]


def test_progress_without_tqdm_prints_lines_on_a_terminal_too(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with DownloadProgress("coco") as bar:
        bar.advance(1000, 1000)
        bar.say("a line")
    assert terminal.getvalue().splitlines() == ["coco: 1.0 kB of 1.0 kB, 100 %", "a line"]


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    pytest.importorskip("tqdm", reason="needs tqdm")
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with DownloadProgress("coco") as bar:
        bar.advance(0, 1_000_000)
        bar.say("a line")
        bar.advance(1_000_000, 1_000_000)
    shown = terminal.getvalue()
    assert "a line\n" in shown
    assert "coco: 100%" in shown
    assert "1.00M/1.00M" in shown
