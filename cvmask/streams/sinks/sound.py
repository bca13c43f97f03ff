"""The sound of a video's source, copied as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvmask.streams.sources.http import without_password

# Of a server: how long opening, and each read, may take.
_TIMEOUT_S = 10.0


class Sound:
    """Copies the first audio track of a file, or of a video at an address, packet by packet, from `start_s` on.

    `start_s` counts from the first picture, which need not be where the file's own times begin.

    Attributes
    ----------
    lost
        Why there is nothing to copy although there may be sound; "" where there is none, or it is copied.
    """

    def __init__(self, av: Any, path: str, target: Any, start_s: float) -> None:
        self._target, self._start_s = target, start_s
        self._packets: Iterator[Any] = iter(())
        self._held: Any = None
        self._input: Any = None
        self.lost = ""
        try:
            self._input = _opened(av, path)
        except av.FFmpegError as error:
            self.lost = f"FFmpeg cannot read {without_password(path)}: {error.strerror}"
            return
        self._start_s += _first_picture_s(self._input)
        if self._input.streams.audio:
            source = self._input.streams.audio[0]
            try:
                self._stream = target.add_stream_from_template(source)
            except (ValueError, av.FFmpegError):
                self.lost = f"a {Path(target.name).suffix} file cannot hold its codec"
                return
            self._packets = (packet for packet in self._read(av, source) if packet.pts is not None)

    def copy_until(self, time_s: float) -> None:
        """Copy the packets that begin before this time of the output."""
        while True:
            packet = self._held if self._held is not None else next(self._packets, None)
            self._held = packet
            if packet is None:
                return
            start_s = float(packet.pts * packet.time_base) - self._start_s
            if start_s > time_s:
                return
            self._held = None
            if start_s >= 0:
                shift = round(self._start_s / packet.time_base)
                packet.pts -= shift
                packet.dts = None if packet.dts is None else packet.dts - shift
                packet.stream = self._stream
                self._target.mux(packet)

    def _read(self, av: Any, source: Any) -> Iterator[Any]:
        try:
            yield from self._input.demux(source)
        except av.FFmpegError as error:  # such as a server that is gone: the pictures are kept
            self.lost = f"FFmpeg cannot read on: {error.strerror}"

    def close(self) -> None:
        """Close the file that the sound comes from."""
        if self._input is not None:
            self._input.close()


def _first_picture_s(container: Any) -> float:
    """Give when the first picture is due, in the file's own time; 0 where it does not say."""
    for track in container.streams.video[:1]:
        if track.start_time is not None:
            return float(track.start_time * track.time_base)
    return 0.0


def _opened(av: Any, path: str) -> Any:
    if path.startswith(("http://", "https://")):
        return av.open(path, timeout=_TIMEOUT_S)
    return av.open(os.path.abspath(path))  # a colon in it would name a protocol
