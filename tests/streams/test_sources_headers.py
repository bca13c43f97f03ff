"""Headers made to keep a reader busy."""

from __future__ import annotations

import struct
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from cvmask.streams.sources.headers import read_header

_READ = "from cvmask.streams.sources.headers import read_header; print(read_header({!r}).size_wh)"


@pytest.mark.parametrize(
    ("data", "size_wh"),
    [
        (b"P1" + b" " * 60 + b"title", None),
        (b"P5 " + b"# \n" * 60 + b"title", None),
        (b"P6 " + b"1" * 5000 + b" 7\n", None),
        (b"P6 # 3 4\n #\n12\t\r\n# x\n7\n255\n", (12, 7)),
    ],
)
def test_the_size_of_a_pnm_is_found_or_missed_at_once(data: bytes, size_wh: tuple[int, int] | None) -> None:
    done = subprocess.run([sys.executable, "-c", _READ.format(data)], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (str(size_wh), "")


@pytest.mark.parametrize("place", [16, 2**63, 2**64 - 1])
def test_a_bigtiff_that_points_anywhere_is_cut_short(place: int) -> None:
    header = read_header(b"II+\0\x08\0\0\0" + struct.pack("<QQ", place, 2**64 - 1) + bytes(100))
    assert header is not None
    assert (header.kind, header.whole) == ("BigTIFF", False)


CONTROL, COMMENT = b"!\xf9\x04\0\0\0\0\0", b"!\xfe\x03a,b\0"
PICTURE = b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0"  # one pixel


@pytest.mark.parametrize(
    ("blocks", "several"),
    [
        (PICTURE, False),
        (CONTROL + PICTURE + COMMENT, False),
        (PICTURE + PICTURE, True),
        (PICTURE + CONTROL + PICTURE, True),
        (CONTROL + COMMENT + PICTURE + COMMENT + PICTURE, True),
    ],
)
def test_a_gif_says_that_it_holds_several_pictures(blocks: bytes, several: bool) -> None:
    header = read_header(b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6) + blocks + b";")
    assert header is not None
    assert header.more is several


def test_any_number_of_fill_bytes_may_stand_before_a_marker() -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 9, 3), np.uint8))[1].tobytes()
    header = read_header(data[:2] + b"\xff" * 20_000 + data[2:])
    assert header is not None
    assert (header.size_wh, header.whole) == ((9, 8), True)


def test_a_jpeg_of_nothing_but_segments_is_not_read_to_its_end() -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 9, 3), np.uint8))[1].tobytes()
    for count, known in ((5_000, True), (20_000, False)):
        header = read_header(data[:2] + b"\xff\xfe\x00\x02" * count + data[2:])
        assert header is not None
        assert (header.size_wh == (9, 8), header.whole) == (known, known)


@pytest.mark.parametrize("head", [b"P5 ", b"P5 1 1 "])
@pytest.mark.parametrize("filling", [b" ", b"#\n"])
def test_a_pnm_of_nothing_but_blanks_stops_no_thread(head: bytes, filling: bytes) -> None:
    # Matched whole, 32 MB of them took 18 s and 4 GB, and all the while no other thread of Python ran.
    began = time.perf_counter()
    header = read_header(head + filling * ((16 << 20) // len(filling)))
    assert header is not None
    assert header.size_wh == ((1, 1) if b"1" in head else None)
    assert time.perf_counter() - began < 1.5


def test_a_gif_of_nothing_but_blocks_is_not_read_to_its_end() -> None:
    start = b"GIF89a\x08\0\x08\0\0\0\0"
    picture = b"\x2c\0\0\0\0\x08\0\x08\0\0\2\2\x4c\1\0"
    for count, more in ((1_000, True), (1_000_001, False)):
        header = read_header(start + picture + b"!\xfe" + b"\1a" * count + b"\0" + picture + b";" + bytes(10))
        assert header is not None
        assert header.more == more
