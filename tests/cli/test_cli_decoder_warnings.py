"""What decoders print about a picture is told with its name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from cvmask.cli.main import main
from cvmask.system.process import DecoderWarnings


def test_damage_that_only_a_decoder_sees_is_told_with_the_name_of_the_picture(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    (work / "in").mkdir()
    (work / "in" / "a.jpg").write_bytes(data)
    # The marker of the end is there: nothing but the decoder can know that half of the data is not.
    (work / "in" / "b.jpg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    (work / "in" / "c.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes()[:2000])
    assert main(["predict", "-m", "shapes", "--size", "64", "in", "-o", "out"]) == 3
    damaged, refused = capfd.readouterr().err.splitlines()
    assert damaged.startswith(f"cvmask: warning: {Path('in', 'b.jpg')}: Corrupt JPEG data")
    assert refused.startswith(f"cvmask: {Path('in', 'c.png')}: this PNG is damaged")
    assert sorted(os.listdir("out")) == ["a.jpg", "b.jpg"]


def test_a_colour_profile_that_does_not_fit_is_no_warning(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes()
    # An RGB profile in a grey picture: a signature and a colour space are all that libpng looks at.
    profile = struct.pack(">I8x4s4s4s", 132, b"mntr", b"RGB ", b"XYZ ").ljust(36, b"\0") + b"acsp" + bytes(92)
    data = b"ICC Profile\0\0" + zlib.compress(profile)
    chunk = struct.pack(">I", len(data)) + b"iCCP" + data + struct.pack(">I", zlib.crc32(b"iCCP" + data))
    (work / "grey.png").write_bytes(picture[:33] + chunk + picture[33:])
    with DecoderWarnings() as heard:
        cv2.imread("grey.png")
        said = heard.take()
    if not said:
        pytest.skip("this OpenCV's libpng says nothing about profiles")
    assert main(["predict", "-m", "shapes", "--size", "64", "grey.png", "-o", "out/"]) == 0
    assert capfd.readouterr().err == ""


def test_heard_gives_lines_and_lets_stderr_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    with DecoderWarnings() as heard:
        os.write(2, b"one\n")
        assert heard.take() == ["one"]
        os.write(2, b"two\nthree\n")
    assert heard.take() == ["two", "three"]
    os.write(2, b"four\n")
    assert capfd.readouterr().err == "four\n"


def test_heard_gives_stderr_back_after_an_interruption(capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with DecoderWarnings():
            os.write(2, b"lost\n")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_heard_does_without_a_place_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.tempdir", "/nowhere")
        with DecoderWarnings() as heard:
            os.write(2, b"one\n")
    assert heard.take() == []
    assert capfd.readouterr().err == "one\n"
