"""Objects that appear and leave, told to a function and to a command."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from cvmask.cli.main import main
from cvmask.results.arrays import Picture
from cvmask.results.detections import Detections
from cvmask.streams import events
from cvmask.streams.events import Command, Event, Events
from cvmask.streams.live_masks import Follower
from cvmask.streams.pipeline import annotate
from cvmask.streams.sources import Frame, Source

BLACK = np.zeros((48, 64, 3), np.uint8)
EVENT = Event("appeared", 1.5, 30, 1, "circle", 0.9, (1.0, 2.0, 3.0, 4.0), "a.mp4")


def found(*ids: int) -> Detections:
    """One object for each id."""
    boxes = np.array([[10 * number, 2, 10 * number + 5, 9] for number in ids], np.float32).reshape(-1, 4)
    count = len(ids)
    return replace(
        Detections.empty((48, 64)),
        xyxy=boxes,
        confidence=np.full(count, 0.75, np.float32),
        class_id=np.ones(count, np.int32),
        soft_masks=np.ones((count, 2, 2), np.float32),
        tracker_id=np.array(ids, np.int32),
    )


def told(seen: list[Detections]) -> list[Event]:
    happened: list[Event] = []
    sink = Events(happened.append, ["star", "circle"])
    for index, detections in enumerate(seen):
        sink.write(BLACK, Frame(BLACK, index, index / 25, "a.mp4"), detections)
    sink.close()
    return happened


def test_an_object_appears_once_and_has_left_when_it_was_missing_for_the_gap_of_the_tracker() -> None:
    nothing = found()
    assert [one.event for one in told([found(1), *[nothing] * 10, found(1), *[nothing] * 10])] == ["appeared"]
    appeared, left = told([nothing, found(2), found(2), *[nothing] * 11])
    assert appeared == Event("appeared", 0.04, 1, 2, "circle", 0.75, (20, 2, 25, 9), "a.mp4")
    assert left == replace(appeared, event="left", time=0.08, frame=2)


@pytest.mark.parametrize(
    ("labels", "own", "label"),
    [(["star"], None, "1"), (None, ["cat"], "cat"), (None, None, "1"), (["star", "circle"], ["cat"], "circle")],
)
def test_a_name_is_found_where_captions_find_it(
    labels: list[str] | None, own: list[str] | None, label: str
) -> None:
    happened: list[Event] = []
    detections = replace(found(1), labels=None if own is None else np.array(own))
    Events(happened.append, labels).write(BLACK, Frame(BLACK, 0, 0.0, "a.mp4"), detections)
    assert [one.label for one in happened] == [label]


def test_annotate_tells_a_function(clip_mp4: Path) -> None:
    class Model:
        labels = ("star", "circle")

        def detect(self, frame: np.ndarray) -> Detections:
            return replace(found(1), tracker_id=None, frame_size=frame.shape[:2])

    happened: list[Event] = []
    annotate(clip_mp4, Model(), track=True, on_event=happened.append).run()
    assert [(one.event, one.label, one.frame) for one in happened] == [("appeared", "circle", 0)]
    with pytest.raises(ValueError, match="on_event needs track=True"):
        annotate(clip_mp4, Model(), on_event=happened.append)


def test_who_is_missed_where_masks_are_carried_has_not_left_before_the_tracker_says_so() -> None:
    class Frames(Source):
        name, frame_rate = "frames", Fraction(25)

        def _frames(self) -> Iterator[Frame]:
            yield from (Frame(np.zeros((48, 64, 3), np.uint8), index, index / 25, self.name) for index in range(50))

        def close(self) -> None:
            pass

    class Model(Follower):
        seen = iter([*[1] * 3, *[0] * 20, 1, *[0] * 26])

        def detect(self, frame: Picture) -> Detections:
            return replace(found(1) if next(self.seen) else found(), tracker_id=None, frame_size=(48, 64))

    happened: list[Event] = []
    annotate(Frames(), Model([]), track=True, on_event=happened.append).run()
    assert [(one.event, one.frame) for one in happened] == [("appeared", 0), ("left", 23)]


def script(folder: Path, body: str) -> list[str]:
    (folder / "event.py").write_text(f"import sys, time\nfolder = {str(folder)!r}\n{body}\n")
    return [sys.executable, "-S", str(folder / "event.py")]


def test_a_command_gets_each_event_as_json_in_order(tmp_path: Path) -> None:
    words = script(tmp_path, "open(folder + '/out', 'a').write(sys.stdin.read())")
    with Command(words) as command:
        for index in range(3):
            command(replace(EVENT, frame=index))
    lines = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 1, 2]
    wanted = {"event": "appeared", "time": 1.5, "id": 1, "label": "circle", "confidence": 0.9, "box": [1, 2, 3, 4]}
    assert lines[0] == {**wanted, "frame": 0, "source": "a.mp4"}
    assert command.summary() == "3 events"


def test_failing_commands_are_one_line_and_counted(tmp_path: Path) -> None:
    said: list[str] = []
    words = script(tmp_path, "sys.exit('no broker')")
    with Command(words, said.append) as command:
        for number in range(5):
            command(replace(EVENT, id=number))
    assert said == [f"--on-event {sys.executable}: ended with 1: no broker; further failures are counted"]
    assert command.summary() == "5 events, 5 of their commands failed"


def test_a_command_that_is_gone_is_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    with Command([str(tmp_path / "gone")], said.append) as command:
        command(EVENT)
    assert len(said) == 1
    assert "cannot run: " in said[0]
    assert command.failed == 1


def test_a_slow_command_holds_nothing_up_and_is_ended_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "_GRACE_S", 0.5)
    monkeypatch.setattr(events, "_MOST_WAITING", 3)
    said: list[str] = []
    words = script(tmp_path, "open(folder + '/began', 'a').write('x')\ntime.sleep(60)")
    began_s = time.monotonic()
    with Command(words, said.append) as command:
        for _ in range(10):
            command(EVENT)
        assert time.monotonic() - began_s < 5
        while not (tmp_path / "began").exists() and time.monotonic() - began_s < 20:
            time.sleep(0.01)
    assert time.monotonic() - began_s < 30
    assert not any(thread.is_alive() for thread in command._threads)
    assert (tmp_path / "began").read_text() == "x"
    assert command.summary() == "10 events, 10 of their commands failed"
    assert said == [f"--on-event {sys.executable}: is too slow: events are left out; further failures are counted"]


@pytest.mark.skipif(os.name == "nt", reason="of Windows the command alone is ended")
def test_what_a_slow_command_began_is_ended_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_GRACE_S", 0.1)
    child, until = tmp_path / "child", time.monotonic() + 20
    words = script(
        tmp_path,
        "import os, subprocess\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(folder + '/new', 'w').write(str(child.pid))\nos.rename(folder + '/new', folder + '/child')\nchild.wait()",
    )
    with Command(words) as command:
        command(EVENT)
        while not child.exists() and time.monotonic() < until:
            time.sleep(0.01)
    number = int(child.read_text())
    while _runs(number) and time.monotonic() < until:
        time.sleep(0.01)
    assert not _runs(number)


def _runs(number: int) -> bool:
    """Tell whether a process runs; one that is only not waited for by whoever took it over does not."""
    try:
        os.kill(number, 0)
        return ") Z " not in Path(f"/proc/{number}/stat").read_text()
    except ProcessLookupError:
        return False
    except OSError:  # a system without /proc
        return True


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    left = "import subprocess\nsubprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(3)'])"
    began_s = time.monotonic()
    with Command(script(tmp_path, left)) as command:
        command(EVENT)
    assert time.monotonic() - began_s < 2.9
    assert command.failed == 0


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("no-such-program x", "there is no program 'no-such-program'"),
        ("''", "there is no program"),
        ("cat 'x", "no closing quotation"),
    ],
)
def test_a_wrong_command_is_wrong_usage(command: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "a.mp4", "--track", "--on-event", command])
    assert caught.value.code == 2
    assert why in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="quotes words as POSIX does")
def test_predict_runs_a_command(clip_mp4: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "-m", "shapes", "clip.mp4", "--on-event", "tee -a 'my events'"]) == 2
    assert "--on-event needs --track" in capfd.readouterr().err
    assert main(["predict", "-m", "shapes", "clip.mp4", "--track", "--on-event", "tee -a 'my events'"]) == 0
    lines = (clip_mp4.parent / "my events").read_text().splitlines()
    assert {json.loads(line)["event"] for line in lines} == {"appeared"}
    assert f"  {len(lines)} events\n" in capfd.readouterr().out
