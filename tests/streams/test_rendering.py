"""Drawing again from JSON lines gives the same pixels, and other settings give what they say."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
import pytest
from conftest import random_detections

from cvmask.cli.main import main
from cvmask.errors import SinkError, SourceError
from cvmask.results.detections import Detections
from cvmask.streams.pipeline import annotate
from cvmask.streams.replay import render
from cvmask.streams.sinks import Sink, read_json_lines
from cvmask.streams.sources import Frame, Video


class Model:
    """Finds other random objects in each frame."""

    labels = ("dog", "cat") * 45

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def detect(self, frame: np.ndarray) -> Detections:
        return random_detections(self.rng, 4, (frame.shape[0], frame.shape[1]))


class Keep(Sink):
    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.counts: list[int] = []

    def write(
        self, image: np.ndarray, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        assert detections is not None
        self.images.append(image)
        self.counts.append(len(detections))

    def close(self) -> None:
        pass


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "in.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 64))
    for index in range(8):
        writer.write(np.full((64, 96, 3), 20 * index, np.uint8))
    writer.release()
    return path


@pytest.fixture
def lines(clip: Path) -> tuple[Path, Keep]:
    first = Keep()
    lines = clip.with_name("out.jsonl")
    annotate(clip, Model(), outputs=[first, lines], track=True, style={"color_by": "instance"}).run()
    return lines, first


@pytest.mark.parametrize("mask_paste", ["tensorflow", "tutorial"])
def test_rendering_pastes_masks_as_the_earlier_run_did(clip: Path, mask_paste: str) -> None:
    class Pasting(Model):
        def detect(self, frame: np.ndarray) -> Detections:
            return dataclasses.replace(super().detect(frame), mask_paste=mask_paste)

    first, again, path = Keep(), Keep(), clip.with_name("out.jsonl")
    annotate(clip, Pasting(), outputs=[first, path], track=True).run()
    assert {found.mask_paste for _, found in read_json_lines(path)} == {mask_paste}
    render(clip, path, [again])
    assert np.array_equal(first.images, again.images)


def test_rendering_with_the_same_settings_gives_the_same_pixels(clip: Path, lines: tuple[Path, Keep]) -> None:
    again = Keep()
    summary = render(clip, lines[0], [again], style={"color_by": "instance"})
    assert summary.written == 8
    assert len(again.images) == len(lines[1].images) == 8
    assert all(np.array_equal(new, old) for new, old in zip(again.images, lines[1].images))


def test_rendering_filters_by_score_and_class(clip: Path, lines: tuple[Path, Keep]) -> None:
    all_found = [found for _, found in read_json_lines(lines[0])]
    for options, expected in [
        ({"score_threshold": 0.5}, [int((found.confidence > 0.5).sum()) for found in all_found]),
        ({"classes": ["cat"]}, [int((found.class_id % 2 == 1).sum()) for found in all_found]),
        ({"classes": [all_found[0].class_id[0]]}, None),
    ]:
        again = Keep()
        render(clip, lines[0], [again], **options)  # type: ignore[arg-type]
        assert again.counts == expected if expected else sum(again.counts) > 0


def test_classes_are_those_of_other_labels_where_there_are_any(clip: Path, lines: tuple[Path, Keep]) -> None:
    again, expected = Keep(), Keep()
    render(clip, lines[0], [expected], classes=["cat"])
    render(clip, lines[0], [again], classes=["tiger"], style={"labels": ["lion", "tiger"] * 45})
    assert again.counts == expected.counts
    with pytest.raises(SourceError, match="labels: there is no class 'cat'"):
        render(clip, lines[0], [again], classes=["cat"], style={"labels": ["lion", "tiger"] * 45})


def test_rendering_writes_a_video(clip: Path, lines: tuple[Path, Keep], tmp_path: Path) -> None:
    render(clip, lines[0], [tmp_path / "again.mp4"])
    assert len(list(Video(tmp_path / "again.mp4"))) == 8


def test_rendering_part_of_a_run_finds_its_frames(clip: Path, tmp_path: Path) -> None:
    annotate(clip, Model(), outputs=[tmp_path / "part.jsonl"], start_s=0.2, end_s=0.7, stride=2).run()
    again, messages = Keep(), []
    render(clip, tmp_path / "part.jsonl", [again], on_message=messages.append)
    assert [round(image.mean()) for image in again.images] != []
    assert len(again.images) == 3
    assert messages == [
        f"{tmp_path}/part.jsonl: has no line for 4 frames; they are left out",
        f"{tmp_path}/part.jsonl: its last line is for frame 6; later frames of {clip} are left out",
    ]


@pytest.mark.parametrize(("stride", "start_s"), [(1, 0.0), (2, 0.2), (3, 0.1)])
@pytest.mark.parametrize("codec", [[], ["--codec", "mp4v"]])
def test_a_run_of_every_nth_frame_is_drawn_at_its_rate(
    clip: Path, tmp_path: Path, stride: int, start_s: float, codec: list[str]
) -> None:
    lines, first, again = tmp_path / "part.jsonl", tmp_path / "first.mp4", tmp_path / "again.mp4"
    annotate(clip, Model(), outputs=[first, lines], start_s=start_s, stride=stride).run()
    assert main(["render", str(clip), str(lines), "-o", str(again), *codec]) == 0
    one, other = cv2.VideoCapture(str(first)), cv2.VideoCapture(str(again))
    for what in (cv2.CAP_PROP_FPS, cv2.CAP_PROP_FRAME_COUNT):
        assert other.get(what) == pytest.approx(one.get(what))
    assert other.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / stride)


def test_rendering_says_when_the_lines_are_of_another_video(clip: Path, lines: tuple[Path, Keep]) -> None:
    messages: list[str] = []
    other = clip.rename(clip.with_name("other.avi"))
    render(other, lines[0], [], on_message=messages.append)
    assert messages == [f"{lines[0]}: was made from in.avi, this is {other}"]
    # The same video in another folder is the same video.
    messages.clear()
    (clip.parent / "moved").mkdir()
    render(other.rename(clip.parent / "moved" / "in.avi"), lines[0], [], on_message=messages.append)
    assert messages == []


def test_rendering_refuses_what_does_not_belong_together(
    clip: Path, lines: tuple[Path, Keep], tmp_path: Path
) -> None:
    other = tmp_path / "other.png"
    cv2.imwrite(str(other), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(SourceError, match=r"is of frames of 96x64, .*other.png has 8x8"):
        render(other, lines[0], [])
    small = tmp_path / "small.png"
    cv2.imwrite(str(small), np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(SourceError, match=r"small.png: has no frame 1, which .*out.jsonl has"):
        render(small, lines[0], [])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(SourceError, match="holds no line"):
        render(clip, tmp_path / "empty.jsonl", [])
    with pytest.raises(SourceError, match="there is no class 'horse'"):
        render(clip, lines[0], [], classes=["horse"])
    with pytest.raises(SourceError, match=r"out.jsonl: is of 90 classes, not of 1 labels"):
        render(clip, lines[0], [], style={"labels": ["hello"]})


def test_lines_of_a_run_that_was_broken_off_are_drawn(clip: Path, lines: tuple[Path, Keep]) -> None:
    whole = lines[0].read_text()
    lines[0].write_text(whole[:-100])
    again: Keep = Keep()
    told: list[str] = []
    render(clip, lines[0], again, on_message=told.append)
    assert len(again.images) == 7
    assert told[0] == f"{lines[0]}: line 8 is cut off, its run was interrupted there: it is left out"
    lines[0].write_text(whole + "\n")
    assert render(clip, lines[0], Keep()).written == 8
    lines[0].write_bytes(whole.encode() + '{"name":"ü'.encode()[:-1])
    assert render(clip, lines[0], Keep(), on_message=told.append).written == 8
    assert told[-1] == f"{lines[0]}: line 9 is cut off, its run was interrupted there: it is left out"


@pytest.mark.parametrize(
    ("change", "classes", "error"),
    [
        (lambda text: text, ["bird"], "there is no class 'bird'"),
        (lambda text: text, "90", "there is no class '90'"),
        (lambda text: text.partition("\n")[2], "cat", "its first line has no class names: give ids"),
        (lambda text: text * 2, None, "has frame 0 after frame 7: needed the lines of one run"),
        (lambda text: text.replace("}\n", "\n", 1), None, "line 1 is not a frame of detections: Expecting"),
        (lambda text: text.replace('"index":0', '"index":Infinity'), None, "line 1 is not a frame of detections: can"),
        (lambda text: "[" * 200_000 + "\n" + text, None, "line 1 is not a frame of detections: maximum recursion"),
        (
            lambda text: re.sub(r'"labels":\[[^]]*\]', '"labels":5', text),
            None,
            "line 1 is not a frame of detections: labels must be a list of names, got 5",
        ),
        (
            lambda text: re.sub(r'"labels":\[[^]]*\]', '"labels":[1,2]', text),
            None,
            "line 1 is not a frame of detections: labels must be a list of names, got [1, 2]",
        ),
    ],
)
def test_lines_that_do_not_hold_what_is_asked_for(
    clip: Path, lines: tuple[Path, Keep], change: Callable[[str], str], classes: list[str] | str | None, error: str
) -> None:
    lines[0].write_text(change(lines[0].read_text()))
    with pytest.raises(SourceError, match=re.escape(f"{lines[0]}: {error}")):
        render(clip, lines[0], Keep(), classes=classes)


def test_ids_do_without_names(clip: Path, lines: tuple[Path, Keep]) -> None:
    lines[0].write_text(lines[0].read_text().partition("\n")[2])
    assert render(clip, lines[0], Keep(), classes=["0", 1]).written == 7


def test_rendering_does_not_replace_its_detections(clip: Path, lines: tuple[Path, Keep]) -> None:
    before = lines[0].read_bytes()
    with pytest.raises(SinkError, match=r"out.jsonl would replace the detections: give another name"):
        render(clip, lines[0], [lines[0]])
    assert lines[0].read_bytes() == before
