"""The loop: everything in order, everything stops, everything is told once."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
from conftest import random_detections

from cvmask.errors import SinkError, SourceError
from cvmask.results.detections import Detections
from cvmask.streams.pipeline import annotate
from cvmask.streams.sinks import JsonLines, Sink, open_sink, read_json_lines
from cvmask.streams.sources import Frame, Images, Newest, Source, Video
from cvmask.streams.sources.mjpeg import Stdin
from cvmask.streams.summary import Stage

# CVMASK_TEST_FRAMES=10000 makes the test of memory a long one.
MANY_FRAMES = int(os.environ.get("CVMASK_TEST_FRAMES", "1300"))


failed_at_s = [0.0]


def fail(error: Exception) -> None:
    """Raise, and note when."""
    failed_at_s[0] = time.monotonic()
    raise error


class Fake(Source):
    """Small grey frames, as many as wanted; frame i has the grey i modulo 256."""

    def __init__(self, count: int = 10, live: bool = False, pause_s: float = 0, fail_at: int = -1) -> None:
        self.name, self.live, self.length = "fake", live, count
        self._pause_s, self._fail_at = pause_s, fail_at
        self.closed = threading.Event()

    def _frames(self) -> Iterator[Frame]:
        for index in range(self.length or 0):
            if self.closed.wait(self._pause_s) or self.closed.is_set():
                return
            if index == self._fail_at:
                fail(SourceError("fake: broke"))
            image = np.full((8, 8, 3), index % 256, np.uint8)
            now_s = time.monotonic() if self.live else None
            yield Frame(image, index, index / 25, self.name, taken_at_s=now_s)

    def close(self) -> None:
        self.closed.set()


class Model:
    """Finds one object whose confidence tells the grey of the frame."""

    def __init__(self, pause_s: float = 0, fail_at: int = -1) -> None:
        self.pause_s, self.fail_at = pause_s, fail_at
        self.clones: list[Model] = []
        self.calls = 0

    def detect(self, frame: np.ndarray) -> Detections:
        grey = int(frame[0, 0, 0])
        self.calls += 1
        time.sleep(self.pause_s * (1 + grey % 3) / 2)
        if grey == self.fail_at:
            fail(ZeroDivisionError("in the model"))
        one = random_detections(np.random.default_rng(0), 1, (frame.shape[0], frame.shape[1]))
        return Detections(one.xyxy, np.float32([grey / 255]), one.class_id, one.soft_masks, one.frame_size)

    def clone(self) -> Model:
        self.clones.append(Model(self.pause_s, self.fail_at))
        return self.clones[-1]


class Collect(Sink):
    """Keeps what was written."""

    def __init__(self, fail_at: int = -1, main_thread: bool = False) -> None:
        self.fail_at, self.main_thread = fail_at, main_thread
        self.indices: list[int] = []
        self.end = ""

    def write(
        self, image: np.ndarray, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        assert frame is not None
        if frame.index == self.fail_at:
            fail(SinkError("collect: full"))
        self.indices.append(frame.index)

    def close(self) -> None:
        self.end = "closed"

    def discard(self) -> None:
        self.end = "discarded"


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert left == []


@pytest.mark.parametrize("workers", [1, 3])
def test_every_frame_comes_once_and_in_order(workers: int) -> None:
    sink, model = Collect(), Model(pause_s=0.002)
    run = annotate(Fake(60), model, outputs=[sink], workers=workers)
    results = list(run)
    assert [result.frame.index for result in results] == list(range(60))
    assert [round(255 * float(r.detections.confidence[0])) for r in results] == list(range(60))
    assert sink.indices == list(range(60))
    assert sink.end == "closed"
    assert (run.summary.read, run.summary.written, run.summary.dropped, run.summary.failed) == (60, 60, 0, 0)
    assert len(model.clones) == workers - 1
    assert all(clone.calls > 0 for clone in model.clones)


def test_stages_overlap() -> None:
    class SlowSink(Collect):
        def write(self, *arguments: object) -> None:
            time.sleep(0.1)

    began = time.perf_counter()
    annotate(Fake(12, pause_s=0.1), Model(pause_s=0.1), outputs=[SlowSink()]).run()
    # One after another they would take 12 * 0.3 s.
    assert time.perf_counter() - began < 2.4


def test_a_frame_is_drawn_while_the_one_before_is_written() -> None:
    drawn = [threading.Event() for _ in range(20)]

    def paint(image: np.ndarray, detections: Detections) -> np.ndarray:
        drawn[int(image[0, 0, 0])].set()
        return image

    class Waiting(Collect):
        def write(
            self, image: np.ndarray, frame: Frame | None = None, detections: Detections | None = None
        ) -> None:
            assert frame is not None
            assert drawn[min(frame.index + 1, 19)].wait(10)
            super().write(image, frame, detections)

    sink = Waiting()
    annotate(Fake(20), Model(), outputs=[sink], paint=paint).run()
    assert sink.indices == list(range(20))


@pytest.mark.parametrize("place", ["source", "model", "output", "window", "tracker", "paint", "loop"])
def test_an_error_anywhere_ends_everything_and_is_raised_once(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Fake(10_000, fail_at=5 if place == "source" else -1)
    model = Model(fail_at=5 if place == "model" else -1)
    sink = Collect(fail_at=5 if place in ("output", "window") else -1, main_thread=place == "window")
    drawing = (lambda image, found: fail(ZeroDivisionError())) if place == "paint" else None
    run = annotate(source, model, outputs=[sink], workers=2, track=place == "tracker", paint=drawing)  # type: ignore[arg-type]
    if place == "tracker":
        monkeypatch.setattr("cvmask.streams.tracking.match", lambda scores: fail(ZeroDivisionError()))
    expected = {"source": SourceError, "output": SinkError, "window": SinkError}.get(place, ZeroDivisionError)

    def go() -> None:
        for result in run:
            if place == "loop" and result.frame.index == 5:
                raise ZeroDivisionError

    with pytest.raises(expected):
        go()
    assert time.monotonic() - failed_at_s[0] < 2
    assert source.closed.is_set()
    # An error of the loop's body is not the run's: all before it is kept.
    assert sink.end == ("closed" if place == "loop" else "discarded")


def test_an_interrupted_run_keeps_its_outputs(tmp_path: Path) -> None:
    class Interrupt(Collect):
        def write(self, image: np.ndarray, frame: Frame | None = None, detections: object = None) -> None:
            if frame is not None and frame.index == 30:
                raise KeyboardInterrupt

    out = tmp_path / "out.mp4"
    run = annotate(Fake(10_000), Model(), outputs=[str(out), Interrupt(main_thread=True)])
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert len(list(Video(out))) >= 30


def test_a_lost_live_source_keeps_its_outputs() -> None:
    sink = Collect()
    with pytest.raises(SourceError, match="broke"):
        annotate(Fake(10, live=True, fail_at=5), Model(), outputs=[sink]).run()
    assert sink.end == "closed"


def test_leaving_the_loop_releases_the_source_and_finishes_the_outputs() -> None:
    source, sink = Fake(10_000), Collect()
    for result in annotate(source, Model(), outputs=[sink]):
        if result.frame.index == 3:
            break
    assert source.closed.is_set()
    assert sink.end == "closed"
    assert sink.indices[:4] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("error", "end"),
    # A broken pipe is that of the program's own words, which nobody reads any more: it costs no output.
    [(ZeroDivisionError, "discarded"), (BrokenPipeError, "closed")],
)
def test_an_error_within_with_discards_the_outputs(error: type[Exception], end: str) -> None:
    sink = Collect()

    def fail_within() -> None:
        with annotate(Fake(10_000), Model(), outputs=[sink]) as run:
            for _ in run:
                raise error

    with pytest.raises(error):
        fail_within()
    assert sink.end == end


def test_leaving_the_loop_within_with_finishes_the_outputs() -> None:
    sink = Collect()
    with annotate(Fake(10_000), Model(), outputs=[sink]) as run:
        for _ in run:
            break
    assert sink.end == "closed"


class Unfinished(Collect):
    """Cannot be finished."""

    def close(self) -> None:
        fail(SinkError("collect: the disk is full"))


def test_an_output_that_cannot_be_finished_is_told_when_the_loop_is_left() -> None:
    first, last = Collect(), Collect()
    run = annotate(Fake(10_000), Model(), outputs=[first, Unfinished(), last])
    results = iter(run)
    next(results)
    with pytest.raises(SinkError, match="the disk is full"):
        results.close()  # type: ignore[attr-defined]
    assert (first.end, last.end) == ("closed", "closed"), "one that fails keeps no other from its end"
    assert run.finished == [first, last]

    def leave_early() -> None:
        with annotate(Fake(10_000), Model(), outputs=[Unfinished()]) as run:
            for _ in run:
                break

    with pytest.raises(SinkError, match="the disk is full"):
        leave_early()


def test_an_output_that_cannot_be_finished_after_an_interrupt_is_its_cause() -> None:
    def interrupt() -> None:
        with annotate(Fake(10_000), Model(), outputs=[Unfinished()]) as run:
            for _ in run:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        interrupt()
    assert str(caught.value.__cause__) == "collect: the disk is full"


KEPT = """
import sys
import numpy as np
import cvmask
from cvmask.streams.sources import Frame, Source

class Grey(Source):
    def _frames(self):
        for index in range(10_000):
            yield Frame(np.full((48, 64, 3), index % 256, np.uint8), index, index / 25, "grey")
    def close(self):
        pass

class Nothing:
    def detect(self, frame):
        return cvmask.Detections.empty(frame.shape[:2])

kept = iter(cvmask.annotate(Grey(), Nothing(), outputs=[sys.argv[1]]))
next(kept)
print("the end")
"""


def test_an_iterator_kept_to_the_end_of_the_program_does_not_hold_it(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = [sys.executable, "-W", "error", "-c", KEPT, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")
    assert len(list(Video(out))) > 0
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_a_run_that_was_never_begun_opens_and_closes() -> None:
    source, sink = Fake(), Collect()
    with annotate(source, Model(), outputs=[sink]):
        pass
    assert source.closed.is_set()
    assert sink.end == "closed"


def test_a_run_goes_once() -> None:
    run = annotate(Fake(2), Model())
    run.run()
    with pytest.raises(RuntimeError, match="call annotate again"):
        run.run()


def test_a_closed_window_ends_the_run() -> None:
    class Closing(Collect):
        def write(self, image: np.ndarray, frame: Frame | None = None, detections: object = None) -> None:
            assert threading.current_thread() is threading.main_thread()
            self.ended = frame is not None and frame.index == 3

    summary = annotate(Fake(10_000), Model(), outputs=[Closing(main_thread=True)]).run()
    assert summary.read < 40


def test_a_slow_reader_of_results_does_not_fill_memory() -> None:
    run = annotate(Fake(200), Model())
    for result in run:
        if result.frame.index < 20:
            time.sleep(0.005)
            assert run.summary.read - result.frame.index <= 7


def test_memory_does_not_grow_over_many_frames() -> None:
    class Nothing(Model):
        def detect(self, frame: np.ndarray) -> Detections:
            return Detections.empty((8, 8))

    sizes = []
    tracemalloc.start()
    try:
        for result in annotate(Fake(MANY_FRAMES), Nothing(), track=True):
            if result.frame.index in (300, MANY_FRAMES - 1):
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[1] - sizes[0] < 10 * MANY_FRAMES


def test_a_live_source_is_never_stale() -> None:
    run = annotate(Newest(Fake(100, live=True, pause_s=0.005)), Model(pause_s=0.05))
    indices = [result.frame.index for result in run]
    assert indices == sorted(set(indices))
    assert run.summary.dropped > 50
    assert run.summary.read + run.summary.dropped == 100
    # A frame waits for the worker, not in a queue: at most about one frame's time, were the machine idle.
    assert run.summary.stages["age"].mean_s < 0.03


def test_every_frame_of_a_live_source_if_wanted() -> None:
    run = annotate(Fake(30, live=True, pause_s=0.001), Model(pause_s=0.005))
    assert len(list(run)) == 30


def test_pictures_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"none")
    errors: list[SourceError] = []
    run = annotate(tmp_path, Model(), outputs=[tmp_path / "out"], on_error=errors.append)
    assert run.run().failed == len(errors) == 1
    assert os.listdir(tmp_path / "out") == ["a.png"]


def test_outputs_are_opened_by_name(tmp_path: Path) -> None:
    annotate(Fake(12), Model(), outputs=[tmp_path / "a.mp4", tmp_path / "a.jsonl"], track=True).run()
    assert len(list(Video(tmp_path / "a.mp4"))) == 12
    found = [detections for _, detections in read_json_lines(tmp_path / "a.jsonl")]
    assert [detections.tracker_id.tolist() for detections in found] == [[1]] * 12  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [str, Path, JsonLines])
def test_one_output_needs_no_list(tmp_path: Path, kind: Callable[[str], str | Path | Sink]) -> None:
    annotate(Fake(3), Model(), outputs=kind(str(tmp_path / "a.jsonl"))).run()
    assert os.listdir(tmp_path) == ["a.jsonl"]
    assert len(list(read_json_lines(tmp_path / "a.jsonl"))) == 3


def test_a_source_goes_once() -> None:
    source = Fake(3)
    assert len(list(source)) == 3
    for again in (lambda: list(source), lambda: annotate(source, Model()).run()):
        with pytest.raises(SourceError, match="fake: its frames were already read: open it again"):
            again()


def test_an_output_that_cannot_be_opened_releases_everything(tmp_path: Path) -> None:
    source, sink = Fake(), Collect()
    with pytest.raises(SinkError, match="ends in one of"):
        annotate(source, Model(), outputs=[sink, tmp_path / "a.xyz"])
    assert source.closed.is_set()
    assert sink.end == "discarded"


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.jsonl", "a.png", "folder"])
def test_one_file_for_two_outputs_is_refused(name: str, tmp_path: Path) -> None:
    os.symlink(tmp_path / name, tmp_path / f"link_{name}")
    source, path = Fake(), tmp_path / name
    for again in (path, f"{tmp_path}/../{tmp_path.name}/{name}", tmp_path / f"link_{name}", open_sink(path)):
        with pytest.raises(SinkError, match=f"{name} is named for two outputs: leave one out"):
            annotate(source, Model(), outputs=[again, path])
    assert source.closed.is_set()
    assert os.listdir(tmp_path) == [f"link_{name}"]


def test_annotate_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="workers must be a whole number from 1 up"):
        annotate(Fake(), Model(), workers=0)
    with pytest.raises(TypeError, match="stride: give these to open_source"):
        annotate(Fake(), Model(), stride=2)
    with pytest.raises(TypeError, match=r"model must be what cvmask.load gives, .* got 'shapes'"):
        annotate(Fake(), "shapes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="stride, on_error: give these to open_source"):
        annotate(Images(["a.png"]), Model(), on_error=print, stride=2)


def test_a_stage_counts_what_several_threads_add() -> None:
    stage, switched_s = Stage(), sys.getswitchinterval()
    threads = [threading.Thread(target=lambda: [stage.add(0.001) for _ in range(20_000)]) for _ in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switched_s)
    assert stage.count == 80_000
    assert stage.percentile_s(1.0) == pytest.approx(0.001, rel=0.03)  # 0 if a class has lost some


def test_a_summary_can_be_sent_to_another_process() -> None:
    summary = annotate(Fake(5), Model()).run()
    assert pickle.loads(pickle.dumps(summary)).lines()[1:] == summary.lines()[1:]


def test_summary_says_what_happened() -> None:
    summary = annotate(Fake(5), Model(pause_s=0.01)).run()
    lines = summary.lines()
    assert lines[0].startswith("frames: 5 read, 5 written, 0 dropped, 0 failed; ")
    assert [line.split()[0] for line in lines[1:]] == ["read", "detect", "draw", "write"]
    detect = summary.stages["detect"]
    assert 0.005 < detect.mean_s <= detect.percentile_s(1.0)


def test_a_run_that_nobody_goes_through_is_told(work: Path) -> None:
    cv2.imwrite("a.png", np.zeros((30, 40, 3), np.uint8))
    with pytest.warns(ResourceWarning, match="annotate did nothing"):
        annotate("a.png", Model())


class Unplugged(Fake):
    """Gives its frames, and is unplugged."""

    def _frames(self) -> Iterator[Frame]:
        yield from super()._frames()
        fail(SourceError("camera 0: unplugged"))


def test_frames_in_flight_of_an_unplugged_camera_are_finished() -> None:
    sink = Collect()
    run = annotate(Unplugged(5, live=True), Model(pause_s=0.02), outputs=[sink])
    with pytest.raises(SourceError, match="unplugged"):
        run.run()
    assert sink.indices == [0, 1, 2, 3, 4]
    assert sink.end == "closed"
    assert (run.summary.read, run.summary.written, run.summary.in_flight) == (5, 5, 0)


def test_an_output_that_fails_keeps_its_frame_from_no_other() -> None:
    first, broken, last = Collect(), Collect(fail_at=3), Collect()
    source = Fake(50, live=True)
    run = annotate(source, Model(), outputs=[first, broken, last])
    with pytest.raises(SinkError, match="collect: full"):
        run.run()
    assert first.indices == last.indices == [0, 1, 2, 3]
    assert (first.end, last.end) == ("closed", "closed")
    summary = run.summary
    assert (summary.written, summary.refused) == (3, 1)
    assert summary.read == summary.written + summary.refused + summary.in_flight
    assert "1 refused by an output" in summary.lines()[0]


def test_frames_in_flight_are_counted_with_what_ended_them() -> None:
    run = annotate(Fake(1000), Model(pause_s=0.01), workers=2)

    def interrupted() -> None:
        with run:
            for index, _ in enumerate(run):
                if index == 5:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    summary = run.summary
    assert summary.read == summary.written + summary.in_flight
    assert summary.in_flight > 0
    assert f"{summary.in_flight} in flight when interrupted" in summary.lines()[0]


def test_damaged_jpegs_of_a_pipe_are_lost_frames() -> None:
    whole = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    source = Stdin(file=io.BytesIO(whole + whole[:-30] + whole))
    run = annotate(source, Model())
    run.run()
    assert (run.summary.written, run.summary.lost) == (2, 1)
    assert "1 lost" in run.summary.lines()[0]
