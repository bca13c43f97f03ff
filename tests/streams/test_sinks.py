"""What every output keeps to, and what each one writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY

import cv2
import numpy as np
import pytest
from clips import ffmpeg
from conftest import ROOT, random_detections
from unprivileged import run_unprivileged

from cvmask.cli.options import UsageError, destination
from cvmask.errors import SinkError, SourceError
from cvmask.results.detections import Detections
from cvmask.streams.sinks import Animation, ImageFolder, JsonLines, Sink, VideoFile, open_sink, read_json_lines
from cvmask.streams.sinks.av_encoder import AvEncoder, has_av
from cvmask.streams.sinks.mp4 import is_finished, set_frame_times
from cvmask.streams.sources import Frame, Video, open_source, read_image

NTSC_FILM = Fraction(24000, 1001)
VIDEOS = ["out.mp4", "out.mov", "out.mkv", "out.avi"]
NewVideo = Callable[..., VideoFile]
ALL = [*VIDEOS, "out.jsonl", "out.png", "folder"]


def frames(count: int, size_wh: tuple[int, int] = (64, 48), rate: float = 25) -> Iterator[Frame]:
    """Make frames whose grey is 8 times their index."""
    for index in range(count):
        grey = np.full((size_wh[1], size_wh[0], 3), 8 * index, np.uint8)
        yield Frame(grey, index, index / rate, "made.mp4")


def write_all(sink: Sink, count: int) -> None:
    for frame in frames(count):
        sink.write(frame.image, frame, Detections.empty((48, 64)))


def write_and_raise(path: Path, error: BaseException) -> None:
    with open_sink(path) as sink:
        write_all(sink, 1 if path.suffix == ".png" else 3)
        raise error


def count_for(name: str) -> int:
    return 1 if name == "out.png" else 5


@pytest.fixture(params=[False, True], ids=["opencv", "pyav"])
def use_av(request: pytest.FixtureRequest) -> bool:
    if request.param:
        pytest.importorskip("av", reason="needs PyAV: pip install av")
    return bool(request.param)


# The contract


@pytest.mark.parametrize("name", ALL)
def test_sink_leaves_its_output(tmp_path: Path, name: str) -> None:
    with open_sink(tmp_path / "deep" / name) as sink:
        write_all(sink, count_for(name))
        sink.close()
    assert os.listdir(tmp_path / "deep") == [name]


@pytest.mark.parametrize("name", ALL)
def test_sink_without_frames_leaves_no_broken_output(tmp_path: Path, name: str) -> None:
    with open_sink(tmp_path / name):
        pass
    assert os.listdir(tmp_path) in ([], ["out.jsonl"])


@pytest.mark.parametrize("name", VIDEOS)
def test_sink_discards_after_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"older")
    with pytest.raises(ZeroDivisionError):
        write_and_raise(tmp_path / name, ZeroDivisionError())
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"older"


@pytest.mark.parametrize("name", VIDEOS)
def test_a_name_that_would_crash_opencv_is_refused(tmp_path: Path, name: str, use_av: bool) -> None:
    with pytest.raises(SinkError, match="is not UTF-8: rename it"):
        VideoFile(tmp_path / f"\udcff{name}", use_av=use_av)
    with pytest.raises(SinkError, match="has no null character"):
        VideoFile(tmp_path / f"\0{name}", use_av=use_av)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [*VIDEOS, "out.jsonl"])
@pytest.mark.parametrize("end", ["close", "discard"])
def test_nothing_is_written_after_the_end(tmp_path: Path, name: str, end: str) -> None:
    sink = open_sink(tmp_path / name)
    write_all(sink, 2)
    getattr(sink, end)()
    before = [(path.name, path.read_bytes()) for path in tmp_path.iterdir()]
    with pytest.raises(SinkError, match=f"{name} is closed: no frame can follow"):
        write_all(sink, 1)
    sink.close()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == before


@pytest.mark.parametrize("name", [*VIDEOS, "out.jsonl", "out.png"])
def test_sink_writes_to_what_a_link_leads_to_and_keeps_its_permissions(tmp_path: Path, name: str) -> None:
    target = tmp_path / "private"
    target.touch(mode=0o600)
    (tmp_path / name).symlink_to(target)
    with open_sink(tmp_path / name) as sink:
        write_all(sink, count_for(name))
    assert (tmp_path / name).is_symlink()
    assert target.stat().st_size > 0
    if os.name == "posix":
        assert target.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == sorted([name, "private"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("name", [*VIDEOS, "out.jsonl", "out.png"])
def test_sink_refuses_a_pipe_and_leaves_it(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(SinkError, match=f"{name} is a pipe or a device"):
        write_and_raise(tmp_path / name, AssertionError())
    assert (tmp_path / name).is_fifo()


@pytest.mark.parametrize("name", VIDEOS)
def test_sink_finishes_when_interrupted(tmp_path: Path, name: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_and_raise(tmp_path / name, KeyboardInterrupt())
    assert len(list(Video(tmp_path / name))) == 3


@pytest.mark.parametrize("name", ALL)
def test_sink_names_a_place_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"file.* cannot be written: ") as caught:
        write_and_raise(tmp_path / "file" / name, AssertionError())
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["out.mp4", "out.jsonl", "folder/out.png"])
def test_full_disk_is_one_line_and_leaves_nothing_broken(small_disk: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    many = random_detections(np.random.default_rng(0), 40, (480, 640))
    target = small_disk / ("" if name.startswith("folder") else name)

    def fill() -> None:
        with open_sink(target) as sink:
            for index in range(2000):
                sink.write(noise, Frame(noise, index, index / 25, "noise.mp4"), many)

    with pytest.raises(SinkError, match=r"cannot be written|the disk is full") as caught:
        fill()
    assert "\n" not in str(caught.value)
    left = [path for path in small_disk.iterdir() if path.suffix != ".png"]
    assert left == ([target] if name == "out.jsonl" else [])
    if name == "out.jsonl":
        assert len(list(read_json_lines(target))) > 1
    for path in small_disk.glob("*.png"):
        read_image(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("cannot mount a small tmpfs here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


# Videos


@pytest.mark.parametrize("name", VIDEOS)
def test_video_holds_every_frame_in_order(tmp_path: Path, name: str, use_av: bool) -> None:
    with VideoFile(tmp_path / name, frame_rate=Fraction(25), use_av=use_av) as sink:
        write_all(sink, 20)
    grey = [frame.image.mean() for frame in Video(tmp_path / name)]
    assert grey == pytest.approx([8 * index for index in range(20)], abs=4)


@pytest.fixture(params=["opencv mp4v", "pyav h264", "pyav mp4v"])
def new_video(request: pytest.FixtureRequest) -> NewVideo:
    """Every way of writing an MP4 file."""
    by, codec = request.param.split()
    if by == "pyav":
        pytest.importorskip("av", reason="needs PyAV: pip install av")
    return partial(VideoFile, use_av=by == "pyav", codec=codec)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), NTSC_FILM, Fraction(25), Fraction(179, 6)])
def test_mp4_keeps_the_rate_exactly(tmp_path: Path, rate: Fraction, new_video: NewVideo) -> None:
    with new_video(tmp_path / "out.mp4", frame_rate=rate) as sink:
        black = np.zeros((16, 16, 3), np.uint8)
        for index in range(30):
            sink.write(black, Frame(black, index, float(index / rate), ""))
    video = Video(tmp_path / "out.mp4")
    assert video.frame_rate == rate
    assert [frame.time_s for frame in video] == pytest.approx([float(index / rate) for index in range(30)])


def test_mp4_keeps_varying_times(tmp_path: Path, new_video: NewVideo) -> None:
    times = [5, 5.04, 5.05, 6.5, 6.51, 9]
    with new_video(tmp_path / "out.mp4", frame_rate=Fraction(25)) as sink:
        for index, time_s in enumerate(times):
            image = np.full((16, 16, 3), 30 * index, np.uint8)
            sink.write(image, Frame(image, index, time_s, ""))
    written = list(Video(tmp_path / "out.mp4"))
    assert [frame.time_s for frame in written] == pytest.approx([time_s - 5 for time_s in times], abs=2e-5)
    assert [frame.image.mean() for frame in written] == pytest.approx([30 * i for i in range(6)], abs=4)


def test_mp4_of_sixty_days_is_written(tmp_path: Path, new_video: NewVideo) -> None:
    """With PyAV a frame is repeated every few minutes: one of its MP4 cannot last for hours."""
    times = [0, 0.04, 0.08, 1, 60 * 86400, 60 * 86400 + 0.04]
    with new_video(tmp_path / "out.mp4", frame_rate=Fraction(25)) as sink:
        for index, time_s in enumerate(times):
            grey = np.full((16, 16, 3), 40 * index, np.uint8)
            sink.write(grey, Frame(grey, index, time_s, ""))
    changes, last = [], -100.0
    for frame in Video(tmp_path / "out.mp4"):
        if abs(frame.image.mean() - last) > 20:
            changes.append(frame.time_s)
        last = frame.image.mean()
    assert changes == pytest.approx(times, rel=0, abs=0.002)


def test_mp4_is_written_without_what_windows_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread", raising=False)
    with VideoFile(tmp_path / "out.mp4", use_av=False) as sink:
        write_all(sink, 3)
    assert len(list(Video(tmp_path / "out.mp4"))) == 3


def test_an_mp4_cut_anywhere_has_no_times_and_stays(tmp_path: Path) -> None:
    whole, cut = tmp_path / "out.mp4", tmp_path / "cut.mp4"
    with VideoFile(whole, use_av=False) as sink:
        write_all(sink, 3)
    data = whole.read_bytes()
    place = data.index(b"stts") - 4
    damaged = [data[:length] for length in range(1, len(data))]
    damaged += [data[:place] + size.to_bytes(4, "big") + data[place + 4 :] for size in (8, 12, 19, 2**31)]
    for some in damaged:
        cut.write_bytes(some)
        with pytest.raises(ValueError, match="the MP4 file "):
            set_frame_times(cut, [0, 0.04, 0.08], Fraction(25))
        assert cut.read_bytes() == some


def test_frames_at_nearly_the_same_time_are_all_kept(tmp_path: Path, new_video: NewVideo) -> None:
    with new_video(tmp_path / "out.mp4", frame_rate=Fraction(25)) as sink:
        for index, time_s in enumerate([0, 1e-7, 2e-7, 0.04]):
            grey = np.full((16, 16, 3), 40 * index, np.uint8)
            sink.write(grey, Frame(grey, index, time_s, ""))
    assert [frame.image.mean() for frame in Video(tmp_path / "out.mp4")] == pytest.approx([0, 40, 80, 120], abs=4)


def test_avi_holds_a_frame_until_the_next_is_due(tmp_path: Path) -> None:
    image = np.empty((16, 16, 3), np.uint8)
    with VideoFile(tmp_path / "out.avi", frame_rate=Fraction(10)) as sink:
        for index, time_s in enumerate([0, 0.1, 0.5]):
            image[:] = 100 * index
            sink.write(image, Frame(image, index, time_s, ""))
            image[:] = 255  # The caller may draw on.
    grey = [frame.image.mean() for frame in Video(tmp_path / "out.avi")]
    assert grey == pytest.approx([0, 100, 100, 100, 100, 200], abs=4)


@pytest.mark.parametrize("size_wh", [(1, 1), (2, 2), (15, 9), (64, 33)])
def test_odd_sides_gain_a_row(tmp_path: Path, size_wh: tuple[int, int], use_av: bool) -> None:
    messages: list[str] = []
    with VideoFile(tmp_path / "out.mp4", on_message=messages.append, use_av=use_av) as sink:
        sink.write(np.full((size_wh[1], size_wh[0], 3), 200, np.uint8))
    (frame,) = Video(tmp_path / "out.mp4")
    width, height = size_wh[0] + size_wh[0] % 2, size_wh[1] + size_wh[1] % 2
    assert frame.image.shape == (height, width, 3)
    assert frame.image.min() > 190
    assert len(messages) == (size_wh != (2, 2))


@pytest.mark.parametrize("debug", ["", "1"])
def test_opencv_says_nothing_of_a_webm_unless_asked(
    tmp_path: Path, debug: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVMASK_DEBUG", debug)
    with VideoFile(tmp_path / "out.webm") as sink:
        write_all(sink, 3)
    assert len(list(Video(tmp_path / "out.webm"))) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert ("tag 0x30385056/'VP80' is not supported" in err) == bool(debug)
    assert debug or err == ""


def test_frames_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    messages: list[str] = []
    with VideoFile(tmp_path / "out.avi", on_message=messages.append) as sink:
        for height, width in [(40, 80), (40, 20), (80, 160), (40, 80)]:
            sink.write(np.full((height, width, 3), 200, np.uint8))
    means = [frame.image.mean() for frame in Video(tmp_path / "out.avi")]
    assert means == pytest.approx([200, 50, 200, 200], abs=4)
    assert messages == [f"{tmp_path}/out.avi: frames of 20x40 are fitted into 80x40"]


@pytest.mark.parametrize("codec", ["h264", "mp4v"])
def test_sound_is_copied_with_pyav(shared: Path, tmp_path: Path, codec: str) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    source = Video(shared / "data" / "odd_video" / "with_audio_aac.mp4", start_s=0.5)
    with open_sink(tmp_path / "out.mp4", source=source, codec=codec) as sink:
        for frame in source:
            sink.write(frame.image[::8, ::8], frame)
    with av.open(str(tmp_path / "out.mp4")) as written:
        assert written.streams.video[0].codec_context.name == {"h264": "h264", "mp4v": "mpeg4"}[codec]
        sound = written.streams.audio[0]
        assert sound.codec_context.name == "aac"
        assert float(sound.duration * sound.time_base) == pytest.approx(28 / 24, abs=0.05)
        assert float(sound.start_time * sound.time_base) < 0.03


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Give the address of a server of the files in tmp_path."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def make_clip(path: Path, sound: bool) -> None:
    """Make a clip of a second, black, with or without a track of silence."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    with av.open(str(path), "w", options={"movflags": "faststart"}) as clip:
        pictures = clip.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        voice = clip.add_stream("aac", rate=8000, layout="mono") if sound else None
        for _ in range(25):
            clip.mux(pictures.encode(av.VideoFrame.from_ndarray(BLACK, format="bgr24")))
        clip.mux(pictures.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 8000
            clip.mux([*voice.encode(silence), *voice.encode(None)])


def make_clip_with_a_beep(path: Path, sound_s: float, pictures_s: float) -> None:
    """Make a clip whose sound begins at `sound_s`, a second of pictures at `pictures_s`; 0.5 s later it beeps."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    with av.open(str(path), "w") as clip:
        pictures = clip.add_stream("mpeg4", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        voice = clip.add_stream("aac", rate=48000, layout="mono")
        for index in range(25):
            picture = av.VideoFrame.from_ndarray(BLACK, format="bgr24")
            picture.pts, picture.time_base = index + round(25 * pictures_s), Fraction(1, 25)
            clip.mux(pictures.encode(picture))
        clip.mux(pictures.encode(None))
        samples = np.zeros((1, round(48000 * (pictures_s - sound_s + 1))), np.float32)
        beep = round(48000 * (pictures_s - sound_s + 0.5))
        samples[0, beep : beep + 2400] = np.sin(np.arange(2400) / 5) / 2
        sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48000, round(48000 * sound_s), Fraction(1, 48000)
        clip.mux([*voice.encode(sound), *voice.encode(None)])


@pytest.mark.parametrize(
    ("name", "sound_s", "pictures_s"),
    [("in.mkv", 0, 0.48), ("in.mp4", 0, 0.48), ("in.mp4", 0, 0), ("in.ts", 1.4, 1.4), ("in.ts", 100, 100)],
)
@pytest.mark.parametrize("start_s", [0, 0.2])
def test_sound_stays_with_its_pictures_wherever_their_times_begin(
    tmp_path: Path, name: str, sound_s: float, pictures_s: float, start_s: float
) -> None:
    make_clip_with_a_beep(tmp_path / name, sound_s, pictures_s)
    messages: list[str] = []
    source = Video(tmp_path / name, start_s=start_s)
    with open_sink(tmp_path / "out.mp4", source=source, on_message=messages.append) as sink:
        for frame in source:
            sink.write(frame.image, frame)
    import av

    assert messages == []
    with av.open(str(tmp_path / "out.mp4")) as written:
        loud_s = [float(some.time) for some in written.decode(audio=0) if np.abs(some.to_ndarray()).max() > 0.2]
    assert min(loud_s) == pytest.approx(0.5 - start_s, abs=0.045)  # two packets


@pytest.mark.parametrize("sound", [True, False])
def test_sound_of_a_video_at_an_address_is_copied(tmp_path: Path, served: str, sound: bool) -> None:
    make_clip(tmp_path / "in.mp4", sound)
    messages: list[str] = []
    source = Video(f"{served}/in.mp4", on_message=messages.append)
    with open_sink(tmp_path / "out.mp4", source=source, on_message=messages.append) as sink:
        for frame in source:
            sink.write(frame.image, frame)
    import av

    assert messages == []
    with av.open(str(tmp_path / "out.mp4")) as written:
        tracks = [float(track.duration * track.time_base) for track in written.streams.audio]
    assert tracks == ([pytest.approx(1, abs=0.2)] if sound else [])


def test_sound_at_an_address_that_is_gone_is_told(tmp_path: Path, served: str) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    messages: list[str] = []
    address = served.replace("http://", "http://me:secret@")
    with VideoFile(tmp_path / "out.mp4", audio_from=f"{address}/gone.mp4", on_message=messages.append) as sink:
        sink.write(BLACK)
    (message,) = messages
    assert "sound is not kept: FFmpeg cannot read http://me:***@127.0.0.1" in message
    assert "404" in message


def test_without_pyav_the_loss_of_sound_is_told(shared: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    audio = str(shared / "data" / "odd_video" / "with_audio_aac.mp4")
    with VideoFile(tmp_path / "out.mp4", audio_from=audio, on_message=messages.append, use_av=False) as sink:
        write_all(sink, 2)
    assert len(messages) == 1
    assert "sound, if there is any, is not kept: pip install av" in messages[0]


def test_mkv_of_either_codec_has_exact_times(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    times = [0, 0.04, 0.05, 1.5, 1.51, 4]
    for codec in ("h264", "mp4v"):
        with VideoFile(tmp_path / "out.mkv", frame_rate=Fraction(25), codec=codec) as sink:
            for index, time_s in enumerate(times):
                image = np.full((16, 16, 3), 30 * index, np.uint8)
                sink.write(image, Frame(image, index, time_s, ""))
        written = list(Video(tmp_path / "out.mkv"))
        assert [frame.time_s for frame in written] == pytest.approx(times, abs=0.001)
        assert [frame.image.mean() for frame in written] == pytest.approx([30 * i for i in range(6)], abs=4)


@pytest.mark.parametrize(
    ("name", "codec", "use_av", "message"),
    [
        ("a.mp4", "h264", False, r"a.mp4: H.264 needs PyAV: pip install av"),
        ("a.avi", "h264", None, r"a.avi: H.264 goes into .mp4 .m4v .mov .mkv$"),
        ("a.webm", "h264", None, r"a.webm: H.264 goes into .mp4 .m4v .mov .mkv$"),
        ("a.webm", "mp4v", None, r"a.webm: mp4v goes into .mp4 .m4v .mov .mkv .avi$"),
    ],
)
def test_a_codec_that_cannot_be_is_one_line(
    tmp_path: Path, name: str, codec: str, use_av: bool | None, message: str
) -> None:
    with pytest.raises(SinkError, match=message):
        VideoFile(tmp_path / name, codec=codec, use_av=use_av)
    assert os.listdir(tmp_path) == []


def test_a_codec_is_for_videos(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.png", "folder", "window"):
        with pytest.raises(SinkError, match=f"{name}: a codec is for videos: .mp4 "):
            open_sink(name if name == "window" else tmp_path / name, codec="mp4v")
    with pytest.raises(ValueError, match='codec must be "h264" or "mp4v", got \'hevc\''):
        VideoFile(tmp_path / "a.mp4", codec="hevc")


def test_a_size_that_a_codec_cannot_hold_is_one_line(tmp_path: Path, new_video: NewVideo) -> None:
    wide = np.zeros((2, 20_000, 3), np.uint8)

    def write() -> None:
        with new_video(tmp_path / "a.mp4") as sink:
            for _ in range(3):
                sink.write(wide)

    with pytest.raises(SinkError, match=r"cannot write (mp4v|h264) of 20000x2 pixels") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == []


# PyAV's encoder


@pytest.fixture
def encoder(tmp_path: Path) -> Iterator[AvEncoder]:
    """One that must leave no thread and no open file behind, whatever is done to it."""
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    encoder = AvEncoder(tmp_path / "a.mp4", (16, 16), Fraction(25))
    yield encoder
    assert encoder._file.closed
    assert "cvmask-encode" not in [thread.name for thread in threading.enumerate()]


BLACK = np.zeros((16, 16, 3), np.uint8)


def test_frames_are_encoded_in_a_thread_of_its_own(encoder: AvEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    began, go_on = threading.Event(), threading.Event()

    def put(*arguments: object, put: Callable[..., None] = encoder._put) -> None:
        began.set()
        assert go_on.wait(10)
        put(*arguments)

    monkeypatch.setattr(encoder, "_put", put)
    encoder.add(BLACK, 0)
    assert began.wait(10)
    go_on.set()
    encoder.add(BLACK, 1)
    assert encoder.finish() == 2


@pytest.mark.parametrize("frames", [1, 3])
def test_an_error_of_ffmpeg_is_raised_as_one_of_the_system(
    encoder: AvEncoder, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    av = pytest.importorskip("av")

    def put(*arguments: object) -> None:
        raise av.error.InvalidDataError(1, "it is broken")

    def write() -> None:
        for second in range(frames):
            encoder.add(BLACK, second)
        encoder.finish()

    monkeypatch.setattr(encoder, "_put", put)
    with pytest.raises(OSError, match="it is broken") as caught:
        write()
    assert not isinstance(caught.value, av.FFmpegError)
    encoder.abandon()


def test_the_last_frame_lasts_as_long_as_the_others(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    for options in ({"use_av": False}, {"codec": "h264"}, {"codec": "mp4v"}):
        with VideoFile(tmp_path / "a.mp4", frame_rate=Fraction(10), **options) as sink:  # type: ignore[arg-type]
            for _ in range(7):
                sink.write(BLACK)
        with av.open(str(tmp_path / "a.mp4")) as video:
            stream = video.streams.video[0]
            assert float(stream.duration * stream.time_base) == pytest.approx(0.7)


def test_a_pyav_that_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    assert has_av()
    # Until PyAV 14 its frames had no duration.
    monkeypatch.setitem(sys.modules, "av", SimpleNamespace(codec=av.codec, VideoFrame=object))
    assert not has_av()
    with VideoFile(tmp_path / "a.mp4") as sink:
        sink.write(BLACK)
    assert len(list(Video(tmp_path / "a.mp4"))) == 1


@pytest.mark.parametrize("use_av", [False, True], ids=["opencv", "pyav"])
def test_a_thread_may_write_when_the_main_one_is_through(tmp_path: Path, use_av: bool) -> None:
    if use_av:
        pytest.importorskip("av", reason="needs PyAV: pip install av")
    program = f"""
import threading, time
import numpy as np
from cvmask.streams.sinks import VideoFile
def work():
    with VideoFile("out.mp4", use_av={use_av}) as sink:
        for _ in range(20):
            sink.write(np.zeros((16, 16, 3), np.uint8))
            time.sleep(0.02)
threading.Thread(target=work).start()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(Video(tmp_path / "out.mp4"))) == 20


def test_a_video_that_is_never_closed_does_not_keep_the_program(tmp_path: Path) -> None:
    program = """
import numpy as np
from cvmask.streams.sinks import VideoFile
sink = VideoFile("out.mp4")
sink.write(np.zeros((16, 16, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_has_its_space_again(small_disk: Path, new_video: NewVideo) -> None:
    rng = np.random.default_rng(0)

    def fill() -> None:
        with new_video(small_disk / "out.mp4") as sink:
            for _ in range(60):
                sink.write(rng.integers(0, 256, (480, 640, 3), dtype=np.uint8))

    for _ in range(3):
        with pytest.raises(SinkError, match=r"out.mp4 cannot be written: ") as caught:
            fill()
        del caught
        assert os.listdir(small_disk) == []
        assert shutil.disk_usage(small_disk).used == 0


@pytest.mark.parametrize("name", ["out.avi", "out.mkv", "out.webm", "out.mp4"])
def test_a_video_that_does_not_fit_any_more_is_an_error(small_disk: Path, name: str) -> None:
    """All frames but the last are written before it shows: looking every 25 frames is not enough."""
    (small_disk / "filling").write_bytes(bytes((2 << 20) - 200_000))

    def fill() -> None:
        rng = np.random.default_rng(0)
        with VideoFile(small_disk / name, use_av=False) as sink:
            for _ in range(24):
                sink.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))

    with pytest.raises(SinkError, match=f"{name} cannot be written: .*the disk is full"):
        fill()
    assert os.listdir(small_disk) == ["filling"]


@pytest.mark.parametrize("name", ["out.gif", "out.webp"])
def test_an_animation_on_a_full_disk_is_an_error(small_disk: Path, name: str) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    rng = np.random.default_rng(0)

    def fill() -> None:
        with Animation(small_disk / name) as sink:
            for _ in range(4):
                sink.write(rng.integers(0, 256, (960, 1280, 3), dtype=np.uint8))

    with pytest.raises(SinkError, match=f"{name} cannot be written: No space left"):
        fill()
    assert os.listdir(small_disk) == []


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX limits")
@pytest.mark.parametrize("name", ["out.avi", "out.mkv", "out.webm", "out.mp4"])
def test_a_video_over_the_limit_of_file_sizes_is_an_error(tmp_path: Path, name: str, use_av: bool) -> None:
    program = f"""
import resource
import numpy as np
from cvmask.errors import SinkError
from cvmask.streams.sinks import VideoFile
rng = np.random.default_rng(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with VideoFile("{name}", use_av={use_av}) as sink:
        for _ in range(24):
            sink.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
except SinkError as error:
    print(error)
"""
    command, env = [sys.executable, "-c", program], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()) == (0, [ANY])
    assert done.stdout.startswith(f"{name} cannot be written: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.webm"])
def test_a_file_of_which_a_byte_is_missing_is_not_finished(tmp_path: Path, name: str) -> None:
    with VideoFile(tmp_path / name, use_av=False) as sink:
        write_all(sink, 3)
    assert is_finished(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for size in (0, 3, 20, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        assert not is_finished(tmp_path / name), size


def test_a_video_that_vanishes_while_it_is_written_is_one_line(tmp_path: Path, use_av: bool) -> None:
    sink = VideoFile(tmp_path / "a.mkv", use_av=use_av)
    write_all(sink, 3)
    (part,) = tmp_path.iterdir()
    part.unlink()
    with pytest.raises(SinkError, match=r"a\.mkv cannot be written: No such file or directory"):
        sink.close()


def test_an_avi_of_several_riff_chunks_is_finished_at_the_end_of_the_last(tmp_path: Path) -> None:
    large = b"RIFF\x04\0\0\0AVI RIFF\x06\0\0\0AVIX.."
    for content in (large, large + b"x", large[:-1]):
        (tmp_path / "a.avi").write_bytes(content)
        assert is_finished(tmp_path / "a.avi") == (content == large)


def test_sound_that_cannot_be_read_is_told_and_the_video_written(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    (tmp_path / "text.mp4").write_text("no video")
    messages: list[str] = []
    with VideoFile(
        tmp_path / "out.mp4", audio_from=str(tmp_path / "text.mp4"), on_message=messages.append
    ) as sink:
        sink.write(BLACK)
    (message,) = messages
    assert message.startswith(f"{tmp_path}/out.mp4: sound is not kept: FFmpeg cannot read {tmp_path}/text.mp4: ")
    assert len(list(Video(tmp_path / "out.mp4"))) == 1


def test_sound_that_breaks_off_is_told_once(tmp_path: Path, shared: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    messages: list[str] = []
    sound = str(shared / "data" / "odd_video" / "with_audio_aac.mp4")
    with VideoFile(tmp_path / "out.mp4", audio_from=sound, on_message=messages.append) as sink:
        sink.write(BLACK)
        sink._encoder._sound.lost = "the server is gone"  # type: ignore[union-attr]
        sink.write(BLACK)
    assert messages == [f"{tmp_path}/out.mp4: sound is not kept in full: the server is gone"]


def test_a_name_with_a_colon_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: Path) -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    monkeypatch.chdir(tmp_path)
    shutil.copy(shared / "data" / "odd_video" / "with_audio_aac.mp4", "a:b.mp4")
    messages: list[str] = []
    with Video("a:b.mp4") as source, open_sink("c:d/out.mp4", source=source, on_message=messages.append) as sink:
        for frame in source:
            sink.write(frame.image[:60, :100], frame)
    assert messages == []
    assert len(list(Video("c:d/out.mp4"))) > 20


def test_what_is_no_frame_is_one_line(tmp_path: Path, new_video: NewVideo) -> None:
    for image in (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)):
        with new_video(tmp_path / "out.mp4") as sink, pytest.raises(ValueError, match="a frame must be uint8") as no:
            sink.write(image)
        assert "\n" not in str(no.value)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ALL)
def test_every_output_says_what_came_instead_of_a_picture(tmp_path: Path, name: str) -> None:
    with open_sink(tmp_path / name) as sink:
        for image in (None, "a.png", [BLACK], next(frames(1))):
            with pytest.raises(TypeError, match="a frame must be an array, got"):
                sink.write(image)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="the colours come last"):
            sink.write(np.zeros((3, 48, 64), np.uint8))
        write_all(sink, count_for(name))


# JSON lines


def test_json_line_is_in_the_file_when_write_returns(tmp_path: Path, two: Detections) -> None:
    sink = JsonLines(tmp_path / "a.jsonl", labels=["a", "b", "c"])
    image = np.zeros((6, 8, 3), np.uint8)
    sink.write(image, Frame(image, 7, 0.28, "é.mp4"), two)
    sink.write(image)
    (first, found), (second, nothing) = read_json_lines(tmp_path / "a.jsonl")
    sink.close()
    assert first == {"index": 7, "time_s": 0.28, "name": "é.mp4", "labels": ["a", "b", "c"]}
    assert found == two
    assert second == {"index": 1, "time_s": None, "name": None}
    assert len(nothing) == 0


def test_json_line_keeps_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    image = np.zeros((6, 8, 3), np.uint8)
    with JsonLines(tmp_path / "a.jsonl") as sink:
        sink.write(image, Frame(image, 0, None, "\udcff.png"))
    ((record, _),) = read_json_lines(tmp_path / "a.jsonl")
    assert record["name"] == "\udcff.png"


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"index": "x", "detections": {}}', "\xff"])
def test_damaged_json_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(SourceError, match=r"a.jsonl: line 1 (is not a frame of detections|has no)"):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_a_file_without_a_whole_line_is_no_run_that_was_broken_off(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"garbage")
    with pytest.raises(SourceError, match=r"a.jsonl: line 1 is not a frame of detections: Expecting value"):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_an_older_file_stays_until_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("older")
    for end in (JsonLines.close, JsonLines.discard, lambda sink: None):
        end(JsonLines(path))
        assert path.read_text() == "older"
    with JsonLines(path) as sink:
        write_all(sink, 1)
    assert len(list(read_json_lines(path))) == 1


def test_a_folder_is_no_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(SinkError, match=r"a\.jsonl cannot be written: Is a directory"):
        JsonLines(tmp_path / "a.jsonl")


def test_json_lines_that_may_not_be_written_are_told_at_once(tmp_path: Path) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir()
    (tmp_path / "open" / "a.jsonl").touch(mode=0o444)
    (tmp_path / "closed").chmod(0o555)
    code = f"""
import os
from cvmask.errors import SinkError
from cvmask.streams.sinks import JsonLines
os.chdir({str(tmp_path)!r})
for path in ("closed/a.jsonl", "open/a.jsonl", "closed/deep/a.jsonl"):
    try:
        JsonLines(path)
    except SinkError as error:
        print(error)
"""
    said = run_unprivileged(code, tmp_path / "home").splitlines()
    names = ("closed/a.jsonl", "open/a.jsonl", "closed/deep/a.jsonl")
    assert said == [f"{name} cannot be written: Permission denied" for name in names]


def test_json_lines_are_plain_json(tmp_path: Path, two: Detections) -> None:
    with JsonLines(tmp_path / "a.jsonl") as sink:
        sink.write(np.zeros((6, 8, 3), np.uint8), None, two)
    record = json.loads((tmp_path / "a.jsonl").read_text())
    assert record["detections"]["class_id"] == [2, 0]


@pytest.mark.parametrize("name", VIDEOS)
def test_video_of_a_frame_in_hours_is_written(tmp_path: Path, name: str, use_av: bool) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    with VideoFile(tmp_path / name, frame_rate=Fraction(25, 1_000_000), use_av=use_av) as sink:
        sink.write(image, Frame(image, 0, 0.0, ""))
    assert len(list(Video(tmp_path / name))) == 1


# Pictures


def test_folder_names_pictures_by_their_sources(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with ImageFolder(tmp_path / "out") as sink:
        for name in ("in/a.jpg", "other/a.JPG", "b.gif"):
            sink.write(image, Frame(image, 0, None, name))
        sink.write(image, Frame(image, 12, 0.5, "clip.mp4"))
        sink.write(image)
    names = ["a.jpg", "a_2.JPG", "b.png", "clip_000012.png", "frame_000004.png"]
    assert sorted(os.listdir(tmp_path / "out")) == names


def test_folder_does_not_replace_its_source(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(b"precious")
    with pytest.raises(SinkError, match="would replace a source"):
        ImageFolder(tmp_path).write(image, Frame(image, 0, None, str(tmp_path / "a.png")))


def test_one_picture_takes_one_frame(tmp_path: Path) -> None:
    with open_sink(tmp_path / "a.png") as sink:
        write_all(sink, 1)
        with pytest.raises(SinkError, match="is one picture, but more frames came"):
            write_all(sink, 1)


@pytest.mark.parametrize("name", ["a.xyz", "a.apng"])
def test_unknown_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SinkError, match=r"an output is a folder or ends in one of \.mp4"):
        open_sink(tmp_path / name)


def test_video_does_not_replace_its_source(tmp_path: Path) -> None:
    with open_sink(tmp_path / "a.mp4") as sink:
        write_all(sink, 2)
    source = Video(tmp_path / "a.mp4")
    with pytest.raises(SinkError, match="would replace its source"):
        open_sink(tmp_path / "a.mp4", source=source)


# Windows


def test_window_without_a_display_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="no window can be shown: there is no display"):
        open_sink("window")


def test_window_with_a_dead_display_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(SinkError, match="no window can be shown: "):
        open_sink("window")


Keys = Callable[[list[int]], "list[np.ndarray]"]


@pytest.fixture
def fake_window(monkeypatch: pytest.MonkeyPatch) -> Keys:
    """Replace OpenCV's windows by a list of what was shown; each key in turn answers waitKey."""
    shown: list[np.ndarray] = []

    def start(keys: list[int]) -> list[np.ndarray]:
        monkeypatch.setattr("cvmask.streams.sinks.window._check_display", lambda: None)
        monkeypatch.setattr(cv2, "imshow", lambda name, image: shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda wait_ms: keys.pop(0))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda name, what: 1.0)
        for name in ("namedWindow", "resizeWindow", "destroyWindow"):
            monkeypatch.setattr(cv2, name, lambda *arguments: None)
        return shown

    return start


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_window_ends_on_q_and_escape(fake_window: Keys, key: int) -> None:
    shown = fake_window([-1, key])
    with open_sink("window") as sink:
        write_all(sink, 1)
        assert not sink.ended
        write_all(sink, 1)
        assert sink.ended
    assert len(shown) == 2


def test_window_pauses_on_space_and_saves_on_s(
    fake_window: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    keys = [ord(" "), -1, ord("s"), -1, ord(" ")]
    fake_window(keys)
    messages: list[str] = []
    with open_sink("window", on_message=messages.append) as sink:
        write_all(sink, 1)
    assert keys == []
    assert os.listdir(tmp_path) == ["cvmask_made_000000.png"]


def test_image_folder_shortens_names_that_no_file_system_takes(tmp_path: Path) -> None:
    grey = np.zeros((8, 8, 3), np.uint8)
    names = ["n" * 300 + "a.png", "n" * 300 + "b.png", "n" * 250 + ".mp4"]
    with ImageFolder(tmp_path) as sink:
        for name in names:
            sink.write(grey, Frame(grey, 7, 0.0 if name.endswith("mp4") else None, name))
    found = [path.name for path in tmp_path.iterdir()]
    assert len(found) == 3
    assert all(len(name) == 255 and name.endswith(".png") for name in found)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize(
    ("name", "least_packets", "said"),
    [
        ("odd_video_2/damaged_sound.ts", 270, "sound is not kept in full: damaged parts from 2.0 s on are left out"),
        ("odd_video_2/joined.ts", 560, ""),
        ("odd_video/with_audio_aac.mp4", 70, ""),
    ],
)
def test_a_fault_in_the_sound_costs_no_picture(
    name: str, least_packets: int, said: str, suffix: str, shared: Path, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    messages: list[str] = []
    source = shared / "data" / name
    with VideoFile(tmp_path / f"out{suffix}", audio_from=str(source), on_message=messages.append) as sink:
        frames = list(Video(str(source)))
        for frame in frames:
            sink.write(np.zeros((32, 32, 3), np.uint8), frame)
    with av.open(str(tmp_path / f"out{suffix}")) as written:
        packets = [packet.stream.type for packet in written.demux() if packet.size]
    assert packets.count("video") == len(frames)
    assert packets.count("audio") >= least_packets
    assert len(messages) == bool(said)
    assert said in "".join(messages)


@pytest.mark.parametrize("codec", ["libopus", "flac"])
def test_sound_that_the_file_cannot_hold_is_told(codec: str, tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    with av.open(str(tmp_path / "in.mkv"), "w") as made:
        track = made.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame(format=track.codec_context.format.name, layout="mono", samples=960)
        frame.sample_rate, frame.pts = 48000, 0
        made.mux(track.encode(frame))
        made.mux(track.encode(None))
    messages: list[str] = []
    with VideoFile(tmp_path / "out.mov", audio_from=str(tmp_path / "in.mkv"), on_message=messages.append) as sink:
        write_all(sink, 3)
    assert messages == [f"{tmp_path}/out.mov: sound is not kept: a .mov file cannot hold its codec"]


TWO_TRACKS = (
    "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=10:duration=1", "-f", "lavfi", "-i", "sine=300:duration=1",
    "-f", "lavfi", "-i", "sine=900:duration=1", "-map", "0", "-map", "1", "-map", "2", "-pix_fmt", "yuv420p",
    "-metadata:s:a:0", "language=fra", "-metadata:s:a:1", "language=eng",
    "-disposition:a:0", "0", "-disposition:a:1", "default",
)  # fmt: skip


@pytest.mark.parametrize("ending", ["mp4", "mkv", "mov"])
def test_all_sound_tracks_are_kept_and_the_default_one_stays_it(tmp_path: Path, ending: str) -> None:
    av = pytest.importorskip("av")
    clip = ffmpeg(tmp_path / "two.mkv", *TWO_TRACKS, "-c:a", "aac")
    messages = rewritten(clip, tmp_path / f"out.{ending}")
    assert messages == []
    with av.open(str(tmp_path / f"out.{ending}")) as container:
        tracks = container.streams.audio
        assert [track.metadata.get("language") for track in tracks[1:]] == ["eng"]
        defaults = [getattr(track.disposition, "value", track.disposition) & 1 for track in tracks]
        assert defaults == [0, 1]
        ends_s = dict.fromkeys((track.index for track in tracks), 0.0)
        for packet in container.demux(tracks):
            if packet.pts is not None:
                ends_s[packet.stream.index] = float((packet.pts + packet.duration) * packet.time_base)
        assert list(ends_s.values()) == pytest.approx([1, 1], abs=0.1)


def test_a_sound_track_that_the_file_cannot_hold_costs_no_other(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip = ffmpeg(tmp_path / "two.mkv", *TWO_TRACKS, "-c:a:0", "aac", "-c:a:1", "libvorbis")
    messages = rewritten(clip, tmp_path / "out.mov")
    assert messages == [
        f"{tmp_path}/out.mov: sound is not kept in full: a .mov file cannot hold the codec of 1 of 2 tracks"
    ]
    with av.open(str(tmp_path / "out.mov")) as container:
        assert [track.codec_context.name for track in container.streams.audio] == ["aac"]


def rewritten(clip: Path, out: Path) -> list[str]:
    """Copy a clip frame by frame; what was told."""
    messages: list[str] = []
    source = open_source(clip)
    with source, open_sink(out, source=source, on_message=messages.append) as sink:
        for frame in source:
            sink.write(frame.image, frame)
    return messages


def test_sound_begins_with_the_first_picture_that_can_be_decoded(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    beep = "aevalsrc='if(between(t,1.5,1.55),sin(5000*t)/2,0)':duration=2"
    whole = ffmpeg(tmp_path / "whole.ts", "-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=2",
                   "-f", "lavfi", "-i", beep, "-g", "12", "-c:v", "libx264", "-pix_fmt", "yuv420p")  # fmt: skip
    data, packet = whole.read_bytes(), 188
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[: 3 * packet] + data[25 * packet :])  # its tables, then from within the first group on
    out = tmp_path / "out.mp4"
    rewritten(cut, out)
    frames = len(list(Video(out)))
    assert frames < 50
    with av.open(str(out)) as written:
        loud_s = [float(some.time) for some in written.decode(audio=0) if np.abs(some.to_ndarray()).max() > 0.2]
    assert min(loud_s) == pytest.approx(1.5 - (50 - frames) / 25, abs=0.045)


@pytest.mark.skipif(os.name == "nt", reason="has no /dev")
@pytest.mark.parametrize(("place", "why"), [("-", "standard output"), ("/dev/video9", "device"), ("-/", "standard")])
def test_what_is_no_folder_becomes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SinkError, match=why):
        open_sink(place)
    with pytest.raises(UsageError, match=why):
        destination(place).check(1, stream=True)
    assert list(tmp_path.iterdir()) == []
    assert not Path("/dev/video9").exists()
