"""Where results go: pictures, videos, animated pictures, JSON lines, a window, a virtual camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cvmask.errors import SinkError
from cvmask.streams.sinks import animation, image_sink, virtual_camera
from cvmask.streams.sinks.animation import Animation
from cvmask.streams.sinks.encoders import CODECS, wrong_codec
from cvmask.streams.sinks.image_sink import ImageFile, ImageFolder
from cvmask.streams.sinks.json_sink import JsonLines, read_json_lines
from cvmask.streams.sinks.sink import Sink, file_id, file_ids
from cvmask.streams.sinks.video_sink import VideoFile
from cvmask.streams.sinks.virtual_camera import VirtualCamera
from cvmask.streams.sinks.window import Window
from cvmask.streams.sources.image_source import Images, Still
from cvmask.streams.sources.moving import NumberedFrames
from cvmask.streams.sources.source import Notify, Source, ignore
from cvmask.streams.sources.video_source import Video

SUFFIXES = (*CODECS, ".gif", ".jsonl", *image_sink.SUFFIXES)
_FILES = (Animation, ImageFile, ImageFolder, JsonLines, VideoFile)

__all__ = [
    "SUFFIXES",
    "Animation",
    "ImageFile",
    "ImageFolder",
    "JsonLines",
    "Sink",
    "VideoFile",
    "VirtualCamera",
    "Window",
    "open_sink",
    "read_json_lines",
]


def open_sink(
    place: str | os.PathLike[str],
    *,
    source: Source | None = None,
    labels: Sequence[str] | None = None,
    codec: str | None = None,
    on_message: Notify = ignore,
) -> Sink:
    """Choose the output by its name.

    Parameters
    ----------
    place
        A video (.mp4, .mkv, .avi, ...), ``.gif``, ``.jsonl``, a picture (.png, .jpg, ...), a folder (one
        that exists, or a name without an ending), ``"window"`` or ``"virtual"``, a camera for video calls.
    source
        Where the frames come from: videos take its frame rate and its sound.
    labels
        Class names, for JSON lines.
    codec
        For a video, "h264" or "mp4v"; see `VideoFile`.
    on_message
        Called with one line for each thing that is not kept.

    Raises
    ------
    SinkError
        If there is no output of that kind, or it cannot be opened, or it would replace its source.
    """
    if not isinstance(place, (str, os.PathLike)):
        raise TypeError(f"an output must be a path, got {type(place).__name__}")
    name = os.fspath(place)
    suffix = Path(name).suffix.lower()
    if wrong := wrong_codec(suffix, codec):
        raise SinkError(f"{name}: {wrong}")
    if name == "window":
        return Window(hold=isinstance(source, Images), on_message=on_message)
    live = source is not None and source.live
    if name == virtual_camera.NAME:
        rate = None if source is None else source.frame_rate
        return VirtualCamera(frame_rate=rate, paced=not live, on_message=on_message)
    paths = source.paths if isinstance(source, (Images, NumberedFrames)) else [] if source is None else [source.name]
    if os.path.isdir(name) or not suffix or name.endswith(("/", os.sep)):
        return ImageFolder(name, sources=paths)
    if file_id(name) in file_ids(paths):
        raise SinkError(f"{name} would replace its source: give another name")
    if suffix in CODECS:
        audio = source.path if isinstance(source, Video) else None
        rate = None if source is None else source.frame_rate
        return VideoFile(name, frame_rate=rate, audio_from=audio, codec=codec, live=live, on_message=on_message)
    # Each picture becomes a picture of its own.
    moving = suffix == ".gif" or not (source is None or isinstance(source, (Images, Still)))
    if suffix in animation.SUFFIXES and moving:
        return Animation(name, frame_rate=None if source is None else source.frame_rate, on_message=on_message)
    if suffix == ".jsonl":
        return JsonLines(name, labels)
    if suffix in image_sink.SUFFIXES:
        return ImageFile(name)
    raise SinkError(f"{name}: an output is a folder or ends in one of {' '.join(SUFFIXES)}")


def open_all(
    outputs: Sequence[Sink | str | int | os.PathLike[str]] | Sink | str | int | os.PathLike[str],
    source: Source,
    labels: Sequence[str] | None,
    on_message: Notify,
) -> list[Sink]:
    """Open the outputs that are not sinks yet. If one cannot be opened, none stays open and SinkError is raised.

    Two outputs for the same file or folder are an error too.
    """
    sinks: list[Sink] = []
    try:
        if outputs is None:
            raise TypeError("outputs must be paths or sinks, got None: leave it out for none")
        for output in [outputs] if isinstance(outputs, (Sink, str, int, os.PathLike)) else outputs:
            if not isinstance(output, Sink):
                place = str(output) if isinstance(output, int) else output
                output = open_sink(place, source=source, labels=labels, on_message=on_message)
            sinks.append(output)
        _refuse_twice([sink.name for sink in sinks if isinstance(sink, _FILES)])
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
    return sinks


def _refuse_twice(names: Sequence[str]) -> None:
    taken: set[str] = set()
    for name in names:
        real = os.path.normcase(os.path.realpath(name))
        if real in taken:
            raise SinkError(f"{name} is named for two outputs: leave one out")
        taken.add(real)
