"""Every frame is the one that was filmed: nothing that nobody wrote is shown, and damage costs what is damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.errors import SourceError
from cvmask.streams.sources import Video
from cvmask.streams.sources.capture import open_file

CONVERTS = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 13)
SIZE_WH = (320, 240)

# File, encoder, pixels, options.
INTERLACED = {
    "h264.mp4": ("libx264", "yuv420p", {"flags": "+ildct+ilme", "x264opts": "tff=1"}),
    "h264_bottom_first.mkv": ("libx264", "yuv420p", {"flags": "+ildct+ilme", "x264opts": "bff=1"}),
    "h264_422.mov": ("libx264", "yuv422p", {"flags": "+ildct+ilme", "x264opts": "tff=1"}),
    "transport.ts": ("libx264", "yuv420p", {"flags": "+ildct+ilme", "x264opts": "tff=1"}),
    "mpeg2.mpg": ("mpeg2video", "yuv420p", {"flags": "+ildct+ilme", "q": "2", "qmin": "2", "qmax": "3"}),
}


def picture(index: int) -> NDArray[np.uint8]:
    """Give a smooth picture that shows which frame it is, different in every row and column."""
    y, x = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    return np.stack([x / SIZE_WH[0] * 255, y / SIZE_WH[1] * 255, x * 0 + 10 + 20 * index], axis=-1).astype(np.uint8)


def encode(path: Path, codec: str, pixels: str, options: dict[str, str], count: int = 6) -> Path:
    """Write so many pictures with PyAV."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE_WH, pixels
        for index in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="bgr24")))
        container.mux(stream.encode(None))
    return path


def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_video_gives_its_pictures(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, *INTERLACED[name])
    frames = list(Video(path))
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        assert np.abs(frame.image.astype(float) - picture(index)).mean() < 6
        assert frame.time_s == pytest.approx(index / 25, abs=1e-3)


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_video_without_pyav_is_refused_before_a_frame(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / name, *INTERLACED[name])
    without_av(monkeypatch)
    if CONVERTS:
        assert len(list(Video(path))) == 6
        return
    with pytest.raises(SourceError, match=rf"{name}: is interlaced, .* PyAV can: pip install") as caught:
        next(iter(Video(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(CONVERTS, reason="this OpenCV converts interlaced frames")
def test_a_video_that_turns_interlaced_is_refused_where_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = turning(tmp_path)
    without_av(monkeypatch)
    seen = []
    with pytest.raises(SourceError, match="is interlaced"):
        seen.extend(frame.image for frame in Video(path))
    assert len(seen) == 6
    for index, image in enumerate(seen):
        assert np.abs(image.astype(float) - picture(index)).mean() < 6


def test_a_video_that_turns_interlaced_is_gone_on_with(tmp_path: Path) -> None:
    frames = list(Video(turning(tmp_path)))
    assert len(frames) == 12
    for index, frame in enumerate(frames):
        assert np.abs(frame.image.astype(float) - picture(index % 6)).mean() < 6


def turning(folder: Path) -> Path:
    """Join six progressive and six interlaced frames."""
    parts = [
        encode(folder / "a.ts", "libx264", "yuv420p", {}),
        encode(folder / "b.ts", "libx264", "yuv420p", {"flags": "+ildct+ilme", "x264opts": "tff=1"}),
    ]
    path = folder / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize("matrix", [8, 10, 12, 13])
def test_rare_colour_matrices(tmp_path: Path, matrix: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        pytest.skip("needs the ffmpeg command")
    plain = encode(tmp_path / "plain.mp4", "libx264", "yuv420p", {})
    path = tmp_path / "rare.mp4"
    tag = f"h264_metadata=matrix_coefficients={matrix}"
    command = [ffmpeg, "-v", "error", "-i", str(plain), "-c", "copy", "-bsf:v", tag, str(path)]
    subprocess.run(command, check=True, timeout=60)
    expected = [frame.image.astype(float) for frame in Video(plain)]
    frames = list(Video(path))
    assert len(frames) == 6
    if matrix == 8:  # the samples are those of another matrix: only what has no colour is as it was
        assert np.abs(frames[3].image.mean() - expected[3].mean()) < 40
        assert len({frame.image.tobytes() for frame in frames}) == 6
    else:
        for frame, wanted in zip(frames, expected):
            assert np.abs(frame.image - wanted).mean() < 12
    without_av(monkeypatch)
    if not CONVERTS:
        with pytest.raises(SourceError, match=r"rare.mp4: is of colour matrix \S+, which this OpenCV cannot convert"):
            next(iter(Video(path)))


@pytest.mark.parametrize("repeated", [1, 40])
def test_a_still_video_is_no_fault(tmp_path: Path, repeated: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "still.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), 25, SIZE_WH)
    for _ in range(repeated):
        writer.write(picture(3))
    writer.release()
    assert len(list(Video(path))) == repeated
    without_av(monkeypatch)
    frames = list(Video(path))
    assert [frame.index for frame in frames] == list(range(repeated))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 25 for index in range(repeated)])


def test_what_opencv_has_no_decoder_for_pyav_decodes(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    path = shared / "data/odd_video_2/av1.mkv"
    assert len(list(Video(path))) == 125
    without_av(monkeypatch)
    capture = cv2.VideoCapture(str(path))
    if not capture.grab():
        with pytest.raises(SourceError, match=r"AV01.*pip install"):
            list(Video(path))
    capture.release()


def test_a_capture_of_pyav_is_released_from_elsewhere(tmp_path: Path) -> None:
    capture = open_file(str(encode(tmp_path / "a.mp4", *INTERLACED["h264.mp4"])))
    assert capture.grab()
    capture.release()
    assert not capture.grab()
    assert capture.retrieve() == (False, None)


@pytest.mark.parametrize(("name", "frames", "lost"), [("damaged_inside.mp4", 49, 1), ("damaged_sound.ts", 149, 2)])
def test_reading_goes_on_behind_damage(shared: Path, name: str, frames: int, lost: int) -> None:
    messages: list[str] = []
    video = Video(shared / "data/odd_video_2" / name, on_message=messages.append)
    assert len(list(video)) == frames
    assert video.lost == lost
    assert len(messages) == 1
    assert f"{name}: damaged or cut short, about {lost} frames are lost" in messages[0]


@pytest.mark.parametrize("name", ["the_same_progressive.mp4", "joined.ts"])
def test_a_whole_video_has_lost_nothing(shared: Path, name: str) -> None:
    video = Video(shared / "data/odd_video_2" / name)
    list(video)
    assert video.lost == 0


def test_the_command_ends_with_3_where_frames_are_lost(shared: Path, work: Path) -> None:
    video = shared / "data/odd_video_2/damaged_inside.mp4"
    options = ["--model", "shapes", "--size", "160x128", "-o", "out.mp4"]
    command = [sys.executable, "-m", "cvmask", "predict", str(video), *options]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 3, answer.stderr
    assert "49 read, 49 written, 0 dropped, 0 failed, 1 lost" in answer.stdout
    assert (work / "out.mp4").exists()
