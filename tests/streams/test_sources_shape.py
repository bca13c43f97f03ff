"""Videos are shown as players show them: upright, with square pixels, on white where they are transparent."""

from __future__ import annotations

import struct
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import ffmpeg

from cvmask import annotate
from cvmask.errors import SourceError
from cvmask.results.detections import Detections
from cvmask.streams.sources import Video
from cvmask.streams.sources.shape import square_size

SOURCE = ("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=0.2")
with_and_without_av = pytest.mark.parametrize("has_av", [True, False])


def choose_av(has_av: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if has_av:
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)


@pytest.mark.parametrize(
    ("size_wh", "aspect", "expected_wh"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 576), Fraction(16, 15), (768, 576)),
        ((720, 480), Fraction(8, 9), (720, 540)),
        ((64, 48), Fraction(1, 60000), (64, 48)),
    ],
)
def test_square_pixels_lose_none(size_wh: tuple[int, int], aspect: Fraction, expected_wh: tuple[int, int]) -> None:
    assert square_size(size_wh, aspect) == expected_wh


@with_and_without_av
@pytest.mark.parametrize("ending", ["mp4", "mkv", "mpg", "ts", "avi"])
def test_wide_pixels_become_square(tmp_path: Path, ending: str, has_av: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_av(has_av, monkeypatch)
    codec = {"mpg": "mpeg2video", "avi": "mpeg4"}.get(ending, "libx264")
    clip = ffmpeg(tmp_path / f"wide.{ending}", *SOURCE, "-aspect", "16:9", "-c:v", codec, "-pix_fmt", "yuv420p")
    video = Video(clip)
    assert video.size_wh == (85, 48)
    assert {frame.image.shape for frame in video} == {(48, 85, 3)}


def test_interlaced_wide_pixels_become_square(tmp_path: Path) -> None:
    pytest.importorskip("av")
    clip = ffmpeg(tmp_path / "wide.mpg", *SOURCE, "-aspect", "16:9", "-c:v", "mpeg2video", "-flags", "+ildct+ilme")
    video = Video(clip)
    assert video.size_wh == (85, 48)
    assert {frame.image.shape for frame in video} == {(48, 85, 3)}


class Nothing:
    def detect(self, frame: np.ndarray) -> Detections:
        self.shape = frame.shape
        return Detections.empty(frame.shape[:2])


def test_the_network_sees_what_is_written(tmp_path: Path) -> None:
    clip = ffmpeg(tmp_path / "wide.mp4", *SOURCE, "-aspect", "8:3", "-pix_fmt", "yuv420p")
    model = Nothing()
    annotate(clip, model, outputs=tmp_path / "out.mp4").run()
    assert model.shape == (48, 128, 3)
    assert Video(tmp_path / "out.mp4").size_wh == (128, 48)


def turned_clip(folder: Path, matrix: tuple[int, int, int, int]) -> tuple[Path, Path]:
    """Make a clip, and one whose display matrix is this."""
    plain = ffmpeg(folder / "plain.mp4", *SOURCE, "-aspect", "8:3", "-pix_fmt", "yuv420p")
    data = bytearray(plain.read_bytes())
    a, b, c, d = (65536 * number for number in matrix)
    struct.pack_into(">9i", data, data.index(b"tkhd") + 4 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = folder / "turned.mp4"
    turned.write_bytes(data)
    return plain, turned


# Where the stored x and y axes point on the screen, and the same with numpy.
MATRICES = {
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "transposed": ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    "transversed": ((0, -1, -1, 0), lambda image: image.transpose(1, 0, 2)[::-1, ::-1]),
    "turned": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
}


@with_and_without_av
@pytest.mark.parametrize("name", MATRICES)
def test_display_matrices(tmp_path: Path, name: str, has_av: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_av(has_av, monkeypatch)
    matrix, laid = MATRICES[name]
    plain, turned = turned_clip(tmp_path, matrix)
    video = Video(turned)
    frames = list(video)
    assert len(frames) == 5
    for frame, stored in zip(frames, Video(plain)):
        expected = laid(stored.image)
        assert frame.image.shape == expected.shape
        assert video.size_wh == expected.shape[1::-1]
        assert np.abs(frame.image.astype(int) - expected).mean() < 4


HALF_CLEAR = "geq=lum='lum(X,Y)':cb='cb(X,Y)':cr='cr(X,Y)':a='if(lt(X,32),0,{most})'"
TRANSPARENT = {
    "png.mov": ("yuva444p", 255, ("-c:v", "png", "-pix_fmt", "rgba")),
    "prores.mov": ("yuva444p10le", 1023, ("-c:v", "prores_ks", "-profile:v", "4444")),
    "vp8.webm": ("yuva420p", 255, ("-c:v", "libvpx", "-auto-alt-ref", "0", "-b:v", "1M")),
    "vp9.webm": ("yuva420p", 255, ("-c:v", "libvpx-vp9", "-b:v", "1M")),
    "ffv1.mkv": ("yuva420p", 255, ("-c:v", "ffv1")),
}


def transparent_clip(folder: Path, name: str) -> Path:
    pixels, most, encoder = TRANSPARENT[name]
    return ffmpeg(folder / name, *SOURCE, "-vf", f"format={pixels},{HALF_CLEAR.format(most=most)}", *encoder)


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_laid_on_white(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    frames = list(Video(transparent_clip(tmp_path, name)))
    assert len(frames) == 5
    for frame in frames:
        assert frame.image[:, :30].min() > 240
        assert frame.image[:, 34:].min() < 60


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_that_is_left_out_is_told(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_av(False, monkeypatch)
    messages: list[str] = []
    Video(transparent_clip(tmp_path, name), on_message=messages.append).close()
    assert len(messages) == 1
    assert "transparent" in messages[0]
    assert "PyAV" in messages[0]


@with_and_without_av
@pytest.mark.parametrize("ending", ["mp3", "m4a", "flac"])
def test_a_song_with_a_cover_is_no_video(
    tmp_path: Path, ending: str, has_av: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_av(has_av, monkeypatch)
    cover = ("-map", "0", "-map", "1", "-frames:v", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic")
    song = ffmpeg(tmp_path / f"song.{ending}", "-f", "lavfi", "-i", "sine=duration=0.5", *SOURCE, *cover)
    with pytest.raises(SourceError, match="cover"):
        Video(song)


@with_and_without_av
def test_a_cover_before_the_video(tmp_path: Path, has_av: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_av(has_av, monkeypatch)
    film = ffmpeg(tmp_path / "film.mp4", *SOURCE, *SOURCE, "-map", "0", "-map", "1", "-c:v:0", "libx264",
                  "-c:v:1", "mjpeg", "-frames:v:1", "1", "-disposition:v:1", "attached_pic")  # fmt: skip
    data = film.read_bytes()
    moov = data.index(b"moov") - 4
    udta = data.index(b"udta", moov) - 4
    end = udta + int.from_bytes(data[udta : udta + 4], "big")
    mvhd_end = moov + 8 + int.from_bytes(data[moov + 8 : moov + 12], "big")
    film.write_bytes(data[:mvhd_end] + data[udta:end] + data[mvhd_end:udta] + data[end:])
    if has_av:
        assert [frame.image.shape for frame in Video(film)] == [(48, 64, 3)] * 5
    else:
        with pytest.raises(SourceError, match="cover"):
            Video(film)
