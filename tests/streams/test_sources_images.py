"""Every odd picture gives either a picture or one line that says why not."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.errors import SourceError
from cvmask.streams.sources import Images, find_images, image_source, read_image
from cvmask.streams.sources.headers import read_header

OLD = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 12)
CUT = "this JPEG is cut short: what is missing is grey or blurred"
SEVERAL = "holds several pictures: only the first is used"

# What each file of shared/data/odd_images gives: width, height and a warning.
PICTURES: dict[str, tuple[int, int, str]] = {
    **dict.fromkeys(
        [
            *("-dash.jpg", "UPPER.JPG", "astronaut.bmp", "astronaut.jp2", "astronaut.ppm", "astronaut.webp"),
            *("astronaut_16bit_gray.png", "astronaut_16bit_rgb.png", "astronaut_16bit_rgb.tif"),
            *("astronaut_1bit.png", "astronaut_cmyk.jpg", "astronaut_cmyk.tif", "astronaut_gray.jpg"),
            *("astronaut_gray.png", "astronaut_la.png", "astronaut_lzw.tif", "astronaut_palette.png"),
            *("astronaut_progressive.jpg", "astronaut_q95.jpg", "astronaut_rgb.png"),
            *("astronaut_rgba_gradient.png", "astronaut_rgba_opaque.png", "jpeg_named.png", "no_extension"),
            *("name with spaces é中.jpg", "png_named.jpg"),
            # Only libjpeg sees that this one is damaged, and tells stderr.
            "corrupt_40_bytes.jpg",
        ],
        (512, 512, ""),
    ),
    **{f"astronaut_exif{number}.jpg": (512, 400, "") for number in range(1, 9)},
    **dict.fromkeys(["black_640x480.png", "noise_640x480.png", "white_640x480.png"], (640, 480, "")),
    **{f"size_{w}x{h}.png": (w, h, "") for w, h in [(1, 1), (1, 1000), (1000, 1), (2, 2), (3, 3), (7, 5)]},
    "strip_10000x60.jpg": (10000, 60, ""),
    "strip_60x10000.jpg": (60, 10000, ""),
    "huge_8000x8000.jpg": (8000, 8000, ""),
    "truncated_half.jpg": (512, 512, CUT),
    "astronaut_animated.png": (512, 512, SEVERAL),
    "astronaut_animated.gif": (512, 512, SEVERAL),
    "astronaut.avif": (512, 512, ""),
}
REFUSED = {
    "bomb_20000x20000_1bit.png": "20000x20000 pixels are more than the limit of 200000000",
    "bomb_60000x60000_header.png": "60000x60000 pixels are more than the limit of 200000000",
    "header_only.jpg": "this JPEG is cut short before its first row",
    "text.jpg": "not a known kind of picture, it starts with b'not an image'",
    "truncated_half.png": "this PNG is damaged, or of a form that OpenCV",
    "zero_bytes.jpg": r"is empty \(0 bytes\)",
}
NOT_IN_OLD = {"astronaut.avif", "astronaut_animated.gif"}


@pytest.fixture
def odd(shared: Path) -> Path:
    return shared / "data" / "odd_images"


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_odd_picture_is_read(odd: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if OLD and name in NOT_IN_OLD:
        monkeypatch.setattr(image_source, "pillow_reads", lambda kind: False)
        with pytest.raises(SourceError, match=f"{name}: .* OpenCV {cv2.__version__} cannot read"):
            read_image(odd / name)
        return
    width, height, warning = PICTURES[name]
    image, warnings = read_image(odd / name)
    assert image.dtype == np.uint8
    assert image.shape == (height, width, 3)
    assert len(warnings) == bool(warning)
    assert warning in "".join(warnings)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_odd_picture_is_refused_in_one_line(odd: Path, name: str) -> None:
    with pytest.raises(SourceError, match=REFUSED[name]) as caught:
        read_image(odd / name)
    assert str(caught.value).startswith(f"{odd / name}: ")
    assert "\n" not in str(caught.value)


def test_every_odd_picture_has_its_expectation(odd: Path) -> None:
    assert {path.name for path in odd.iterdir()} == PICTURES.keys() | REFUSED.keys()


@pytest.mark.parametrize(
    "name",
    ["astronaut_16bit_rgb.tif", "astronaut_cmyk.tif", "astronaut_rgb.png", "astronaut_rgba_opaque.png"],
)
def test_lossless_encodings_of_one_picture_agree(odd: Path, name: str) -> None:
    reference, _ = read_image(odd / "astronaut.bmp")
    assert np.array_equal(read_image(odd / name)[0], reference)


@pytest.mark.parametrize("number", range(2, 9))
def test_exif_rotation_is_applied(odd: Path, number: int) -> None:
    upright, _ = read_image(odd / "astronaut_exif1.jpg")
    image, _ = read_image(odd / f"astronaut_exif{number}.jpg")
    assert np.abs(image.astype(int) - upright).mean() < 3


def test_half_a_jpeg_keeps_its_upper_half(odd: Path) -> None:
    whole, _ = read_image(odd / "astronaut_q95.jpg")
    half, _ = read_image(odd / "truncated_half.jpg")
    assert np.array_equal(half[:256], whole[:256])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_pixels_are_laid_on_white(tmp_path: Path, dtype: type) -> None:
    full = np.iinfo(dtype).max
    bgra = np.array([[[0, 0, full, full], [0, 0, full, 0], [0, 0, full, full // 5]]], dtype=dtype)
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    image, _ = read_image(tmp_path / "a.png")
    assert image.tolist() == [[[0, 0, 255], [255, 255, 255], [204, 204, 255]]]


def bmp_of(alpha: int, alpha_mask: int, length: int = 124) -> bytes:
    """Make a BMP of two pixels of 32 bits: a red one of this alpha, and a blue one of twice as much."""
    pixels = bytes([0, 0, 255, alpha, 255, 0, 0, 2 * alpha])
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, alpha_mask)
    header = (struct.pack("<IiiHHIIiiII", length, 2, 1, 1, 32, 3, 8, 0, 0, 0, 0) + masks).ljust(length, b"\0")
    header = header[: max(length, 52)]  # the masks of colours follow the short one
    return b"BM" + struct.pack("<IHHI", 22 + len(header), 0, 0, 14 + len(header)) + header + pixels


@pytest.mark.parametrize(
    ("data", "pixels"),
    [
        (bmp_of(51, 0xFF000000), [[204, 204, 255], [255, 153, 153]]),
        (bmp_of(0, 0xFF000000), [[0, 0, 255], [255, 0, 0]]),
        (bmp_of(51, 0), [[0, 0, 255], [255, 0, 0]]),
        (bmp_of(51, 0, 40), [[0, 0, 255], [255, 0, 0]]),
    ],
    ids=["alpha", "alpha 0 everywhere", "no mask of alpha", "short header"],
)
def test_bmp_is_laid_on_white_where_it_says_that_it_has_alpha(
    tmp_path: Path, data: bytes, pixels: list[list[int]]
) -> None:
    (tmp_path / "a.bmp").write_bytes(data)
    assert read_image(tmp_path / "a.bmp")[0].tolist() == [pixels]


def test_transparency_takes_no_many_times_the_memory_of_the_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((1000, 1000, 4), np.uint8))
    tracemalloc.start()
    try:
        image, _ = read_image(tmp_path / "a.png")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert image.all()
    assert peak < 3 * image.nbytes + 4 * 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory as Linux does")
def test_pictures_for_which_memory_is_too_short_are_named(tmp_path: Path) -> None:
    for name, size in (("a.png", 900 << 20), ("b.jpg", 200 << 20)):
        with open(tmp_path / name, "wb") as file:
            file.write(b"\xff\xd8\xff")
            file.truncate(size)
    code = """
import resource, sys
from cvmask.streams.sources import Images
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), resource.RLIM_INFINITY))
list(Images(sys.argv[1:], on_error=print))
"""
    command = [sys.executable, "-c", code, "a.png", "b.jpg"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=True)
    assert run.stdout.splitlines() == [
        "a.png: is larger than the memory there is",
        "b.jpg: this JPEG needs more memory than there is",
    ]


@pytest.mark.parametrize(
    ("dtype", "channels", "compression"),
    [
        *((np.float32, 1, 1), (np.float32, 4, 1), (np.float64, 3, 1), (np.int32, 4, 1)),
        (np.float32, 3, 34676),  # LogLuv, which OpenCV reads as 8 bits of another colour
    ],
)
def test_tiff_of_wide_values_is_refused(tmp_path: Path, dtype: type, channels: int, compression: int) -> None:
    path = tmp_path / "a.tif"
    grey = np.full((8, 9, channels), 0.5 if dtype is not np.int32 else 1 << 20, dtype)
    cv2.imwrite(str(path), grey, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    with pytest.raises(SourceError, match=f"this TIFF holds {np.dtype(dtype).name} values: save it with 8 or 16 bits"):
        read_image(path)


def test_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(SourceError, match=r"pipe.jpg: is a pipe or a device"):
        read_image(tmp_path / "pipe.jpg")


def test_folder_and_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is a folder, not a picture"):
        read_image(tmp_path)
    with pytest.raises(SourceError, match=r"none.png: cannot be read: No such file"):
        read_image(tmp_path / "none.png")


def test_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SourceError, match=r"a.png: cannot be read: Permission denied"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("suffix", "kind"),
    [
        *((".png", "PNG"), (".jpg", "JPEG"), (".bmp", "BMP"), (".webp", "WebP"), (".tif", "TIFF")),
        *((".ppm", "PNM"), (".jp2", "JPEG 2000"), (".hdr", "Radiance HDR"), (".ras", "Sun raster")),
    ],
)
def test_header_tells_kind_and_size(suffix: str, kind: str) -> None:
    ok, data = cv2.imencode(suffix, np.zeros((64, 70, 3), np.uint8))
    assert ok
    header = read_header(data.tobytes())
    assert header is not None
    assert (header.kind, header.size_wh, header.whole, header.more) == (kind, (70, 64), True, False)


def test_jpeg_with_data_after_its_end_is_whole(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for end in (b"", b"appended by a camera"):
        header = read_header(data + end)
        assert header is not None
        assert header.whole


_MAGIC = [
    *(b"GIF87a", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF\0\0\0\0WEBPVP8X",),
    *(b"II*\0", b"MM\0*", b"II+\0", b"PF\n"),
    *(b"P2 ", b"P6\n", b"P7\n", b"#?RADIANCE\n", b"\x59\xa6\x6a\x95", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    *(b"\0\0\0\x1cftypavif", b"\0\0\0\x1cftypheic", b"8BPS", b"qoif", b"DDS ", b"\0\0\1\0", b"\x76\x2f\x31\x01"),
]


@pytest.mark.parametrize("magic", _MAGIC)
def test_a_beginning_alone_is_refused_in_one_line(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "cut.gif"
    for filler in (b"\0", b"\xff"):
        for length in range(40):
            path.write_bytes(magic + length * filler)
            with pytest.raises(SourceError) as caught:
                read_image(path)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".jp2", ".hdr", ".ras"])
def test_no_prefix_of_a_picture_raises_anything_but_source_error(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    for length in range(1, len(data), max(1, len(data) // 40)):
        path.write_bytes(data[:length])
        try:
            read_image(path)
        except SourceError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_png_over_the_limit_is_refused_before_decoding(tmp_path: Path) -> None:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30, 40, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(SourceError, match="30x40 pixels are more than the limit of 1199"):
        read_image(tmp_path / "a.png", max_pixels=1199)


# OpenCV reads a line in pieces of 127 bytes, and takes a piece without letters for the end of the header.
@pytest.mark.parametrize("end", [b"\n", b"x\n\n", b"x" * 127 + b"\n"])
def test_radiance_over_the_limit_is_refused_before_decoding(tmp_path: Path, end: bytes) -> None:
    header = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n" + end + b"-Y 40 +X 30\n"
    (tmp_path / "a.hdr").write_bytes(header + b"\n-Y 4 +X 3\n")
    with pytest.raises(SourceError, match="30x40 pixels are more than the limit of 1199"):
        read_image(tmp_path / "a.hdr", max_pixels=1199)


def tiff_of(order: str, big: bool) -> bytes:
    """Make a black TIFF of 70 x 64; OpenCV writes no BigTIFF."""
    number, length = ("Q", "Q") if big else ("I", "H")
    pixels = bytes(70 * 64)
    start = 16 if big else 8
    fields = {256: 70, 257: 64, 258: 8, 259: 1, 262: 1, 273: start, 277: 1, 278: 64, 279: len(pixels)}
    tags = [*fields.items(), (256, 1)]  # the second width does not count
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HH", 8, 0) if big else b""
    entries = [
        struct.pack(f"{order}HH{number}{number}", tag, 16 if big else 4, 1, value) for tag, value in tags
    ]
    directory = struct.pack(order + length, len(entries)) + b"".join(entries)
    return head + struct.pack(order + number, start + len(pixels)) + pixels + directory + bytes(8 if big else 4)


@pytest.mark.parametrize("order", ["<", ">"])
def test_big_tiff_tells_its_size(tmp_path: Path, order: str) -> None:
    header = read_header(tiff_of(order, big=True))
    assert header is not None
    assert header[:2] == ("BigTIFF", (70, 64))
    (tmp_path / "a.tif").write_bytes(tiff_of(order, big=True))
    assert read_image(tmp_path / "a.tif")[0].shape == (64, 70, 3)


@pytest.mark.parametrize(("place", "count"), [(2**63, 0), (2**62, 0), (16, 2**64 - 1)])
def test_big_tiff_with_numbers_beyond_its_end_is_damaged(tmp_path: Path, place: int, count: int) -> None:
    (tmp_path / "a.tif").write_bytes(b"II" + struct.pack("<HHHQQ", 43, 8, 0, place, count) + bytes(100))
    with pytest.raises(SourceError, match=r"a\.tif: this BigTIFF is"):
        read_image(tmp_path / "a.tif")


def test_picture_whose_header_tells_another_size_is_held_against_the_limit_too(tmp_path: Path) -> None:
    data = cv2.imencode(".jp2", np.zeros((64, 70, 3), np.uint8))[1].tobytes()
    start = 12 + int.from_bytes(data[12:16], "big")  # behind the box of the file's type
    lie = b"xml ihdr" + struct.pack(">II", 1, 1)
    (tmp_path / "a.jp2").write_bytes(data[:start] + struct.pack(">I", 4 + len(lie)) + lie + data[start:])
    assert read_image(tmp_path / "a.jp2", 70 * 64)[0].shape == (64, 70, 3)
    with pytest.raises(SourceError, match="70x64 pixels are more than the limit of 4479"):
        read_image(tmp_path / "a.jp2", 70 * 64 - 1)


def test_images_yields_in_order_and_goes_on_after_a_bad_one(tmp_path: Path) -> None:
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((2, 3, 3), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    errors: list[SourceError] = []
    frames = list(Images(find_images(tmp_path), on_error=errors.append))
    assert [(frame.index, Path(frame.name).name) for frame in frames] == [(0, "a.png"), (2, "c.png")]
    assert len(errors) == 1
    assert "b.png" in str(errors[0])


def test_images_without_on_error_raises(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"b.png"):
        list(Images([tmp_path / "b.png"]))


def test_find_images_takes_a_folder_by_endings_and_a_pattern_by_its_match(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "deep/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [os.path.relpath(path, tmp_path) for path in find_images(tmp_path)]
    assert names == ["a.png", "b.JPG"]
    deep = [os.path.relpath(path, tmp_path) for path in find_images(tmp_path / "**" / "*.png")]
    assert deep == ["a.png", "deep/c.png"]
    assert len(find_images(tmp_path / "*.txt")) == 1


def test_find_images_says_when_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"a folder must hold pictures .* found none"):
        find_images(tmp_path)
    with pytest.raises(SourceError, match="a pattern must match files, found none"):
        find_images(tmp_path / "*.png")
