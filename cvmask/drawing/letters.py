"""Render words: ASCII in OpenCV's fonts, other letters with OpenCV 5, or with Pillow and a system font."""

from __future__ import annotations

import functools
import itertools
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

HAS_LETTERS = hasattr(cv2, "FontFace")  # OpenCV 5: letters of most languages; OpenCV 4 has ASCII alone
_FONT_FACE = "sans"
_WEIGHT = 600
_PILLOW_CAPITAL_SHARE = 0.72  # of a font's size: between 0.70 and 0.74 in most fonts without serifs
_MOST_FONTS = 1000  # how many font files are searched for one with all letters of a text
_NOT_A_LETTER = "\uffff"  # no font has this character: it is drawn as the sign for a missing one


def drawable(text: str) -> str:
    """Return a text in the letters that can be drawn here; others become ``?``, and accents may be dropped.

    OpenCV 5 draws the letters of most languages. OpenCV 4 draws ASCII; other texts are drawn with Pillow,
    if it is installed and a font of the system has all their letters.
    """
    # What only directs other letters, as the marks between Hebrew and Latin ones do, is not drawn.
    composed = "".join(x for x in unicodedata.normalize("NFC", text) if unicodedata.category(x) != "Cf")
    printable = "".join(letter if letter.isprintable() else "?" for letter in composed)
    if printable.isascii() or HAS_LETTERS or _font_of(printable) is not None:
        return printable
    return to_ascii(printable)


def to_ascii(text: str) -> str:
    """Return a text in ASCII, as OpenCV 4's fonts need: accents are dropped, other letters become ``?``."""
    plain = unicodedata.normalize("NFKD", text.replace("ß", "ss"))
    without_accents = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in without_accents)


def undrawn_note(labels: Sequence[str] | None) -> str | None:
    """Return a note on a label that cannot be drawn here, with the cure; None if all can be drawn."""
    for class_id, label in enumerate(labels or ()):
        text = drawable(label)
        if text.count("?") > sum(x == "?" or not x.isprintable() for x in label):
            shown = text if text.strip("? ") else f"class {class_id}"
            cure = "a font that has its letters" if _has_pillow() else "pip install pillow, or opencv-python 5"
            return f"OpenCV {cv2.__version__} cannot draw the label {label!r}: {shown!r} is drawn; {cure} would help"
    return None


def write_words(text: str, height_px: int) -> list[NDArray[np.uint8]]:
    """Render the words of a text, white on black, all in one font.

    Parameters
    ----------
    text
        In letters that are `drawable`.
    height_px
        Height of capitals in pixels.

    Returns
    -------
    A picture of shape (height, width), 0 to 255, for each word: how much of each pixel it covers. The line that
    letters stand on is half a capital above the bottom, and there may be room for accents at the top.
    """
    words = _in_visual_order(text.split(), _is_right_to_left)
    if HAS_LETTERS and not text.isascii():
        return [_write_letters(word, height_px) for word in words]
    path = None if text.isascii() else _font_of(text)
    if path is not None:
        return [_write_with_pillow(word, height_px, path) for word in words]
    return [_write_ascii(to_ascii(word), height_px) for word in words]


def _in_visual_order(parts: Iterable[str], is_right_to_left: Callable[[str], bool]) -> list[str]:
    """Put parts that are read from right to left, and follow each other, into the order from left to right."""
    groups = ((backwards, list(group)) for backwards, group in itertools.groupby(parts, is_right_to_left))
    return [part for backwards, group in groups for part in (reversed(group) if backwards else group)]


def _is_right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def _turned(word: str) -> str:
    """Return a word for a renderer that writes only from left to right: Hebrew and Arabic letters are reversed."""
    with_marks: list[str] = []
    for letter in word:
        if with_marks and unicodedata.combining(letter):
            with_marks[-1] += letter
        else:
            with_marks.append(letter)
    return "".join(_in_visual_order(with_marks, _is_right_to_left))


# Writing a word takes longer than all the rest of a plate, and a video repeats its words.
@functools.lru_cache(maxsize=1024)
def _write_ascii(word: str, height_px: int) -> NDArray[np.uint8]:
    thickness = max(1, round(height_px / 9))
    # The double strokes of one font make small letters strong, and large ones blunt.
    font = cv2.FONT_HERSHEY_DUPLEX if thickness == 1 else cv2.FONT_HERSHEY_SIMPLEX
    scale = height_px / _capital_height(font)
    (width, _), _ = cv2.getTextSize(word, font, scale, thickness)
    ink = np.zeros((round(height_px * 1.5), width + thickness), dtype=np.uint8)
    cv2.putText(ink, word, (thickness // 2, height_px), font, scale, (255,), thickness, cv2.LINE_AA)
    return ink


@functools.lru_cache(maxsize=1024)
def _write_letters(word: str, height_px: int) -> NDArray[np.uint8]:
    word = _turned(word)
    font, above = cv2.FontFace(_FONT_FACE), _above_px(height_px)
    size = max(1, round(height_px / _capital_share()))
    _, _, width, _ = cv2.getTextSize((0, 0), word, (0, 0), font, size, _WEIGHT)
    ink = np.zeros((above + round(height_px * 1.5), width + 2), dtype=np.uint8)
    cv2.putText(ink, word, (1, above + height_px), (255,), font, size, _WEIGHT)
    return ink


def _above_px(height_px: int) -> int:
    """Room for accents above a capital: the margin of a plate."""
    return max(2, round(height_px * 0.4))


@functools.lru_cache(maxsize=1)
def _capital_share() -> float:
    """Measure a capital of OpenCV 5's font, in parts of its size."""
    canvas = np.zeros((300, 300), dtype=np.uint8)
    cv2.putText(canvas, "H", (20, 280), (255,), cv2.FontFace(_FONT_FACE), 200, _WEIGHT)
    return int(canvas.any(axis=1).sum()) / 200


@functools.lru_cache(maxsize=2)
def _capital_height(font: int) -> float:
    """Measure a capital at scale 1: OpenCV 4 has stroke fonts, OpenCV 5 outline fonts of another size."""
    canvas = np.zeros((300, 300), dtype=np.uint8)
    cv2.putText(canvas, "H", (20, 280), font, 8, (255,), 1, cv2.LINE_AA)
    return int(canvas.any(axis=1).sum()) / 8


@functools.lru_cache(maxsize=1024)
def _write_with_pillow(word: str, height_px: int, path: Path) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, features

    if word.isascii() and not _has_all(path, frozenset("H" + word)):  # some fonts have the letters of only one script
        return _write_ascii(word, height_px)
    font, above = _font(path, max(1, round(height_px / _PILLOW_CAPITAL_SHARE))), _above_px(height_px)
    word = word if features.check("raqm") else _turned(word)
    left, _, right, _ = font.getbbox(word, anchor="ls")
    ink = Image.new("L", (right - left + 2, above + round(height_px * 1.5)))
    ImageDraw.Draw(ink).text((1 - left, above + height_px), word, fill=255, font=font, anchor="ls")
    return np.array(ink)


@functools.lru_cache(maxsize=32)
def _font(path: Path, size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.truetype(str(path), size)


def _has_pillow() -> bool:
    try:
        from PIL import ImageFont
    except ImportError:
        return False
    return hasattr(ImageFont, "truetype")


def _font_of(text: str) -> Path | None:
    """Find a system font for a text; None without Pillow, or without a font that has its letters.

    The best has all letters; otherwise a font with all words beyond ASCII is used.
    """
    if not _has_pillow():
        return None
    words = text.split()
    return _font_with(frozenset("".join(words)), frozenset("".join(word for word in words if not word.isascii())))


@functools.lru_cache(maxsize=256)
def _font_with(letters: frozenset[str], at_least: frozenset[str]) -> Path | None:
    possible = [path for path in _fonts() if _has_all(path, at_least)]
    return next((path for path in possible if _has_all(path, letters)), possible[0] if possible else None)


@functools.lru_cache(maxsize=4096)
def _has_all(path: Path, letters: frozenset[str]) -> bool:
    def shape_of(letter: str) -> tuple[tuple[int, int], bytes]:
        mask = font.getmask(letter)
        return mask.size, bytes(mask)

    try:
        font = _font(path, 24)
        missing = shape_of(_NOT_A_LETTER)
        return all(shape_of(letter) != missing for letter in letters)
    except (OSError, ValueError):  # a file that is damaged, or a font of another kind
        return False


@functools.lru_cache(maxsize=1)
def _fonts() -> tuple[Path, ...]:
    """List the fonts of the system: strong upright ones without serifs first."""

    def rank(path: Path) -> tuple[object, ...]:
        name = path.stem.lower()
        style = sum(word in name for word in ("italic", "oblique", "light", "thin", "cond", "mono", "serif", "extra"))
        return "emoji" in name or "symbol" in name, style, "bold" not in name, "sans" not in name, name

    found = [path for folder in _font_folders() for path in folder.rglob("*.[to]t[fc]")]
    return tuple(sorted(found, key=rank)[:_MOST_FONTS])


def _font_folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
    elif sys.platform == "darwin":
        yield from (home / "Library/Fonts", Path("/Library/Fonts"), Path("/System/Library/Fonts"))
    else:
        yield from (home / ".local/share/fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts"))
