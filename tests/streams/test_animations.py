"""Animated pictures as outputs and as sources; Pillow is the judge, and makes the sources."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.cli.inputs import expand
from cvmask.cli.main import main
from cvmask.errors import SinkError, SourceError
from cvmask.streams.sinks import ImageFile, VideoFile, animation, open_sink
from cvmask.streams.sources import Frame, Images, Video, image_source, moving, open_source

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


# As sources

SOURCES = ["a.gif", "a.png", "a.webp"]
SPENT_MS = [40, 120, 40, 250]


def make_by_pillow(path: Path, spent_ms: list[int], **more: object) -> None:
    """Write so many scenes, with a disc that is all but transparent around it."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    images = []
    for index in range(len(spent_ms)):
        alpha = np.zeros((49, 65), np.uint8)
        cv2.circle(alpha, (10 + 10 * index, 24), 8, 255, -1)
        images.append(pillow.fromarray(np.dstack([scene(index)[..., ::-1], alpha])))
    lossless = {"lossless": True} if path.suffix == ".webp" else {"disposal": 2} if path.suffix == ".gif" else {}
    images[0].save(path, save_all=True, append_images=images[1:], duration=spent_ms, loop=0, **lossless, **more)


def on_white(index: int) -> NDArray[np.uint8]:
    image = np.full((49, 65, 3), 255, np.uint8)
    mask = np.zeros((49, 65), np.uint8)
    cv2.circle(mask, (10 + 10 * index, 24), 8, 255, -1)
    image[mask > 0] = scene(index)[mask > 0]
    return image


@pytest.mark.parametrize("name", SOURCES)
def test_an_animated_picture_is_a_video_on_white_with_its_times(tmp_path: Path, name: str) -> None:
    make_by_pillow(tmp_path / name, SPENT_MS)
    with open_source(tmp_path / name) as source:
        frames = list(source)
    assert (source.size_wh, source.length, source.frame_rate) == ((65, 49), 4, Fraction(4000, 450))
    assert [(frame.index, frame.time_s) for frame in frames] == [(0, 0), (1, 0.04), (2, 0.16), (3, 0.2)]
    for index, frame in enumerate(frames):
        assert frame.image.shape == (49, 65, 3)
        assert np.abs(frame.image.astype(int) - on_white(index)).max() <= (2 if name != "a.gif" else 40)


def test_a_part_of_an_animation_is_that_of_a_video(tmp_path: Path) -> None:
    make_by_pillow(tmp_path / "a.png", [100] * 6)
    with open_source(tmp_path / "a.png", start_s=0.1, end_s=0.5, stride=2) as source:
        assert [frame.index for frame in source] == [1, 3]
    with pytest.raises(SourceError, match="ends before the start at 9 s"), open_source(
        tmp_path / "a.png", start_s=9
    ) as source:
        list(source)


def test_two_frames_are_a_video_and_one_is_a_picture(tmp_path: Path) -> None:
    for count, kind in ((1, Images), (2, moving.Animation)):
        for name in SOURCES:
            make_by_pillow(tmp_path / name, [40] * count)
            assert isinstance(open_source(tmp_path / name), kind)


def test_frames_without_a_duration_last_as_long_as_in_browsers(tmp_path: Path) -> None:
    make_by_pillow(tmp_path / "a.gif", [0, 10, 20])
    assert [frame.time_s for frame in open_source(tmp_path / "a.gif")] == [0, 0.1, 0.2]


def test_the_first_picture_of_a_png_may_be_no_frame(tmp_path: Path) -> None:
    make_by_pillow(tmp_path / "a.png", [40, 40, 40], default_image=True)
    with open_source(tmp_path / "a.png") as source:
        frames = list(source)
    assert (source.length, [frame.index for frame in frames]) == (2, [0, 1])
    assert np.abs(frames[0].image.astype(int) - on_white(1)).max() <= 2


def test_an_animation_that_is_cut_short_gives_what_is_whole(tmp_path: Path) -> None:
    make_by_pillow(tmp_path / "a.png", SPENT_MS)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: data.rindex(b"fdAT") + 30])
    told: list[str] = []
    with open_source(tmp_path / "a.png", on_message=told.append) as source:
        assert len(list(source)) == 3
    assert source.lost == 1
    assert len(told) == 1
    assert "a.png: damaged, 1 frames are lost" in told[0]


def test_without_pillow_an_animation_is_a_picture_and_the_cure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_by_pillow(tmp_path / "a.png", SPENT_MS)
    monkeypatch.setattr(moving, "is_animation", lambda path: False)
    monkeypatch.setattr("cvmask.streams.sources.opening.is_animation", lambda path: False)
    monkeypatch.setattr(image_source, "pillow_reads", lambda kind: False)
    (frame,) = open_source(tmp_path / "a.png")
    assert frame.warnings[-1] == (
        "this PNG holds several pictures: only the first is used; all of them with Pillow: pip install pillow"
    )


def write_numbered(folder: Path, numbers: list[int], form: str = "frame_%04d.png") -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / (form % number)), scene(number % 5))


def test_numbered_frames_are_one_video(tmp_path: Path) -> None:
    write_numbered(tmp_path, [7, 8, 9])
    (tmp_path / "frame_x.png").write_bytes(b"other")
    told: list[str] = []
    with open_source(tmp_path / "frame_%04d.png", frame_rate=Fraction(10), on_message=told.append) as source:
        frames = list(source)
    assert (source.size_wh, source.length, source.frame_rate, told) == ((65, 49), 3, 10, [])
    assert [(frame.index, frame.time_s) for frame in frames] == [(0, 0), (1, 0.1), (2, 0.2)]
    assert np.array_equal(frames[1].image, scene(3))


def test_missing_and_damaged_numbers_are_told_and_counted(tmp_path: Path) -> None:
    write_numbered(tmp_path, [1, 2, 5])
    (tmp_path / "frame_0002.png").write_bytes(b"no picture")
    told: list[str] = []
    with open_source(tmp_path / "frame_%d.png", on_message=told.append) as source:
        assert [frame.time_s for frame in source] == [0, 4 / 25]
    assert source.lost == 1
    assert [line.split(": ", 1)[1] for line in told[:2]] == [
        "25 frames a second, since no rate is given",
        "2 numbers are missing: the frame before lasts longer",
    ]
    assert told[2].endswith("this frame is left out")
    with pytest.raises(SourceError, match="no file has this name with a number in it"):
        open_source(tmp_path / "other_%03d.png")


def test_a_folder_with_a_rate_is_a_video_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    write_numbered(tmp_path / "in", [0, 1, 2, 10], "f%d.png")
    with open_source(tmp_path / "in", frame_rate=Fraction(5)) as source:
        assert [frame.time_s for frame in source] == [0, 0.2, 0.4, 0.6]
    assert [Path(path).name for path in source.paths] == ["f0.png", "f1.png", "f2.png", "f10.png"]
    assert isinstance(open_source(tmp_path / "in"), Images)


def test_the_command_line_knows_what_moves(tmp_path: Path) -> None:
    write_numbered(tmp_path / "in", [0, 1])
    make_by_pillow(tmp_path / "in" / "a.gif", [40, 40])
    folder, gif, frames = str(tmp_path / "in"), str(tmp_path / "in/a.gif"), str(tmp_path / "in/frame_%04d.png")
    assert [one.kind for one in expand([folder])[0]] == ["picture"] * 3
    assert [one.kind for one in expand([gif, frames])[0]] == ["video", "numbered frames"]
    assert [(one.kind, one.name) for one in expand([folder], rated=True)[0]] == [("numbered frames", "in")]


@pytest.mark.parametrize("verb", [["predict"], ["edit", "--effect", "blur-background"]])
def test_moving_pictures_become_one_video(
    tmp_path: Path, verb: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_by_pillow(tmp_path / "a.webp", [100, 100, 100])
    write_numbered(tmp_path, [0, 1, 2])
    assert main([*verb, "-m", "shapes", "a.webp", "frame_%04d.png", "--rate", "10"]) == 0
    assert "ignored" not in capfd.readouterr().err
    assert sorted(os.listdir("cvmask_out")) == ["a.mp4", "frame.mp4"]
    for name in ("a", "frame"):
        assert [frame.time_s for frame in open_source(f"cvmask_out/{name}.mp4")] == pytest.approx([0, 0.1, 0.2])
