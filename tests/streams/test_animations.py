"""Animated pictures as outputs and as sources; Pillow is the judge, and makes the sources."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.cli.main import main
from cvmask.errors import SinkError
from cvmask.streams.sinks import ImageFile, VideoFile, animation, open_sink
from cvmask.streams.sources import Frame, Images, Video

OUTPUTS = ["out.gif", "out.webp"]
TIMES_S = [0.0, 0.04, 0.08, 0.2, 0.24]


def scene(index: int, size_wh: tuple[int, int] = (65, 49)) -> NDArray[np.uint8]:
    """A disc on a shaded ground, which moves with the index."""
    width, height = size_wh
    image = np.full((height, width, 3), 60, np.uint8)
    image[..., 0] = np.linspace(0, 255, width, dtype=np.uint8)
    cv2.circle(image, (10 + 10 * index, 24), 8, (30, 60, 230), -1)
    return image


def write_scenes(path: Path, times_s: list[float], rate: int = 25) -> list[str]:
    told: list[str] = []
    with animation.Animation(path, frame_rate=Fraction(rate), on_message=told.append) as sink:
        for index, time_s in enumerate(times_s):
            sink.write(scene(index), Frame(scene(index), index, time_s, "made.mp4"))
    return told


def read_by_pillow(path: Path) -> tuple[list[NDArray[np.uint8]], list[int], int]:
    """Give the frames (BGR), their durations in ms, and how often they repeat."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    with pillow.open(path) as file:
        images, durations = [], []
        for index in range(file.n_frames):
            file.seek(index)
            images.append(np.asarray(file.convert("RGB"))[..., ::-1].copy())
            durations.append(file.info["duration"])
        return images, durations, file.info["loop"]


@pytest.fixture
def av() -> None:
    pytest.importorskip("av", reason="needs PyAV: pip install av")


@pytest.mark.usefixtures("av")
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_animation_has_the_colours_and_times_of_its_frames(tmp_path: Path, name: str) -> None:
    assert write_scenes(tmp_path / name, TIMES_S) == []
    assert os.listdir(tmp_path) == [name]
    images, durations, loop = read_by_pillow(tmp_path / name)
    assert (durations[:4], loop) == ([40, 40, 120, 40], 0)
    assert len(images) == 5
    # The last frame of a WebP lasts as long as the others on the average.
    assert durations[4] == (40 if name.endswith("gif") else 60)
    for index, image in enumerate(images):
        assert np.abs(image.astype(int) - scene(index)).mean() < 6


@pytest.mark.usefixtures("av")
def test_a_gif_keeps_rates_that_its_clock_cannot_say_on_the_average(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a.gif", [index / 30 for index in range(6)], rate=30)
    assert read_by_pillow(tmp_path / "a.gif")[1] == [30, 40, 30, 30, 40, 30]


@pytest.mark.usefixtures("av")
def test_a_gif_leaves_out_frames_that_browsers_would_show_slowly(tmp_path: Path) -> None:
    told = write_scenes(tmp_path / "a.gif", [index / 100 for index in range(5)], rate=100)
    assert read_by_pillow(tmp_path / "a.gif")[1] == [20, 20, 20]
    assert told == [f"{tmp_path / 'a.gif'}: 2 frames left out: a GIF shows at most 50 a second"]


@pytest.mark.usefixtures("av")
@pytest.mark.parametrize("name", OUTPUTS)
def test_an_animation_appears_whole_or_not_at_all(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"older")
    sink = animation.Animation(tmp_path / name)
    sink.write(scene(0))
    sink.discard()
    assert (tmp_path / name).read_bytes() == b"older"
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(SinkError, match="is closed: no frame can follow"):
        sink.write(scene(0))
    with animation.Animation(tmp_path / f"none_{name}"):
        pass
    assert os.listdir(tmp_path) == [name]


@pytest.mark.usefixtures("av")
def test_a_size_that_the_format_does_not_know_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"a \.webp has sides of at most 16383 pixels, got 16400"), animation.Animation(
        tmp_path / "a.webp"
    ) as sink:
        sink.write(np.zeros((2, 16400, 3), np.uint8))
    assert os.listdir(tmp_path) == []


def test_without_pyav_one_line_names_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(animation, "find_av", lambda: None)
    with pytest.raises(SinkError, match=r"a\.gif: an animated picture needs PyAV: pip install av"):
        open_sink(tmp_path / "a.gif")


@pytest.mark.usefixtures("av")
def test_a_webp_of_pictures_is_a_picture_and_of_a_video_an_animation(tmp_path: Path) -> None:
    with VideoFile(tmp_path / "a.mp4") as video:
        video.write(scene(0))
    cv2.imwrite(str(tmp_path / "a.png"), scene(0))
    with Video(tmp_path / "a.mp4") as source:
        assert isinstance(open_sink(tmp_path / "b.webp", source=source), animation.Animation)
    assert isinstance(open_sink(tmp_path / "b.webp", source=Images([tmp_path / "a.png"])), ImageFile)
    assert isinstance(open_sink(tmp_path / "b.webp"), ImageFile)


@pytest.mark.usefixtures("av")
@pytest.mark.parametrize("name", OUTPUTS)
def test_predict_writes_animations(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with VideoFile("a.mp4", frame_rate=Fraction(10)) as video:
        for index in range(3):
            video.write(scene(index, (64, 48)))
    assert main(["predict", "-m", "shapes", "a.mp4", "-o", name]) == 0
    images, durations, _ = read_by_pillow(tmp_path / name)
    assert (len(images), durations[:2]) == (3, [100, 100])
