"""Ctrl-C at any moment: what is being written is finished, nothing waits for ever."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from conftest import random_detections

from cvmask.formats.record import Record
from cvmask.formats.saver import Saver, SaveSettings
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sources import Frame, Newest, Source, Video
from cvmask.system.interrupts import deferred_signals

IMAGE = np.zeros((48, 64, 3), np.uint8)


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


class Interrupting:
    """Passes everything on to another object, and interrupts behind each call of one of its methods."""

    def __init__(self, wrapped: Any, method: str) -> None:
        self._wrapped, self._method = wrapped, method

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if name != self._method:
            return value

        def call(*args: Any) -> Any:
            result = value(*args)
            interrupt()
            return result

        return call


# The block


def test_an_interrupt_has_its_effect_at_the_end_of_the_block() -> None:
    done = []

    @deferred_signals()
    def work() -> None:
        interrupt()
        done.append("work")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["work"]
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_blocks_in_blocks_end_together() -> None:
    done = []

    @deferred_signals()
    def inner() -> None:
        interrupt()
        done.append("inner")

    @deferred_signals()
    def outer() -> None:
        inner()
        done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert done == ["inner", "outer"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_handler_of_the_program_is_called_and_stays(name: str) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"needs {name}")
    sent = getattr(signal, name)
    heard: list[int] = []

    def handler(number: int, frame: object) -> None:
        heard.append(number)

    before = signal.signal(sent, handler)
    try:
        with deferred_signals():
            signal.raise_signal(sent)
            assert heard == []
        assert heard == [sent]
        assert signal.getsignal(sent) is handler
    finally:
        signal.signal(sent, before)


def test_an_ignored_interrupt_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deferred_signals():
            interrupt()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_changed() -> None:
    handlers: list[Any] = []

    def work() -> None:
        with deferred_signals():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGINT)]


# Outputs


@pytest.mark.parametrize("use_av", [False, True], ids=["opencv", "pyav"])
@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_interrupted_while_it_encodes_is_whole(tmp_path: Path, suffix: str, use_av: bool) -> None:
    if use_av and not has_av():
        pytest.skip("needs PyAV: pip install av")
    path = tmp_path / f"out{suffix}"

    def write() -> None:
        with VideoFile(path, frame_rate=Fraction(25), use_av=use_av) as video:
            for _ in range(3):
                video.write(IMAGE)
            encoder: Any = video._encoder
            if hasattr(encoder, "_writer"):
                encoder._writer = Interrupting(encoder._writer, "write")
            else:
                encoder._stream = Interrupting(encoder._stream, "encode")
            video.write(IMAGE)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert len(list(Video(path))) == 4
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("method", ["write", "__exit__"])
def test_all_formats_are_whole_when_one_is_interrupted(tmp_path: Path, method: str) -> None:
    formats = ["coco", "csv", "jsonl"]
    record = Record("a.png", random_detections(np.random.default_rng(0), 2, (48, 64)))

    def write() -> None:
        with Saver(formats, SaveSettings(tmp_path, ["star"] * 90)) as saver:
            if method == "write":
                saver._writers[0] = Interrupting(saver._writers[0], "write")
            else:
                saver._stack.callback(interrupt)
            saver.write(record, IMAGE)

    with pytest.raises(KeyboardInterrupt):
        write()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum("a.png" in path.read_text() for path in files) == len(formats)
    assert not [path.name for path in files if path.name.startswith(".")]


# The loop


class Fake(Source):
    """As many frames as wanted, until it is closed."""

    name = "fake"

    def __init__(self, count: int) -> None:
        self._count = count
        self._closed = False

    def _frames(self) -> Iterator[Frame]:
        for index in range(self._count):
            if self._closed:
                return
            time.sleep(0.001)
            yield Frame(IMAGE, index, index / 25, self.name)

    def close(self) -> None:
        self._closed = True


class Nothing:
    def detect(self, frame: np.ndarray) -> Any:
        return random_detections(np.random.default_rng(0), 0, (48, 64))


class InterruptAt:
    """Raises KeyboardInterrupt at one step of the lines of a function and what it calls, as a signal may."""

    def __init__(self, function: str, step: int) -> None:
        self._function, self._left = function, step
        self._inside = 0

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code.co_name != self._function and not self._inside:
            return None
        self._inside += (event == "call") - (event == "return")
        if event in ("line", "return"):
            self._left -= 1
            if not self._left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def a_run() -> None:
    for _ in annotate(Fake(4), Nothing()):
        pass


def newest_frames() -> None:
    with Newest(Fake(1_000_000)) as source:
        for frame in source:
            if frame.index > 5:
                break


@pytest.mark.parametrize(("work", "waits"), [(a_run, "take_result"), (newest_frames, "_wait")])
def test_an_interrupt_at_any_line_of_waiting_ends_it(work: Callable[[], None], waits: str) -> None:
    ends: list[str] = []

    def interrupted() -> None:
        sys.settrace(InterruptAt(waits, len(ends) + 1))
        try:
            work()
            end = "done"
        except KeyboardInterrupt:
            end = "interrupted"
        finally:
            sys.settrace(None)
        ends.append(end)

    while ends[-1:] != ["done"]:
        count = len(ends)
        # In a thread of its own, so that the test fails where it would otherwise wait for ever.
        thread = threading.Thread(target=interrupted, daemon=True)
        thread.start()
        thread.join(10)
        assert count < len(ends) < 1000, f"waits for ever after an interrupt at step {count + 1}"
    assert len(ends) > 10
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("cvmask")] == []
