"""What `cvmask doctor` says of video: each kind is written, and read again."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from cvmask.cli.finding import NOTE, OK, PROBLEM, Finding
from cvmask.errors import CvmaskError
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sinks.av_encoder import SUFFIXES as AV_SUFFIXES
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sinks.codecs import AV_CURE
from cvmask.streams.sinks.encoders import CODECS
from cvmask.system.quiet import quiet


def check_video() -> Iterator[Finding]:
    """Which kinds of video OpenCV writes, and H.264, for which PyAV is needed."""
    written: list[str] = []
    refused: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for suffix, codec in CODECS.items():
            why = why_not_written(Path(folder) / f"clip{suffix}", use_av=False)
            (refused if why else written).append(f"{codec} ({suffix})")
    text = f"writes {', '.join(written) or 'nothing'}" + (f"; not {', '.join(refused)}" if refused else "")
    cure = "" if written else "install the wheel opencv-python, which brings FFmpeg"
    yield Finding("video", OK if written else PROBLEM, text, cure)
    yield _h264()


def _h264() -> Finding:
    topic, kinds = "video in H.264", ", ".join(AV_SUFFIXES)
    if not has_av():
        return Finding(topic, NOTE, f"not written: {kinds} are written as mp4v, without sound", AV_CURE)
    with tempfile.TemporaryDirectory() as folder:
        reasons = [why_not_written(Path(folder) / f"clip{suffix}", use_av=True) for suffix in AV_SUFFIXES]
    why = next(filter(None, reasons), "")
    if why:
        return Finding(topic, PROBLEM, f"cannot be written: {why}", f"pip uninstall av, or {AV_CURE} --upgrade")
    return Finding(topic, OK, f"writes {kinds}")


def why_not_written(path: Path, use_av: bool) -> str:
    """Say why three frames do not go into a video and come out of it again; nothing if they do."""
    frame = np.full((48, 64, 3), 127, np.uint8)
    with quiet():
        try:
            with VideoFile(path, use_av=use_av) as video:
                for _ in range(3):
                    video.write(frame)
        except (CvmaskError, OSError, cv2.error) as error:
            return str(error).replace(str(path), f"a file of {path.suffix}")
        capture = cv2.VideoCapture(str(path))
        try:
            return "" if all(capture.read()[0] for _ in range(3)) else f"OpenCV cannot read the file of {path.suffix}"
        finally:
            capture.release()
