"""Pictures that came out wrong: each held against Pillow, or against the values that it was written from."""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.errors import SourceError, install
from cvmask.streams.sources import image_source, open_source, read_image
from cvmask.streams.sources import pillow as pillow_module
from cvmask.streams.sources.headers import read_header
from cvmask.streams.sources.image_source import RARE_SUFFIXES, decode_image
from cvmask.streams.sources.opening import is_picture
from cvmask.streams.sources.video_source import Video

# Of CMYK OpenCV makes other greens than Pillow; AVIF of 10 bits and 16-bit alpha are rounded elsewhere.
MOST_DIFFERENT = 1.0
# Pillow refuses what is cut short, and what is larger than its own limit.
NOT_BY_PILLOW = {
    "corrupt_40_bytes.jpg",  # what libjpeg makes of damage depends on its version
    "bomb_20000x20000_1bit.png",
    "bomb_60000x60000_header.png",
    "header_only.jpg",
    "text.jpg",
    "truncated_half.jpg",
    "truncated_half.png",
    "zero_bytes.jpg",
}
# What needs Pillow, on every version of OpenCV.
BY_PILLOW_ALONE = {"grey_4bit.tif": "pillow", "palette.jp2": "pillow", "untiled.heif": "heif"}
NOT_IN_OLD = (".avif", ".gif")
OLD = tuple(int(part) for part in cv2.__version__.split(".")[:2]) < (4, 12)
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = [
    f"{folder}/{path.name}"
    for folder in ("odd_images", "odd_images_2")
    for path in sorted((SHARED / folder).glob("*"))
    if path.name not in {*NOT_BY_PILLOW, "README.md"}
]


def _by_pillow(path: Path) -> NDArray[np.uint8]:
    image = pytest.importorskip("PIL.Image")
    ops = pytest.importorskip("PIL.ImageOps")
    if path.suffix == ".heif":
        pytest.importorskip("pillow_heif").register_heif_opener()
    with image.open(path) as opened:
        picture = ops.exif_transpose(opened)
        if picture.mode.startswith("I;16"):
            return np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., np.newaxis], 3, axis=2)
        if picture.has_transparency_data:
            white = image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture.convert("RGBA"))
            picture = white
        return np.asarray(picture.convert("RGB"))[..., ::-1]


@pytest.fixture
def without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (image_source, pillow_module):
        monkeypatch.setattr(module, "pillow_reads", lambda kind: False)


@pytest.mark.filterwarnings("ignore:Image size .* could be decompression bomb")
@pytest.mark.parametrize("name", FILES or ["none"])
def test_odd_picture_is_as_pillow_sees_it(shared: Path, name: str) -> None:
    path = shared / "data" / name
    theirs = _by_pillow(path)
    ours, _ = read_image(path)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(np.int16) - theirs).mean() <= MOST_DIFFERENT


@pytest.mark.parametrize("name", FILES or ["none"])
def test_without_pillow_it_is_the_same_or_one_line_with_the_cure(
    shared: Path, name: str, without_pillow: None
) -> None:
    path = shared / "data" / name
    extra = BY_PILLOW_ALONE.get(path.name) or ("pillow" if OLD and path.suffix in NOT_IN_OLD else "")
    if extra:
        with pytest.raises(SourceError, match=rf"{path.name}: .*: {install(extra)}, or save it as"):
            read_image(path)
        return
    ours, _ = read_image(path)
    assert np.abs(ours.astype(np.int16) - _by_pillow(path)).mean() <= MOST_DIFFERENT


def tiff(
    values: NDArray[Any], *, planes: bool = False, extra: int | None = None, orientation: int = 1, order: str = "<",
    differences: bool = False,
) -> bytes:  # fmt: skip
    """Write a TIFF as its definition says (TIFF 6.0), uncompressed; differences are deflated."""
    height, width, count = values.shape
    if differences:
        values = np.diff(values, axis=1, prepend=values.dtype.type(0))
    channels = [values[..., index] for index in range(count)] if planes else [values]
    strips = [part.astype(values.dtype.newbyteorder(order)).tobytes() for part in channels]
    strips = [zlib.compress(strip) for strip in strips] if differences else strips
    tags: list[tuple[int, str, list[int]]] = [
        (256, "H", [width]),
        (257, "H", [height]),
        (258, "H", [values.dtype.itemsize * 8] * count),
        (259, "H", [8 if differences else 1]),
        (262, "H", [2 if count > 2 else 1]),
        (273, "I", []),
        (274, "H", [orientation]),
        (277, "H", [count]),
        (278, "H", [height]),
        (279, "I", [len(strip) for strip in strips]),
        (284, "H", [2 if planes else 1]),
        *([(317, "H", [2])] if differences else []),
        *([] if extra is None else [(338, "H", [extra])]),
    ]
    outside_at = 8 + 2 + 12 * len(tags) + 4
    sizes = [struct.calcsize(form) * len(numbers or strips) for _, form, numbers in tags]
    first = outside_at + sum(size for size in sizes if size > 4)
    places = [first + sum(map(len, strips[:index])) for index in range(len(strips))]
    entries, outside = b"", b""
    for tag, form, numbers in tags:
        numbers = numbers or places
        packed = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        entries += struct.pack(order + "HHI", tag, {"H": 3, "I": 4}[form], len(numbers))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(order + "I", outside_at + len(outside))
        outside += packed if len(packed) > 4 else b""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(tags))
    return start + entries + bytes(4) + outside + b"".join(strips)


TIFFS = [
    (dtype, count, planes, extra, orientation, order)
    for dtype, count, planes, orientation, order in itertools.product(
        (np.uint8, np.uint16), (1, 2, 3, 4), (False, True), (1, 6), "<>"
    )
    for extra in ((0, 1, 2) if count in (2, 4) else (None,))
]


@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize(("dtype", "order"), list(itertools.product((np.uint8, np.uint16), "<>")))
def test_grey_and_alpha_written_as_differences(dtype: Any, order: str, planes: bool) -> None:
    values = np.random.default_rng(3).integers(0, np.iinfo(dtype).max + 1, (20, 30, 2)).astype(dtype)
    plain, differences = (
        decode_image(tiff(values, extra=2, order=order, planes=planes, differences=wanted), "a.tif")[0]
        for wanted in (False, True)
    )
    assert np.array_equal(differences, plain)


@pytest.mark.parametrize(("dtype", "count", "planes", "extra", "orientation", "order"), TIFFS)
def test_tiff_is_what_it_was_written_from(
    dtype: Any, count: int, planes: bool, extra: int | None, orientation: int, order: str
) -> None:
    most = np.iinfo(dtype).max
    values = np.random.default_rng(3).integers(0, most + 1, (20, 30, count)).astype(dtype)
    if extra == 1:  # multiplied in already: no colour is above its alpha
        values[..., :-1] = (values[..., :-1] * (values[..., -1:] / most)).astype(dtype)
    parts = values / most
    right = parts[..., 2::-1] if count > 2 else parts[..., :1].repeat(3, 2)
    if extra:
        alpha = parts[..., -1:]
        right = (right if extra == 1 else right * alpha) + 1 - alpha
    right = 255 * (np.rot90(right, -1) if orientation == 6 else right)
    image, _ = decode_image(tiff(values, planes=planes, extra=extra, orientation=orientation, order=order), "a.tif")
    assert image.shape == right.shape
    assert np.abs(image - right).max() <= 2


def test_tiff_of_planes_shows_nothing_of_the_picture_before(shared: Path, without_pillow: None) -> None:
    data = (shared / "data" / "odd_images_2" / "planar_16bit_premultiplied.tiff").read_bytes()
    seen = []
    for poison in (0, 0xAAAA, 0xFFFF):
        for _ in range(50):
            np.full((40, 100, 4), poison, np.uint16)
        seen.append(decode_image(data, "a.tif")[0])
    assert all(np.array_equal(one, seen[0]) for one in seen)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_exif_of_webp_and_png_is_applied(tmp_path: Path, suffix: str, channels: int, orientation: int) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(4).integers(0, 256, (20, 30, channels), np.uint8)
    exif = image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    image.fromarray(values).save(path, exif=exif, **({"lossless": True, "exact": True} if suffix == ".webp" else {}))
    ours, theirs = read_image(path)[0], _by_pillow(path)
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("maxval", [1, 7, 100, 254, 255, 256, 1023, 40000, 65535])
@pytest.mark.parametrize("form", ["P2", "P3", "P5", "P6"])
def test_pnm_is_scaled_by_its_maxval(form: str, maxval: int) -> None:
    values = np.random.default_rng(5).integers(0, maxval + 1, (4, 6, 1 if form in ("P2", "P5") else 3))
    head = f"{form}\n6 4 # what\n{maxval}\n".encode()
    binary = values.astype(">u2" if maxval > 255 else "u1").tobytes()
    data = head + (" ".join(map(str, values.ravel())).encode() + b"\n" if form in ("P2", "P3") else binary)
    image, _ = decode_image(data, "a.pnm")
    assert np.abs(image - values[..., ::-1].repeat(3 // values.shape[2], 2) * (255 / maxval)).max() <= 1


@pytest.mark.parametrize("maxval", [1, 255, 1000, 65535])
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_pam_is_read(depth: int, maxval: int) -> None:
    values = np.random.default_rng(8).integers(0, maxval + 1, (4, 6, depth))
    head = f"P7\nWIDTH 6\nHEIGHT 4\n# what\nDEPTH {depth}\nMAXVAL {maxval}\nTUPLTYPE X\nENDHDR\n".encode()
    data = head + values.astype(">u2" if maxval > 255 else "u1").tobytes()
    parts = values / maxval
    right = parts[..., 2::-1] if depth > 2 else parts[..., :1].repeat(3, 2)
    right = right * parts[..., -1:] + 1 - parts[..., -1:] if depth in (2, 4) else right
    assert np.abs(decode_image(data, "a.pam")[0] - 255 * right).max() <= 2
    with pytest.raises(SourceError, match=r"a\.pam: 6x4 pixels are more than the limit of 20"):
        decode_image(data, "a.pam", max_pixels=20)
    with pytest.raises(SourceError, match=r"a\.pam: this PAM is damaged"):
        decode_image(data[:-1], "a.pam")


BMP_MASKS = [
    (16, 40, (0x7C00, 0x3E0, 0x1F, 0)),
    (16, 40, (0xF800, 0x7E0, 0x1F, 0)),
    (16, 56, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    (16, 108, (0xF00, 0xF0, 0xF, 0xF000)),
    (32, 40, (0xFF, 0xFF00, 0xFF0000, 0)),
    (32, 52, (0xFF000000, 0xFF0000, 0xFF00, 0)),
    (32, 56, (0x3FF00000, 0xFFC00, 0x3FF, 0xC0000000)),
    (32, 124, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
]


@pytest.mark.parametrize("height", [5, -5])
@pytest.mark.parametrize(("bits", "length", "masks"), BMP_MASKS)
def test_bmp_has_its_channels_where_the_masks_say(
    bits: int, length: int, masks: tuple[int, int, int, int], height: int
) -> None:
    values = np.random.default_rng(6).integers(0, 1 << bits, (5, 7)).astype("<u2" if bits == 16 else "<u4")
    pitch = (7 * bits // 8 + 3) // 4 * 4
    rows = [row.tobytes().ljust(pitch, b"\0") for row in values]
    head = struct.pack("<IiiHHIIIIII", length, 7, height, 1, bits, 3, 0, 0, 0, 0, 0) + struct.pack("<4I", *masks)
    head = head.ljust(length, b"\0")[: max(length, 52)]
    data = struct.pack("<2sIII", b"BM", 0, 0, 14 + len(head)) + head + b"".join(rows)
    parts = [(values & mask).astype(float) / mask if mask else None for mask in masks]
    right = np.dstack([parts[2], parts[1], parts[0]])
    if parts[3] is not None:
        right = right * parts[3][..., np.newaxis] + 1 - parts[3][..., np.newaxis]
    image, _ = decode_image(data, "a.bmp")
    assert np.abs(image - 255 * (right if height < 0 else right[::-1])).max() <= 2


def test_jpeg_with_junk_between_segments_is_held_against_the_limit_before_decoding(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (shared / "data" / "odd_images_2" / "junk_between_segments.jpg").read_bytes()
    assert decode_image(data, "a.jpg")[1] == ()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(SourceError, match=r"a\.jpg: 1024x768 pixels are more than the limit of 1000"):
        decode_image(data, "a.jpg", max_pixels=1000)


@pytest.mark.parametrize("between", [b"\0", b"\xff\x00\x41", b"\xff\xd3", b"\xff\xff\x01", bytes(3000)])
def test_jpeg_size_is_found_behind_whatever_libjpeg_passes_over(between: bytes) -> None:
    data = cv2.imencode(".jpg", np.zeros((8, 9, 3), np.uint8))[1].tobytes()
    header = read_header(data[:20] + between + data[20:])
    assert header is not None
    assert (header.size_wh, header.whole) == ((9, 8), True)


def test_jpeg_that_says_no_size_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(SourceError, match=r"a\.jpg: this JPEG does not say its size where it must"):
        decode_image(b"\xff\xd8\xff\xe0\x00\x02\xff\xd9", "a.jpg")


RARE = {
    "a.tga": "TGA",
    "a.pcx": "PCX",
    "a.sgi": "SGI",
    "a.dds": "DDS",
    "a.ico": "ICO",
    "a.qoi": "QOI",
}


@pytest.mark.parametrize("suffix", ["", ".mp4", "same"])
@pytest.mark.parametrize("name", sorted(RARE))
def test_picture_that_opencv_does_not_read_is_no_video(
    tmp_path: Path, name: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    values = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / name
    try:
        image.fromarray(values).save(path, **({"sizes": [(64, 64)]} if name == "a.ico" else {}))
    except (KeyError, ValueError):
        pytest.skip("this Pillow does not write it")
    if suffix != "same":
        path = path.rename(tmp_path / f"b{suffix}")
    assert is_picture(str(path))
    with open_source(path) as source:
        assert np.array_equal(next(iter(source)).image, values[..., ::-1])
    with pytest.raises(SourceError, match="is a picture"):
        Video(path)
    for module in (image_source, pillow_module):
        monkeypatch.setattr(module, "pillow_reads", lambda kind: False)
    with pytest.raises(SourceError, match=rf"OpenCV does not read .*{RARE[name]}.*: pip install pillow, or"):
        read_image(path)


@pytest.mark.parametrize("suffix", RARE_SUFFIXES)
def test_a_rare_ending_is_a_picture_whatever_is_inside(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"\0" * 100)
    with pytest.raises(SourceError, match=f"a{suffix}: "), open_source(path) as source:
        next(iter(source))


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize(("largest", "told"), [(4095, True), (1023, True), (4096, False), (65535, False), (0, False)])
def test_12_bits_in_16_are_told(tmp_path: Path, suffix: str, largest: int, told: bool) -> None:
    values = np.linspace(0, largest, 300).astype(np.uint16).reshape(10, 30)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), values)
    _, warnings = read_image(path)
    assert any("no value above 4095" in warning for warning in warnings) == told
    cv2.imwrite(str(path), (values >> 8).astype(np.uint8))
    assert not read_image(path)[1]
