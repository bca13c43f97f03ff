"""The command on videos and streams, in-process: files, messages, exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import ROOT, random_detections

from cvmask.cli import loading, predict, run_sources, run_stream
from cvmask.cli.main import build_parser, main
from cvmask.cli.options import seconds
from cvmask.cli.progress import StreamProgress
from cvmask.errors import SourceError
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN, Settings
from cvmask.streams.sinks import Sink, read_json_lines
from cvmask.streams.sinks.encoders import OpenCVEncoder
from cvmask.streams.sources import Frame, Source, Video


class Model:
    """Finds the same two random objects in each frame."""

    labels = tuple(f"thing{index}" for index in range(90))
    settings = Settings()
    notes: tuple[str, ...] = ()
    target = SimpleNamespace(effective="cpu", reason="", warning="")
    graph_bytes = 1
    resizer = SimpleNamespace(target_wh=lambda size_wh: size_wh)

    def detect(self, frame: np.ndarray) -> Detections:
        return random_detections(np.random.default_rng(1), 2, (frame.shape[0], frame.shape[1]))

    def clone(self) -> Model:
        return Model()


@pytest.fixture(autouse=True)
def _fake_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *args: Model())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def write_clip(path: str, frames: int = 6) -> str:
    writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for index in range(frames):
        writer.write(np.full((48, 64, 3), 20 * index % 256, np.uint8))
    writer.release()
    return path


def write_still(path: str, frames: int) -> str:
    """A clip without movement and without a cut."""
    noise = np.random.default_rng(3).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for _ in range(frames):
        writer.write(cv2.resize(noise, (64, 48)))
    writer.release()
    return path


def test_a_window_that_was_ended_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip("in.avi")
    cv2.imwrite("a.png", np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite("b.png", np.zeros((48, 64, 3), np.uint8))
    window = SimpleNamespace(ended=True, write=lambda *frame: None)
    monkeypatch.setattr(run_sources, "_open_window", lambda: window)
    assert main(["predict", "a.png", "b.png", "in.avi", "--show", "-o", "out"]) == 0
    assert os.listdir("out") == ["a.png"]


def test_video_becomes_a_video_and_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    assert main(["predict", "in.avi", "--save-json", "--track", "--workers", "2"]) == 0
    assert len(list(Video("cvmask_out/in.mp4"))) == 6
    found = [detections for _, detections in read_json_lines("cvmask_out/in.jsonl")]
    assert [list(detections.tracker_id) for detections in found] == [[1, 2]] * 6  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert out.startswith("in.avi: frames: 6 read, 6 written, 0 dropped, 0 failed; ")
    assert "-> cvmask_out/in.mp4, cvmask_out/in.jsonl" in out


def test_the_address_of_a_video_is_the_video(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in put.avi", 20)
    assert main(["predict", Path("in put.avi").absolute().as_uri(), "-o", "o.mp4", "--start", "0.5"]) == 0
    assert len(list(Video("o.mp4"))) == 15
    assert capsys.readouterr().err == ""


def test_part_of_a_video() -> None:
    write_clip("in.avi", 20)
    assert main(["predict", "in.avi", "-o", "o.mp4", "--start", "0.5", "--end", "0:01.5", "--stride", "2"]) == 0
    assert len(list(Video("o.mp4"))) == 5


def test_pictures_and_videos_together_go_on_after_a_bad_one(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    cv2.imwrite("a.png", np.zeros((48, 64, 3), np.uint8))
    Path("bad.mp4").write_text("no video")
    assert main(["predict", "a.png", "bad.mp4", "in.avi", "-o", "out"]) == 3
    assert sorted(os.listdir("out")) == ["a.png", "in.mp4"]
    assert "bad.mp4: no video that OpenCV can open" in capsys.readouterr().err


def test_only_bad_videos_fail() -> None:
    assert main(["predict", "gone.mp4"]) == 1
    assert not Path("cvmask_out").exists() or os.listdir("cvmask_out") == []


def test_one_output_file_for_several_videos_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("a.avi")
    write_clip("b.avi")
    assert main(["predict", "a.avi", "b.avi", "-o", "out.mp4"]) == 2
    assert "out.mp4 is one file for 2 sources: give a folder" in capsys.readouterr().err


def test_an_output_that_is_not_written_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    assert main(["predict", "in.avi", "-o", "out.flv"]) == 2
    assert main(["predict", "in.avi", "gone.avi", "-o", "out.mp4"]) == 2
    assert main(["render", "in.avi", "x.jsonl", "-o", "out.xyz"]) == 2
    flv, several, xyz = capsys.readouterr().err.splitlines()
    assert "out.flv: for a video needed one of .mp4 .m4v .mov .mkv .avi .webm .gif .jsonl .webp, or" in flv
    assert flv.endswith("got .flv")
    assert "out.mp4 is one file for 2 sources" in several
    assert xyz.endswith("got .xyz")


def test_missing_camera_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "93"]) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert "camera 93: /dev/video93 does not exist" in said


@pytest.mark.parametrize("number", ["9" * 20, "9" * 5000])
def test_a_number_that_no_camera_has_is_one_line(number: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", number]) == 1
    (said,) = capfd.readouterr().err.splitlines()
    assert said == f"cvmask: no camera {number}: cameras are numbered from 0"


def test_show_without_a_display_is_one_line_and_the_run_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    assert main(["predict", "in.avi", "-o", "o.mp4", "--show"]) == 0
    assert "no window can be shown" in capsys.readouterr().err
    assert len(list(Video("o.mp4"))) == 6


def test_render_draws_the_same_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    assert main(["predict", "in.avi", "-o", "o.avi", "--save-json"]) == 0
    assert main(["render", "in.avi", "o.jsonl", "-o", "again.avi"]) == 0
    assert Path("o.avi").read_bytes() == Path("again.avi").read_bytes()
    assert main(["render", "in.avi", "o.jsonl", "-o", "less.avi", "--conf", "0.99", "--no-masks"]) == 0
    assert Path("less.avi").read_bytes() != Path("again.avi").read_bytes()
    assert main(["render", "in.avi", "gone.jsonl", "-o", "x.mp4"]) == 1


@pytest.mark.parametrize("verb", ["predict", "edit"])
def test_detect_every_marks_and_counts_what_it_carried(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    clip = write_still("in.avi", 6)
    flags = ["--save-json"] if verb == "predict" else ["--effect", "blur-objects"]
    assert main([verb, clip, "-o", "out.mp4", "--detect-every", "4", *flags]) == 0
    assert "6 written" in (said := capsys.readouterr().out)
    assert "3 of them carried" in said
    if verb == "predict":
        lines = list(read_json_lines("out.jsonl"))
        assert [found.carried for _, found in lines] == [0, 1, 2, 1, 0, 0]
        assert main(["render", clip, "out.jsonl", "-o", "again.mp4"]) == 0
        for first, second in zip(Video("out.mp4"), Video("again.mp4")):
            assert np.array_equal(first.image, second.image)


class Flickering(Model):
    """Misses everything in every third frame."""

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, frame: np.ndarray) -> Detections:
        self.calls += 1
        found = super().detect(frame)
        return found[:0] if self.calls % 3 == 2 else found


@pytest.mark.parametrize("effect", ["blur-objects", "pixelate-objects", "spotlight"])
def test_what_hides_objects_hides_them_in_every_frame(
    effect: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *args: Flickering())
    clip = write_still("in.avi", 6)
    assert main(["edit", clip, "-o", "out.avi", "--effect", effect, "--track"]) == 0
    said = capsys.readouterr().out
    assert ("4 missed objects filled in" in said) == (effect != "spotlight")


@pytest.mark.parametrize("every", ["0", "61", "often", "2.5", "-1"])
def test_a_detect_every_that_cannot_be_is_wrong_usage(every: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["predict", "in.avi", "--detect-every", every])
    assert ended.value.code == 2
    assert "1 to 60, or auto" in capsys.readouterr().err


def test_codec_is_that_of_the_video(capsys: pytest.CaptureFixture[str]) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    write_clip("in.avi")
    assert main(["predict", "in.avi", "-o", "o.mp4", "--save-json"]) == 0
    assert main(["predict", "in.avi", "-o", "o4.mp4", "--save-json", "--codec", "mp4v"]) == 0
    assert main(["render", "in.avi", "o.jsonl", "-o", "r4.mkv", "--codec", "mp4v"]) == 0
    assert main(["edit", "in.avi", "-o", "folder", "--effect", "blur-background", "--codec", "mp4v"]) == 0
    names = {"o.mp4": "h264", "o4.mp4": "mpeg4", "r4.mkv": "mpeg4", "folder/in.mp4": "mpeg4"}
    for name, codec in names.items():
        with av.open(name) as video:
            assert video.streams.video[0].codec_context.name == codec
        assert len(list(Video(name))) == 6


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("predict in.avi -o o.avi --codec h264", "error: --codec h264: H.264 goes into .mp4 .m4v .mov .mkv"),
        ("edit in.avi -o o.webm --effect grey-background --codec mp4v", "error: --codec mp4v: mp4v goes into .mp4"),
        ("render in.avi o.jsonl -o folder/ --codec mp4v", "error: --codec mp4v: folder/ is a folder of pictures"),
        ("render in.avi o.jsonl -o again.jsonl --codec mp4v", "error: --codec mp4v: a codec is for videos: .mp4"),
    ],
)
def test_a_codec_that_cannot_be_is_wrong_usage(
    argv: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip("in.avi")
    assert main(argv.split()) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "flags",
    [
        *(["--stride", "0"], ["--start", "x"], ["--raw-size", "9"], ["--timeout", "0"], ["--timeout", "1e10"]),
        *(["--rate", rate] for rate in ("0", "1e12", "1/100000000000", "1e999999999", "25/", "nan", "1/0")),
    ],
)
def test_wrong_values_are_wrong_usage(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["predict", "in.avi", *flags])
    assert caught.value.code == 2
    assert "needed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        *(("25", Fraction(25)), ("29.97", Fraction(2997, 100)), ("30000/1001", Fraction(30000, 1001))),
        *(("29.97002997", Fraction(30000, 1001)), ("0.001", Fraction(1, 1000)), ("1e3", Fraction(1000))),
    ],
)
def test_rate_is_a_fraction_that_a_video_can_have(text: str, rate: Fraction) -> None:
    assert build_parser().parse_args(["predict", "-", "--rate", text]).frame_rate == rate


@pytest.mark.parametrize(
    ("live", "kept"), [(True, " -> out/camera0.mp4, out/camera0.jsonl"), (False, " -> out/camera0.jsonl")]
)
def test_the_summary_names_what_is_there_after_an_error(
    live: bool, kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Lost(Source):
        name, frame_rate = "camera0", Fraction(10)

        def _frames(self) -> Iterator[Frame]:
            for index in range(5):
                yield Frame(np.zeros((64, 96, 3), np.uint8), index, index / 10, self.name)
            time.sleep(0.5)  # all are written by now
            raise SourceError("camera0: lost")

        def close(self) -> None:
            pass

    lost = Lost()
    lost.live = live
    monkeypatch.setattr(run_stream, "open_source", lambda *_, **__: lost)
    assert main(["predict", "0", "-o", "out/", "--save-json"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "cvmask: camera0: lost"
    assert said.out.splitlines()[0].endswith(f"frames a second{kept}")
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(
        Path(name).name for name in kept[4:].split(", ")
    )


class Shown(Sink):
    """Stands for a window."""

    name = "window"

    def write(self, image: object, frame: Frame | None = None, detections: Detections | None = None) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("verb", "flags", "carried"),
    [
        ("predict", ["--show"], True),
        ("predict", ["-o", "x.jsonl"], False),
        ("predict", ["-o", "x.jsonl", "--detect-every", "auto"], True),
        ("predict", ["--show", "--detect-every", "1"], False),
        ("predict", ["--show", "--every-frame"], False),
        ("edit", ["--show", "--effect", "blur-background"], True),
        ("edit", ["--show", "--effect", "blur-objects"], False),
    ],
)
def test_masks_are_carried_by_default_for_what_is_live_in_a_window(
    verb: str, flags: list[str], carried: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Live(Source):
        name, frame_rate, live, newest = "camera0", Fraction(100), True, "--every-frame" not in flags

        def _frames(self) -> Iterator[Frame]:
            for index in range(12):
                time.sleep(0.01)
                yield Frame(np.full((64, 96, 3), 9 + index, np.uint8), index, index / 100, self.name)

        def close(self) -> None:
            pass

    def slow(model: MaskRCNN, image: object) -> Detections:
        time.sleep(0.04)
        return Detections.empty((64, 96))

    monkeypatch.setattr(MaskRCNN, "detect", slow)
    monkeypatch.setattr(run_stream, "open_source", lambda *_, **__: Live())
    monkeypatch.setattr(run_stream, "_window", lambda _: [Shown()])
    assert main([verb, "0", *flags]) == 0
    said = capsys.readouterr().out
    assert ("of them carried" in said) == carried
    assert "12 read, 12 written" in said


def test_a_video_that_cannot_be_finished_after_an_interrupt_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def finish(encoder: OpenCVEncoder) -> int:
        encoder.abandon()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(OpenCVEncoder, "finish", finish)
    monkeypatch.setattr(StreamProgress, "advance", lambda *_: signal.raise_signal(signal.SIGINT))
    assert main(["predict", write_clip("in.avi"), "-o", "out.avi", "--save-json"]) == 130
    said = capsys.readouterr()
    why, end = said.err.splitlines()[-2:]
    assert (why, end) == ("cvmask: out.avi cannot be written: No space left on device", "cvmask: interrupted")
    assert said.out.splitlines()[0].endswith(" frames a second -> out.jsonl")
    assert not Path("out.avi").exists()


def test_the_summary_does_not_name_what_an_error_of_another_kind_discarded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(StreamProgress, "advance", fail)
    with pytest.raises(ZeroDivisionError):
        main(["predict", write_clip("in.avi"), "-o", "out.avi", "--save-json"])
    assert capsys.readouterr().out.splitlines()[0].endswith(" frames a second -> out.jsonl")
    assert not Path("out.avi").exists()


def test_seconds_are_read_in_three_forms() -> None:
    wanted = {"90": 90, "1:30": 90, "0:01:30.5": 90.5, "100:00:07": 360_007, "90:00": 5400, ".5": 0.5}
    assert {text: seconds(text) for text in wanted} == wanted


@pytest.mark.parametrize(
    "text", ["1:-5", "1:99:99:1", "1:60", "1:60:00", "-1", "1:", ":1", "1:+5", "1:1e1", "nan", "inf", ""]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"needed seconds, M:SS or H:MM:SS"):
        seconds(text)


def test_videos_of_one_name_have_outputs_of_their_own() -> None:
    for folder, name in (("one", "v.avi"), ("two", "V.avi"), ("two", "v.mp4")):
        Path(folder).mkdir(exist_ok=True)
        write_clip(f"{folder}/{name}", 3)
    argv = ["predict", "one/v.avi", "two/V.avi", "two/v.mp4", "-o", "out", "--save-json"]
    assert main(argv) == 0
    names = ["V_2.jsonl", "V_2.mp4", "v.jsonl", "v.mp4", "v_3.jsonl", "v_3.mp4"]
    assert sorted(path.name for path in Path("out").iterdir()) == names


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_finishes_the_video_and_it_plays(tmp_path: Path, number: int) -> None:
    program = f"""
        import sys, time
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests" / "cli")!r}, {str(ROOT / "tests")!r}]
        import test_cli_streams as t
        class Slow(t.Model):
            def detect(self, frame):
                time.sleep(0.05)
                return super().detect(frame)
        t.loading.load_model = lambda *args: Slow()
        sys.exit(t.main(["predict", "in.avi", "-o", "out.mp4", "--save-json"]))
    """
    write_clip("in.avi", 2000)
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE)
    lines = tmp_path / "out.jsonl"
    for _ in range(600):
        if lines.exists() and lines.read_bytes().count(b"\n") > 5:
            break
        time.sleep(0.1)
    child.send_signal(number)
    _, message = child.communicate(timeout=60)
    assert child.returncode == 130
    assert b"Traceback" not in message
    count = len(list(Video("out.mp4")))
    assert 5 < count < 2000
    assert count == len(list(read_json_lines(lines)))


def test_stdin_and_addresses_get_names_of_their_own() -> None:
    from cvmask.cli.inputs import is_stream, stem_of

    places = ["-", "0", "rtsp://me:secret@cam.local:554/live?x=1", "a/b.mkv", "http://cam.local:80/a/in.mp4?x=1"]
    stems = ["stdin", "camera0", "cam.local_554_live", "b", "cam.local_80_a_in"]
    assert [stem_of(place) for place in places] == stems
    assert all(is_stream(place) for place in places)
    assert stem_of("file:///a/b%20c.mp4") == "b c"
    assert not is_stream("a.png")


def test_predict_lists_its_stream_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    text: Any = capsys.readouterr().out
    for flag in ("--start", "--end", "--stride", "--track", "--workers", "--every-frame", "--raw-size"):
        assert flag in text
    assert predict.EPILOG.splitlines()[1].strip() in text


def test_an_empty_part_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("clip.avi")
    assert main(["predict", "clip.avi", "--start", "5", "--end", "3"]) == 2
    assert "--end must come after --start, got 5 s to 3 s" in capsys.readouterr().err


def test_what_was_not_written_is_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("clip.avi")
    assert main(["predict", "clip.avi", "-o", "out.mp4", "--start", "50"]) == 1
    said = capsys.readouterr()
    assert "ends before the start" in said.err
    assert "out.mp4" not in said.out
    assert not Path("out.mp4").exists()


def test_a_run_without_a_frame_leaves_older_json_lines_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("clip.avi")
    Path("out.jsonl").write_text("older")
    assert main(["predict", "clip.avi", "-o", "out.mp4", "--save-json", "--start", "50"]) == 1
    assert Path("out.jsonl").read_text() == "older"
    assert "out.jsonl" not in capsys.readouterr().out


def test_a_file_that_is_no_video_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").write_text("text")
    assert main(["predict", "notes.txt"]) == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert "no video that OpenCV can open" in said[0]


def test_render_says_that_the_video_comes_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "out.jsonl", "in.mp4", "-o", "again.mp4"]) == 2
    assert "the video comes first" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_failed_video(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("clip.avi")
    Path("file").write_bytes(b"")
    assert main(["predict", "clip.avi", "-o", "file/deep/out.mp4"]) == 1
    assert capsys.readouterr().err == "cvmask: file/deep cannot be made: Not a directory\n"


@pytest.mark.parametrize("output", ["out.png", "out.JPG"])
def test_one_picture_is_no_place_for_a_video(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_clip("in.avi")
    assert main(["predict", "in.avi", "-o", output]) == 2
    assert f"{output}: for a video needed one of .mp4" in capsys.readouterr().err
    assert not Path(output).exists()
