"""Colours for codecs: BT.601's formulas, the mean colour of four pixels, and back through OpenCV's reader."""

from __future__ import annotations

import shutil
from base64 import b64encode
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.av_encoder import to_i420_
from cvmask.streams.sources import Video

COLORS = np.uint8([[0, 0, 200], [0, 200, 0], [200, 0, 0], [128, 128, 128], [30, 200, 250]])  # BGR
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.parametrize("size", [(2, 2), (2, 8), (8, 2), (6, 10), (48, 64), (270, 482), (98, 4098), (6, 40000)])
def test_planes_are_those_of_bt601(size: tuple[int, int]) -> None:
    height, width = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    planes = i420(image)
    blue, green, red = np.moveaxis(image / 255, 2, 0)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    expected_y = 16 + 219 * luma
    expected_u, expected_v = (
        128 + 224 * means_of_four(difference / 2)
        for difference in ((blue - luma) / (1 - 0.114), (red - luma) / (1 - 0.299))
    )
    small_u, small_v = planes[height:].reshape(2, height // 2, width // 2).astype(float)
    assert np.abs(planes[:height] - expected_y).max() <= 1
    assert np.abs(small_u - expected_u).max() <= 1.6
    assert np.abs(small_v - expected_v).max() <= 1.6


def i420(image: np.ndarray) -> np.ndarray:
    """All three planes one below the other, as OpenCV reads them; written to rows that are further apart."""
    height, width = image.shape[:2]
    y, u, v = (np.full((h, w + 5), 77, np.uint8) for h, w in [(height, width)] + 2 * [(height // 2, width // 2)])
    to_i420_(image, y[:, :-5], u[:, :-5], v[:, :-5])
    assert all((plane[:, -5:] == 77).all() for plane in (y, u, v))
    return np.concatenate([plane[:, :-5].ravel() for plane in (y, u, v)]).reshape(-1, width)


def means_of_four(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))


@pytest.mark.parametrize("offset", [0, 1])
def test_a_thin_line_keeps_its_color_wherever_it_lies(offset: int) -> None:
    image = np.full((16, 16, 3), 128, np.uint8)
    image[6 + offset : 8 + offset] = (40, 255, 120)
    back = cv2.cvtColor(i420(image), cv2.COLOR_YUV2BGR_I420).astype(int)
    line = back[6 + offset : 8 + offset]
    # Either of its rows shares its colour with a grey one at an odd place: half of the green is left at least.
    assert (line[..., 1] - line[..., 0]).min() > 0.45 * (255 - 40)


def test_a_part_of_a_picture_is_converted_like_a_copy_of_it() -> None:
    whole = np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8)
    part = whole[4:20, 6:40]
    assert np.array_equal(i420(part), i420(part.copy()))


def bars(path: Path, size_wh: tuple[int, int], codec: str) -> Path:
    """Write a video of one bar for each of COLORS."""
    pytest.importorskip("av", reason="needs PyAV: pip install av")
    image = COLORS[np.arange(size_wh[0]) * len(COLORS) // size_wh[0]][None].repeat(size_wh[1], 0)
    with VideoFile(path, frame_rate=Fraction(25), codec=codec) as sink:
        for _ in range(3):
            sink.write(image)
    return path


@pytest.mark.parametrize("codec", ["h264", "mp4v"])
def test_colors_come_back_from_a_video(tmp_path: Path, codec: str) -> None:
    back = [frame.image for frame in Video(bars(tmp_path / "out.mp4", (160, 32), codec))][-1]
    assert np.abs(back[16, 16::32].astype(int) - COLORS).max() <= 6
    with pytest.importorskip("av").open(str(tmp_path / "out.mp4")) as video:
        context = video.streams.video[0].codec_context
        tags = (context.colorspace, context.color_primaries, context.color_trc)
        assert tags == (6, 1, 1)  # SMPTE 170M, which is BT.601; BT.709 twice


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (on Debian: apt install chromium)")
def test_a_browser_shows_the_colors_of_a_large_video(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs cvmask[serve-test]")
    video = b64encode(bars(tmp_path / "out.mp4", (1280, 720), "h264").read_bytes()).decode()
    look = """async () => {
        const video = document.querySelector("video"), page = document.querySelector("canvas").getContext("2d");
        await new Promise(shown => { video.requestVideoFrameCallback(shown); video.play(); });
        page.drawImage(video, 0, 0);
        return [128, 384, 640, 896, 1152].map(x => Array.from(page.getImageData(x, 360, 1, 1).data).slice(0, 3));
    }"""
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content(
            f'<video muted src="data:video/mp4;base64,{video}"></video><canvas width=1280 height=720></canvas>'
        )
        shown = np.array(page.evaluate(look))[:, ::-1]
        browser.close()
    assert np.abs(shown - COLORS).max() <= 4
