"""A virtual camera that video calls see: pyvirtualcam (extra `virtualcam`) on v4l2loopback or OBS."""

from __future__ import annotations

import importlib
import time
from fractions import Fraction
from typing import Any

import numpy as np

from cvmask.errors import SinkError, install
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.sink import Clock, Sink
from cvmask.streams.sinks.video_sink import DEFAULT_RATE, even, fit
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.system.interrupts import raise_if_stopped

NAME = "virtual"
_DEVICE = "on Linux load v4l2loopback (sudo modprobe v4l2loopback), on macOS and Windows install OBS"
_STEP_S = 0.05


class VirtualCamera(Sink):
    """Shows each frame to the programs that use the camera, in the size of the first; sides are made even.

    Parameters
    ----------
    frame_rate
        Frames a second that the camera says it has.
    paced
        Whether to wait until a frame is due, as for a file; live sources have their own pace.
    on_message
        Called with the name of the camera.

    Raises
    ------
    SinkError
        If pyvirtualcam is not installed, or there is no such camera.
    """

    def __init__(
        self, *, frame_rate: Fraction | None = None, paced: bool = False, on_message: Notify = ignore
    ) -> None:
        self.name = NAME
        try:
            self._library: Any = importlib.import_module("pyvirtualcam")
        except ImportError as error:
            raise SinkError(f"{NAME}: a virtual camera needs pyvirtualcam: {install('virtualcam')}") from error
        self._rate, self._paced, self._notify = frame_rate or DEFAULT_RATE, paced, on_message
        self._clock = Clock(self._rate)
        self._camera: Any = None
        self._began_s = 0.0
        self._closed = False

    def write(self, image: Picture, frame: Frame | None = None, detections: Detections | None = None) -> None:
        """Show a frame."""
        if self._closed:
            raise SinkError(f"{self.name} is closed: no frame can follow")
        image = check_frame(image)
        try:
            if self._camera is None:
                self._open(*even(image.shape[1], image.shape[0]))
            due_s = self._clock.time(frame)
            while self._paced and (wait_s := self._began_s + due_s - time.monotonic()) > 0:
                raise_if_stopped()
                time.sleep(min(wait_s, _STEP_S))
            shown = fit(image, (self._camera.width, self._camera.height))
            self._camera.send(np.ascontiguousarray(shown))
        except (RuntimeError, OSError) as error:
            raise SinkError(f"{self.name}: the camera refuses frames: {_line(error)}") from None

    def close(self) -> None:
        """Let the camera go."""
        self._closed = True
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.close()

    def _open(self, width: int, height: int) -> None:
        library = self._library
        try:
            self._camera = library.Camera(width, height, float(self._rate), fmt=library.PixelFormat.BGR)
        except (RuntimeError, OSError) as error:
            raise SinkError(f"{self.name}: no virtual camera can be opened ({_line(error)}); {_DEVICE}") from None
        self._began_s = time.monotonic()
        self._notify(f"{self.name}: {width}x{height} at {self._camera.device}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")[:200]
