"""Colour profiles and resolutions go from a picture to what is made of it; Pillow judges."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from cvmask.cli.main import main
from cvmask.formats.metadata import NO_METADATA, Metadata, embed
from cvmask.streams.sinks.image_sink import SUFFIXES, encode_image
from cvmask.streams.sources import open_source
from cvmask.streams.sources.image_source import decode_image
from cvmask.streams.sources.picture_metadata import read_metadata

PICTURE = np.random.default_rng(3).integers(0, 255, (40, 60, 3), np.uint8)


def profile(space: bytes = b"RGB ", length: int = 600) -> bytes:
    """Make what a file may hold as a profile: its header is true."""
    head = struct.pack(">I4sI4s4s4s", length, b"none", 0x04000000, b"mntr", space, b"XYZ ")
    return head + bytes(12) + b"acsp" + np.random.default_rng(4).bytes(length - 40)


P3 = Metadata(profile(), (300.0, 300.0))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_embedded_is_read_again_and_costs_no_pixel(suffix: str, channels: int) -> None:
    image = np.dstack([PICTURE, PICTURE[..., :1]])[..., :channels].copy()
    data = encode_image(suffix, image, P3)
    bare = encode_image(suffix, image)
    assert data is not None
    assert bare is not None
    assert np.array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED),
        cv2.imdecode(np.frombuffer(bare, np.uint8), cv2.IMREAD_UNCHANGED),
    )
    found = read_metadata(data)
    assert found.icc == (b"" if suffix == ".bmp" else P3.icc)
    assert found.dpi == pytest.approx((300, 300), abs=0.02)
    assert np.array_equal(decode_image(data, "a")[0], decode_image(bare, "b")[0])


@pytest.mark.parametrize("quality", [80, 101])  # lossy with another chunk for alpha, and lossless
def test_webp_of_either_kind_is_whole_for_pillow(quality: int) -> None:
    pillow = pytest.importorskip("PIL.Image")
    image = np.dstack([PICTURE, PICTURE[..., :1]])
    for one in (PICTURE, image):
        bare = cv2.imencode(".webp", one, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        with pillow.open(io.BytesIO(bare)) as first, pillow.open(io.BytesIO(embed(bare, P3))) as second:
            assert np.array_equal(np.asarray(first), np.asarray(second))
            assert second.info["icc_profile"] == P3.icc
            assert second.getexif()[282] == 300


def test_a_profile_of_many_jpeg_segments_is_whole_for_pillow() -> None:
    pillow = pytest.importorskip("PIL.Image")
    large = Metadata(profile(length=200_000))
    data = encode_image(".jpg", PICTURE, large)
    assert data is not None
    with pillow.open(io.BytesIO(data)) as opened:
        assert opened.info["icc_profile"] == large.icc
    assert read_metadata(data) == large


def test_what_is_no_profile_of_rgb_is_left_out() -> None:
    for wrong in (profile(b"CMYK"), profile(b"GRAY"), P3.icc[:-1], b"\0" * 200, b""):
        data = encode_image(".png", PICTURE, Metadata(wrong))
        assert data is not None
        assert read_metadata(data) == NO_METADATA


def test_damage_and_bombs_give_nothing() -> None:
    data = encode_image(".png", PICTURE, Metadata(bytes(200 << 20)))
    assert data is not None
    assert read_metadata(data) == NO_METADATA  # 200 MB of zeros in 200 kB
    for suffix in SUFFIXES:
        whole = encode_image(suffix, PICTURE, P3)
        assert whole is not None
        for cut in range(0, min(len(whole), 900), 7):
            read_metadata(whole[:cut])
            read_metadata(whole[:cut] + b"\xff" * 8 + whole[cut + 8 :])


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_pictures_by_pillow_keep_both_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    pillow = pytest.importorskip("PIL.Image")
    exif = pillow.Exif()
    exif[274] = orientation
    if suffix == ".webp":
        exif[282], exif[283], exif[296] = 200.0, 100.0, 2
    path = tmp_path / f"a{suffix}"
    given: dict[str, Any] = {"icc_profile": P3.icc, "dpi": (200, 100)}
    pillow.fromarray(PICTURE[..., ::-1]).save(path, exif=exif, **given)
    with open_source(path) as source:
        frame = next(iter(source))
    assert frame.metadata.icc == P3.icc
    assert frame.metadata.dpi == pytest.approx((100, 200) if orientation == 6 else (200, 100), abs=0.02)


def test_heif_keeps_its_profile(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    pillow = pytest.importorskip("PIL.Image")
    heif.from_pillow(pillow.fromarray(PICTURE)).save(tmp_path / "a.heic", icc_profile=P3.icc)
    assert read_metadata((tmp_path / "a.heic").read_bytes()).icc == P3.icc


def test_results_have_the_colours_of_their_pictures(work: Path) -> None:
    pillow = pytest.importorskip("PIL.Image")
    from cvmask import scenes

    scene = scenes.make_scene(7, (160, 128), objects=4).image
    for name in ("a.png", "b.jpg", "c.webp", "d.tiff"):
        data = encode_image(Path(name).suffix, scene, P3)
        assert data is not None
        Path(name).write_bytes(data)
    names = ["a.png", "b.jpg", "c.webp", "d.tiff"]
    assert main(["predict", "-m", "shapes", *names, "-o", "out", "--save", "crops,cutouts"]) == 0
    assert main(["edit", "-m", "shapes", *names, "-o", "edited", "--effect", "remove-background"]) == 0
    results = [path for path in Path().glob("*/**/*") if path.suffix in SUFFIXES]
    assert {path.parent.name for path in results} == {"out", "crops", "cutouts", "edited"}
    for path in results:
        with pillow.open(path) as opened:
            assert opened.info.get("icc_profile") == P3.icc, path
            dpi = opened.info.get("dpi") or (opened.getexif()[282], opened.getexif()[283])
            assert tuple(map(float, dpi)) == pytest.approx((300, 300), abs=0.02), path
