"""Which codec goes into which kind of file."""

from __future__ import annotations

from cvmask.streams.sinks.av_encoder import SUFFIXES as AV_SUFFIXES
from cvmask.streams.sinks.av_encoder import has_av
from cvmask.streams.sinks.encoders import CODECS

AV_CURE = "pip install 'cvmask[av]'"


def wrong_codec(suffix: str, codec: str | None, use_av: bool | None = None) -> str:
    """Say why a video of this ending cannot have this codec; nothing if it can.

    `use_av` is whether PyAV encodes; None: if it is installed.
    """
    if codec not in (None, "h264", "mp4v"):
        raise ValueError(f'codec must be "h264" or "mp4v", got {codec!r}')
    if codec is not None and suffix not in CODECS:
        return f"a codec is for videos: {' '.join(CODECS)}"
    if codec == "h264" and suffix not in AV_SUFFIXES:
        return f"H.264 goes into {' '.join(AV_SUFFIXES)}"
    if codec == "h264" and not (has_av() if use_av is None else use_av):
        return f"H.264 needs PyAV: {AV_CURE}"
    if codec == "mp4v" and suffix == ".webm":
        return f"mp4v goes into {' '.join((*AV_SUFFIXES, '.avi'))}"
    return ""
