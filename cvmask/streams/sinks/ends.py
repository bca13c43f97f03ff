"""Tell a video file that was cut short, as by a full disk, from one that its muxer has finished.

FFmpeg writes the size of the whole when it closes a file, and nothing more once a write has failed: then that
size is still the "unknown" of the beginning. RIFF: Microsoft's AVI RIFF file reference, and OpenDML for files
of several RIFF chunks. Matroska and WebM: RFC 8794 (EBML) and RFC 9559.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_SEGMENT = b"\x18\x53\x80\x67"


def is_finished(path: Path) -> bool:
    """Tell whether an .avi, .mkv or .webm file ends where it says that it does; True for all other endings."""
    end_of = {".avi": _riff_end, ".mkv": _segment_end, ".webm": _segment_end}.get(path.suffix.lower())
    if end_of is None:
        return True
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        return 0 < end_of(file, size) == size


def _riff_end(file: BinaryIO, size: int) -> int:
    """Give where the last RIFF chunk ends."""
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return -1
        place += 8 + int(struct.unpack("<I", head[4:])[0])
    return place


def _segment_end(file: BinaryIO, size: int) -> int:
    """Give where the segment ends, which FFmpeg writes with a size of eight bytes, close behind the beginning."""
    head = file.read(256)
    place = head.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or head[place : place + 1] != b"\x01":
        return -1
    return place + 8 + int.from_bytes(head[place + 1 : place + 8], "big")
