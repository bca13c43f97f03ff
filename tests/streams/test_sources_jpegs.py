"""JPEG after JPEG in one run of bytes, some of them cut short or damaged."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cvmask.errors import SourceError
from cvmask.streams.sources.mjpeg import decode_jpegs, split_jpegs

BOUNDARY = b"\r\n--frame\r\nContent-Type: image/jpeg\r\n\r\n"


def jpeg(grey: int, *flags: int) -> bytes:
    picture = np.full((16, 24, 3), grey, np.uint8)
    picture[4:9, 5:20] = np.arange(225, dtype=np.uint8).reshape(5, 15, 3)
    return cv2.imencode(".jpg", picture, flags)[1].tobytes()


def with_thumbnail(data: bytes, thumbnail: bytes) -> bytes:
    body = b"Exif\0\0" + b"x" * 40 + thumbnail
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


def split(data: bytes, chunk: int = 1 << 20) -> tuple[list[bytes], int]:
    """Give the JPEGs, and how many were damaged."""
    file, damaged = io.BytesIO(data), list[bool]()
    return list(split_jpegs(lambda: file.read(chunk), lambda: damaged.append(True))), len(damaged)


@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_jpegs_are_split_wherever_the_bytes_are_cut(chunk: int) -> None:
    pictures = [jpeg(grey) for grey in (10, 100, 200)]
    data = b"--boundary\r\n" + b"\r\n--boundary\xff\r\n".join(pictures) + pictures[0][:50]
    assert split(data, chunk) == (pictures, 1)


@pytest.mark.parametrize("between", [b"", BOUNDARY], ids=["bare", "multipart"])
@pytest.mark.parametrize(
    "flags", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)], ids=["", "progressive", "rst"]
)
def test_of_three_the_second_cut_anywhere_is_left_out(flags: tuple[int, ...], between: bytes) -> None:
    first, second, third = (jpeg(grey, *flags) for grey in (10, 100, 200))
    for cut in range(3, len(second)):
        data = between.join([first, second[:cut], third])
        assert split(data) == ([first, third], 1), cut


def test_a_thumbnail_is_part_of_its_picture() -> None:
    thumbnail = jpeg(50)
    first, second, third = (with_thumbnail(jpeg(grey), thumbnail) for grey in (10, 100, 200))
    assert split(first + second + third) == ([first, second, third], 0)
    for cut in range(3, len(second)):
        found, damaged = split(first + second[:cut] + third)
        assert (found, damaged) == ([first, third], 1), cut


@pytest.mark.parametrize("quality", range(1, 101))
def test_no_table_looks_like_the_start_of_a_picture(quality: int) -> None:
    data = jpeg(90, cv2.IMWRITE_JPEG_QUALITY, quality)
    assert split(data * 2) == ([data, data], 0)


def test_fill_bytes_may_stand_before_a_marker() -> None:
    data = jpeg(10)
    filled = data[:2] + b"\xff\xff" + data[2:-2] + b"\xff" + data[-2:]
    assert split(filled + data) == ([filled, data], 0)
    file = io.BytesIO(filled)
    assert len(list(decode_jpegs(file.read, "-", lambda: pytest.fail("it is whole")))) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:30] + bytes(200) + data[230:],
        lambda data: data[:4] + b"\0\0" + data[6:],
        lambda data: data[:4] + b"\xff\xff" + data[6:],
        lambda data: data[:-40] + b"\xff\x55" + data[-38:],
    ],
    ids=["a header of zeros", "no length", "a bogus length", "a marker in the scan"],
)
def test_what_follows_a_spoilt_one_comes(spoil: Callable[[bytes], bytes]) -> None:
    pictures = [jpeg(grey) for grey in range(0, 200, 20)]
    file, damaged = io.BytesIO(pictures[0] + spoil(pictures[1]) + b"".join(pictures[2:])), list[bool]()
    images = list(decode_jpegs(file.read, "-", lambda: damaged.append(True)))
    assert [round(image[0, 0].mean(), -1) for image in images] == [0, *range(40, 200, 20)]
    assert damaged == [True]


def test_the_next_picture_is_given_before_anything_follows_it() -> None:
    first, second = jpeg(10), jpeg(200)
    sent = [first[: len(first) // 2], BOUNDARY + second]

    def read() -> bytes:
        assert sent, "more was asked for than the second needs"
        return sent.pop(0)

    assert next(split_jpegs(read, lambda: None)) == second


def test_what_never_ends_is_no_stream_of_jpegs() -> None:
    begin = iter([jpeg(1)[:-2]])
    with pytest.raises(SourceError, match="a JPEG of more than 64 MB: not a stream of JPEGs"):
        next(split_jpegs(lambda: next(begin, bytes(1 << 22)), lambda: None))
