"""Give the frames of a finished MP4 file their real times.

OpenCV's writer knows only one constant, rounded rate: 30000/1001 becomes 29.97. But an MP4 file keeps its
times in a list of durations (`stts`, in `moov`), which OpenCV writes at the end of the file, where it can
grow. Boxes are those of ISO/IEC 14496-12.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

_CONTAINERS = (b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl")
_LIMIT = 2**32 - 1


def ticks_a_second(rate: Fraction) -> int:
    """Choose a time scale in which a frame of this rate lasts a whole number of ticks, if there is one."""
    if rate.numerator > 120_000:
        return 90_000
    return rate.numerator * -(-90_000 // rate.numerator)


def set_frame_times(path: str | os.PathLike[str], times_s: Sequence[float], rate: Fraction) -> None:
    """Rewrite the times of a file with one video track, its index at the end and no reordered frames.

    Parameters
    ----------
    times_s
        Seconds from the first frame, rising; one for each frame of the file.
    rate
        Says how long the last frame lasts, and the time scale.

    Raises
    ------
    ValueError
        If the file is built in another way; it is then unchanged.
    """
    scale = _fitting((ticks_a_second(rate), 1000), times_s[-1] + 2 / rate)
    ticks = [round(time_s * scale) for time_s in times_s]
    durations = [max(1, after - before) for before, after in zip(ticks, ticks[1:])]
    durations.append(max(1, round(scale / rate)))
    with open(path, "r+b") as file:
        try:
            place, moov = _find_moov(file, os.fstat(file.fileno()).st_size)
            rebuilt = _rebuild(moov, _edits(durations, scale))
        except (struct.error, IndexError):
            raise ValueError("the MP4 file is cut short within a box") from None
        file.seek(place)
        file.write(struct.pack(">I4s", 8 + len(rebuilt), b"moov") + rebuilt)
        file.truncate()


def _fitting(scales: Sequence[int], seconds: float) -> int:
    """Choose the first time scale in which this many seconds fit into 32 bits, else the finest that fits."""
    return next((scale for scale in scales if seconds * scale <= _LIMIT), int(_LIMIT / seconds))


def _find_moov(file: BinaryIO, size: int) -> tuple[int, bytes]:
    """Give place and body of the last box, which must be moov."""
    place = 0
    while place < size:
        file.seek(place)
        length, kind = struct.unpack(">I4s", file.read(8))
        length = struct.unpack(">Q", file.read(8))[0] if length == 1 else length
        if kind == b"moov" and place + length == size:
            file.seek(place + 8)
            return place, file.read(length - 8)
        place += max(8, length)
    raise ValueError("the MP4 file does not end in its index")


def _edits(durations: Sequence[int], scale: int) -> dict[bytes, Callable[[bytes], bytes]]:
    total = sum(durations)
    movie_scale = _fitting((1000,), total / scale + 1)
    movie_total = -(-total * movie_scale // scale)
    return {
        b"mvhd": lambda body: _put(body, 12, movie_scale, movie_total),
        b"tkhd": lambda body: _put(body, 20, movie_total),
        b"elst": lambda body: _put(body, 8, movie_total),
        b"mdhd": lambda body: _put(body, 12, scale, total),
        b"stts": lambda body: _run_lengths(body, durations),
        b"ctts": lambda body: _refuse("reordered frames"),
    }


def _run_lengths(body: bytes, durations: Sequence[int]) -> bytes:
    frames = sum(count for count, _ in struct.iter_unpack(">II", body[8:]))
    if frames != len(durations):
        _refuse(f"{frames} frames for {len(durations)} times")
    runs = [(len(list(group)), duration) for duration, group in itertools.groupby(durations)]
    return struct.pack(">II", 0, len(runs)) + b"".join(struct.pack(">II", *run) for run in runs)


def _put(body: bytes, place: int, *numbers: int) -> bytes:
    if body[0] != 0:
        _refuse(f"boxes of version {body[0]}")
    return body[:place] + struct.pack(f">{len(numbers)}I", *numbers) + body[place + 4 * len(numbers) :]


def _rebuild(body: bytes, edits: dict[bytes, Callable[[bytes], bytes]]) -> bytes:
    out = bytearray()
    for kind, inner in _boxes(body):
        if kind in _CONTAINERS:
            inner = _rebuild(inner, edits)
        elif kind in edits:
            inner = edits[kind](inner)
        out += struct.pack(">I4s", 8 + len(inner), kind) + inner
    return bytes(out)


def _boxes(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(body):
        length, kind = struct.unpack_from(">I4s", body, place)
        if length < 8:
            _refuse("boxes without a length")
        yield kind, body[place + 8 : place + length]
        place += length


def _refuse(reason: str) -> bytes:
    raise ValueError(f"the MP4 file has {reason}")


_SEGMENT = b"\x18\x53\x80\x67"


def is_finished(path: Path) -> bool:
    """Return whether an .avi, .mkv or .webm file has the length that it states; True for all other endings."""
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
    """Return where the segment ends; FFmpeg writes its size in eight bytes near the start of the file."""
    head = file.read(256)
    place = head.find(_SEGMENT) + len(_SEGMENT)
    if place < len(_SEGMENT) or head[place : place + 1] != b"\x01":
        return -1
    return place + 8 + int.from_bytes(head[place + 1 : place + 8], "big")
