"""Every video gives the frames that it holds, each with its own time, or one line that says why not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import ffmpeg

from cvmask.errors import SinkError, SourceError
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.encoders import OpenCVEncoder
from cvmask.streams.sources import Camera, Video, open_source
from cvmask.system.interrupts import Stopped, stopped_by

VERSION = tuple(int(part) for part in cv2.__version__.split(".")[:2])
OLD = VERSION < (4, 13)  # of a raw stream, what it says itself
OLD_AVERAGE = VERSION < (4, 9)  # the rate that the file states, where that of its frames is another
NTSC = Fraction(24000, 1001)
NO_TIMES = "frames have no time of their own and follow at"

# Frames, size, rate, time of the last frame in seconds, message. Older OpenCV states the shortest
# gap of a varying rate, newer the average; for raw streams newer ones say 25 whatever the stream says.
GOOD: dict[str, tuple[int, tuple[int, int], Fraction, float, str]] = {
    "odd_video/fps_23976.mp4": (40, (854, 480), NTSC, 39 / NTSC, ""),
    "odd_video/name with spaces é中.mp4": (40, (854, 480), Fraction(24), 39 / 24, ""),
    "odd_video/odd_321x241_mjpeg.avi": (10, (429, 241), Fraction(24), 9 / 24, ""),
    "odd_video/one_frame.mp4": (1, (854, 480), Fraction(24), 0, ""),
    "odd_video/raw.h264": (40, (854, 480), Fraction(24 if OLD else 25), 39 / (24 if OLD else 25), NO_TIMES),
    "odd_video/rotate_meta_90.mp4": (40, (480, 854), Fraction(24), 39 / 24, ""),
    "odd_video/size_changes_midway.h264": (
        *(24, (854, 480), Fraction(24 if OLD else 25)),
        *(23 / (24 if OLD else 25), NO_TIMES),
    ),
    "odd_video/truncated_faststart.mp4": (
        *(22, (854, 480), Fraction(24)),
        *(23 / 24, "damaged or cut short, about 18 frames are lost"),
    ),
    "odd_video/vfr.mp4": (22, (854, 480), Fraction(24) if OLD_AVERAGE else Fraction(44, 3), 39 / 24, ""),
    "odd_video/with_audio_aac.mp4": (40, (854, 480), Fraction(24), 39 / 24, ""),
    "video/bottle-detection.mp4": (1189, (640, 360), Fraction(179, 6), 1188 * 6 / 179, ""),
    "video/car-detection.mp4": (377, (768, 432), Fraction(25, 2), 376 / 12.5, ""),
    "video/cars.mp4": (97, (1920, 1080), Fraction(50) if OLD_AVERAGE else Fraction(1241600, 25337), 96 / 50, ""),
    "video/nasa_13013.mp4": (325, (320, 180), Fraction(25), 324 / 25, ""),
    "video/walk.mkv": (89, (640, 480), Fraction(30), 2.933, ""),
}
BAD = {
    "audio_only.mp4": "no video that OpenCV can open",
    "text.mp4": "no video that OpenCV can open",
    "truncated_moov_at_end.mp4": "no video that OpenCV can open",
    "zero_bytes.mp4": r"is empty \(0 bytes\)",
}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_video_gives_its_frames(shared: Path, name: str) -> None:
    count, (width, height), rate, last_s, message = GOOD[name]
    messages: list[str] = []
    with Video(shared / "data" / name, on_message=messages.append) as video:
        assert video.size_wh == (width, height)
        assert video.frame_rate == rate
        times = []
        for expected, frame in enumerate(video):
            assert frame.index == expected
            assert frame.image.shape == (height, width, 3)
            assert frame.time_s is not None
            times.append(frame.time_s)
    assert len(times) == count
    assert times[0] == 0
    assert times[-1] == pytest.approx(float(last_s), abs=1e-6)
    assert (np.diff(times) > 0).all()
    assert len(messages) == bool(message)
    assert message in "".join(messages)


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_video_is_refused_in_one_line(shared: Path, name: str) -> None:
    with pytest.raises(SourceError, match=BAD[name]) as caught:
        Video(shared / "data" / "odd_video" / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_odd_video_has_its_expectation(shared: Path) -> None:
    names = {path.name for folder in ("odd_video", "video") for path in (shared / "data" / folder).iterdir()}
    assert names == {Path(name).name for name in GOOD} | BAD.keys()


def test_varying_rate_keeps_its_times(shared: Path) -> None:
    times = [frame.time_s for frame in Video(shared / "data" / "odd_video" / "vfr.mp4")]
    ticks = np.array(times, dtype=float) * 24
    assert np.abs(ticks - ticks.round()).max() < 1e-6
    assert set(np.diff(ticks.round()).tolist()) == {1, 3}


def write_clip(path: Path, frames: int = 20, rate: float = 10) -> Path:
    """Write a small clip whose frame i has the grey 10 * i."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), rate, (32, 16))
    for index in range(frames):
        writer.write(np.full((16, 32, 3), 10 * index, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    ("start_s", "end_s", "stride", "indices"),
    [
        (0, None, 1, range(20)),
        (0.5, None, 1, range(5, 20)),
        (0.45, 1.0, 1, range(5, 10)),
        (0, None, 3, range(0, 20, 3)),
        (0.5, 1.55, 4, [5, 9, 13]),
        (0, 99, 1, range(20)),
    ],
)
def test_part_of_a_video(
    tmp_path: Path, start_s: float, end_s: float | None, stride: int, indices: list[int]
) -> None:
    video = Video(write_clip(tmp_path / "a.avi"), start_s=start_s, end_s=end_s, stride=stride)
    assert video.frame_rate == Fraction(10, stride)
    assert video.length == len(indices)
    frames = list(video)
    assert [frame.index for frame in frames] == list(indices)
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in indices])
    grey = [frame.image.mean() for frame in frames]
    assert grey == pytest.approx([10 * index for index in indices], abs=2)


def test_frames_without_times_are_cut_where_the_rate_says(shared: Path) -> None:
    path = shared / "data/odd_video/raw.h264"
    rate = Video(path).frame_rate
    assert rate is not None
    for number in (1, 2, 3, 10, 25, 38, 39):
        with Video(path, end_s=float(number / rate)) as head, Video(path, start_s=float(number / rate)) as tail:
            assert len(list(head)) == number
            assert next(iter(tail)).index == number


def test_start_after_the_end_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a.avi: ends before the start at 5 s"):
        list(Video(write_clip(tmp_path / "a.avi"), start_s=5))


@pytest.mark.parametrize("part", [{"stride": 0}, {"start_s": -1}, {"start_s": 2, "end_s": 2}])
def test_impossible_part_is_refused(tmp_path: Path, part: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="stride >= 1"):
        Video(write_clip(tmp_path / "a.avi"), **part)  # type: ignore[arg-type]


def test_folder_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder, not a video"):
        Video(tmp_path)
    with pytest.raises(SourceError, match=r"gone.mp4: cannot be read: No such file"):
        Video(tmp_path / "gone.mp4")


NOT_UTF8 = "its name, or that of its folder, is not UTF-8: rename it"


@pytest.mark.parametrize(
    "name", ["\udcffclip.mp4", "/dev/video\udcff", "rtsp://127.0.0.1:1/\udcff", "http://127.0.0.1:1/\udcff"]
)
def test_a_name_that_would_crash_opencv_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=NOT_UTF8):
        open_source(name)
    with pytest.raises(SourceError, match=NOT_UTF8):
        (Camera if name.startswith("/dev/") else Video)(name)


def test_a_folder_that_would_crash_opencv_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        (tmp_path / "\udcff").mkdir()
    except OSError:
        pytest.skip("needs a file system that takes any bytes for a name")
    monkeypatch.chdir(tmp_path / "\udcff")
    Path("clip.mp4").write_bytes(b"something")
    with pytest.raises(SourceError, match=f"clip.mp4: {NOT_UTF8}"):
        Video("clip.mp4")
    with pytest.raises(SinkError, match=f"^out.mp4: {NOT_UTF8}"):
        VideoFile("out.mp4")
    with pytest.raises(SourceError, match="cannot be reached"):  # it does not lie in the folder
        open_source("http://127.0.0.1:1/clip.mp4")


@pytest.mark.parametrize("name", ["a\0.mp4", "a\0.png", "in\0/*.png", "/dev/video\0", "rtsp://127.0.0.1:1/\0"])
def test_a_null_character_is_one_line(name: str) -> None:
    with pytest.raises(SourceError, match="a name has no null character"):
        open_source(name)


@pytest.mark.parametrize(("name", "rate"), [("ntsc.dv", 30000 / 1001), ("pal.dv", 25), ("ticks.webm", 30)])
def test_a_rate_of_ticks_is_measured(tmp_path: Path, name: str, rate: float) -> None:
    encoder = {
        "ntsc.dv": ("-s", "720x480", "-r", "30000/1001", "-pix_fmt", "yuv411p"),
        "pal.dv": ("-s", "720x576", "-r", "25", "-pix_fmt", "yuv420p"),
        "ticks.webm": ("-r", "30", "-vf", "setpts='PTS+if(eq(mod(N,3),1),0.004,0)/TB'", "-c:v", "vp8"),
    }[name]
    clip = ffmpeg(tmp_path / name, "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30:duration=0.5", *encoder)
    assert float(Video(clip).frame_rate or 0) == pytest.approx(rate, rel=0.05)


def jumping(folder: Path, seconds: int) -> Path:
    """Make ten frames, and so much time before the sixth."""
    source = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.4")
    later = f"setpts='PTS+gte(N,5)*{seconds}/TB'"
    return ffmpeg(folder / "jump.ts", *source, "-vf", later, "-fps_mode", "passthrough", "-c:v", "mpeg2video")


@pytest.mark.parametrize("ending", ["avi", "webm"])
def test_a_jump_in_time_is_bounded_and_told(tmp_path: Path, ending: str) -> None:
    messages: list[str] = []
    out = tmp_path / f"out.{ending}"
    source = Video(jumping(tmp_path, 7200), on_message=messages.append)
    with source, VideoFile(out, frame_rate=source.frame_rate, on_message=messages.append) as sink:
        for frame in source:
            sink.write(frame.image, frame)
    assert sum(1 for _ in Video(out)) == pytest.approx(60 * 25 + 10, abs=3)
    assert "time goes on by 7200 s before frame 5" in messages[0]
    assert "7140 s shorter" in messages[-1]


def test_a_pause_of_seconds_is_kept_whole(tmp_path: Path) -> None:
    source, out = Video(jumping(tmp_path, 4)), tmp_path / "out.avi"
    with source, VideoFile(out, frame_rate=source.frame_rate) as sink:
        for frame in source:
            sink.write(frame.image, frame)
    assert sum(1 for _ in Video(out)) == 110


def test_a_run_that_is_stopped_repeats_no_more(tmp_path: Path) -> None:
    writes = 0

    class Slow:
        def write(self, image: object) -> None:
            nonlocal writes
            writes += 1

        def release(self) -> None:
            pass

    encoder = OpenCVEncoder(tmp_path / "out.avi", (64, 48), Fraction(25))
    encoder._writer.release()
    encoder._writer = Slow()  # type: ignore[assignment]
    image = np.zeros((48, 64, 3), np.uint8)
    encoder.add(image, 0)
    with stopped_by(lambda: writes > 20), pytest.raises(Stopped):
        encoder.add(image, 50)
    assert writes == 21
