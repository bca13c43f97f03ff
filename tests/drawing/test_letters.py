"""Letters of labels: what OpenCV 5 draws, what Pillow draws for OpenCV 4, and what is said where nobody can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.drawing import letters
from cvmask.drawing.captions import make_plate
from cvmask.drawing.letters import HAS_LETTERS, drawable, to_ascii, undrawn_note


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Fonts are found anew by each test, and by whoever comes after it."""
    letters._fonts.cache_clear()
    letters._font_with.cache_clear()
    yield
    letters._fonts.cache_clear()
    letters._font_with.cache_clear()


@pytest.fixture
def no_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)


@pytest.mark.parametrize(
    ("text", "ascii_text"),
    [
        ("dog", "dog"),
        ("café Ångström", "cafe Angstrom"),
        ("Straße", "Strasse"),
        ("кот", "???"),
        ("a\tb", "a?b"),
    ],
)
def test_to_ascii(text: str, ascii_text: str) -> None:
    assert to_ascii(text) == ascii_text


@pytest.mark.usefixtures("no_pillow")
def test_opencv_5_draws_the_letters_of_labels_and_opencv_4_what_it_has() -> None:
    assert drawable("dog") == "dog"
    assert drawable("cafe\u0301 кот 人") == ("caf\u00e9 кот 人" if HAS_LETTERS else "cafe ??? ?")
    assert drawable("a\tb") == "a?b"
    assert drawable("a\u200f\u200bb") == "ab"


@pytest.mark.parametrize("word", ["Ångström", "кот", "Ωμέγα", "人猫", "日本語", "한국어", "שלום"])
@pytest.mark.parametrize("height_px", [8, 46])
def test_words_beyond_ascii_are_drawn_in_full(word: str, height_px: int) -> None:
    if drawable(word) != word:
        pytest.skip("needs OpenCV 5, or Pillow and a font with these letters")
    plate, unknown = make_plate(word, (3000, 4000), height_px), make_plate("?" * len(word), (3000, 4000), height_px)
    assert plate is not None
    assert unknown is not None
    assert plate.size_wh[1] == unknown.size_wh[1], "as high as any other plate"
    assert plate.ink.shape != unknown.ink.shape or (plate.ink != unknown.ink).any()
    assert plate.ink.max() > 200
    assert not plate.ink[:, -1].any()
    letters = plate.ink[: len(plate.ink) - 1].any(axis=1)
    assert letters.sum() > 0.6 * height_px


@pytest.mark.skipif(HAS_LETTERS, reason="OpenCV 5 draws letters without Pillow")
def test_pillow_draws_with_a_font_that_has_all_letters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("PIL.ImageFont")
    font = letters._font_of("кот")
    if font is None:
        pytest.skip("no font of the system has Cyrillic letters")
    (tmp_path / "a damaged sans.ttf").write_bytes(b"no font")
    (tmp_path / "b sans.ttf").write_bytes(font.read_bytes())
    monkeypatch.setattr(letters, "_font_folders", lambda: [tmp_path, tmp_path / "missing"])
    letters._fonts.cache_clear()
    letters._font_with.cache_clear()
    assert drawable("чёрный кот") == "чёрный кот"
    assert letters._font_of("кот") == tmp_path / "b sans.ttf"
    assert drawable("\ue000кот") == "?кот", "what no font has"
    plain, other = (make_plate(text, (480, 640)) for text in ("чёрный кот 0.98", "??? ??? 0.98"))
    assert plain is not None
    assert other is not None
    assert plain.ink.shape != other.ink.shape


@pytest.mark.usefixtures("no_pillow")
def test_a_label_that_cannot_be_drawn_is_named_with_what_would_help() -> None:
    assert undrawn_note(None) is None
    assert undrawn_note(["cup", "what?", "café"]) is None
    note = undrawn_note(["cup", "café au лайт", "кот"])
    if HAS_LETTERS:
        assert note is None
    else:
        assert note == (
            f"OpenCV {cv2.__version__} cannot draw the label 'café au лайт': 'cafe au ????' is drawn; "
            "pip install pillow, or opencv-python 5 would help"
        )


def test_words_of_hebrew_are_written_from_right_to_left() -> None:
    """Shin has three strokes that end at its foot, a final mem is a closed square: the words begin at the right."""
    if drawable("שלום") != "שלום":
        pytest.skip("needs OpenCV 5, or Pillow and a font with these letters")
    word, shin, mem = (letters.write_words(text, 60)[0] for text in ("שלום", "ש", "ם"))

    def has(ink: NDArray[np.uint8], letter: NDArray[np.uint8]) -> float:
        across = letter[:, letter.any(axis=0)]
        return float(cv2.matchTemplate(ink, across, cv2.TM_CCOEFF_NORMED).max())

    half = word.shape[1] // 2
    assert has(word[:, half:], shin) > has(word[:, :half], shin)
    assert has(word[:, :half], mem) > has(word[:, half:], mem)


def test_right_to_left_words_stand_in_the_order_they_are_read() -> None:
    words = letters._in_visual_order(["cat", "א", "ב", "0.98", "ג"], letters._is_right_to_left)
    assert words == ["cat", "ב", "א", "0.98", "ג"]
    assert letters._turned("אבג12") == "גבא12"
    assert letters._turned("שָׁב") == "ב" + "שָׁ"
    assert letters._turned("кот") == "кот"
