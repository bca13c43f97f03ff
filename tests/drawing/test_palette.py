"""Labels and colours are read as the tutorials read them, and the default colours are distinct."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cvmask.drawing.palette import distinct_colors, read_colors
from cvmask.errors import CvmaskError
from cvmask.models.labels import read_labels
from cvmask.system import folders

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file.txt"
    path.write_bytes(content)
    return path


def test_bundled_labels_are_90_with_coco_ids_minus_1() -> None:
    labels = read_labels(folders.path("mscoco_labels.names"))
    assert len(labels) == len(set(labels)) == 90
    assert [labels[i] for i in (0, 2, 12, 16, 43, 66, 89)] == [
        "person", "car", "stop sign", "cat", "bottle", "dining table", "toothbrush",
    ]  # fmt: skip


def test_read_labels_takes_windows_line_ends_a_bom_and_other_alphabets(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufeffчашка\r\ntraffic light \r\n\r\n".encode())
    assert read_labels(file) == ["чашка", "traffic light"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "one class name per line, got an empty file"),
        (b"cat\n\ndog\n", "line 2 is empty"),
        (b"\xff\xfe\x00", "must be UTF-8 text, got byte 0xff"),
    ],
)
def test_read_labels_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(CvmaskError, match=message):
        read_labels(write(tmp_path, content))


def test_read_labels_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CvmaskError, match=r"absent\.names: cannot be read: No such file"):
        read_labels(tmp_path / "absent.names")


def test_read_colors_gives_the_numbers_in_the_order_of_the_file(tmp_path: Path) -> None:
    colors = read_colors(write(tmp_path, b"255.0 0.0 127.6\n1,2, 3\n"))
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[255, 0, 128], [1, 2, 3]]


@pytest.mark.parametrize("line", ["1 2", "1 2 3 4", "1 2 256", "-1 2 3", "red", "1 2 nan"])
def test_read_colors_names_the_line_that_is_no_color(tmp_path: Path, line: str) -> None:
    with pytest.raises(CvmaskError, match="line 2: a colour is three numbers from 0 to 255"):
        read_colors(write(tmp_path, f"0 0 0\n{line}\n".encode()))


def test_bundled_colors_are_what_the_script_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(Path, "write_text", lambda self, text, **_: written.append(text))
    runpy.run_path(str(ROOT / "scripts" / "dev" / "make_colors.py"), run_name="__main__")
    assert written == [folders.path("colors.txt").read_text(encoding="utf-8")]


def test_bundled_colors_are_90_different_ones() -> None:
    colors = read_colors(folders.path("colors.txt"))
    assert colors.shape == (90, 3)
    assert len(np.unique(colors, axis=0)) == 90


def test_distinct_colors_start_the_same_whatever_the_count() -> None:
    assert np.array_equal(distinct_colors(200)[:7], distinct_colors(7))


def test_distinct_colors_keep_apart() -> None:
    colors = distinct_colors(20).astype(int)
    apart = np.abs(colors[:, None] - colors[None]).sum(axis=2) + 999 * np.eye(20, dtype=int)
    assert apart.min() >= 50


def seen_by_deuteranopes(bgr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give OKLab of what they see, after Machado and others 2009, written apart from the palette's own."""
    srgb = bgr[:, ::-1] / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    red, green, blue = linear.T
    seen = np.clip(
        [
            0.367322 * red + 0.860646 * green - 0.227968 * blue,
            0.280085 * red + 0.672501 * green + 0.047413 * blue,
            -0.011820 * red + 0.042940 * green + 0.968881 * blue,
        ],
        0,
        1,
    )
    red, green, blue = seen
    long, medium, short = np.cbrt(
        [
            0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue,
            0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue,
            0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue,
        ]
    )
    return np.stack(
        [
            0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short,
            1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short,
            0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short,
        ],
        axis=1,
    )


@pytest.mark.parametrize(("count", "least"), [(8, 0.16), (16, 0.08), (20, 0.06), (90, 0.025)])
def test_deuteranopes_tell_the_first_colors_apart(count: int, least: float) -> None:
    lab = seen_by_deuteranopes(distinct_colors(count).astype(np.float64))
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 9 * np.eye(count)
    assert apart.min() >= least


def test_distinct_colors_repeat_after_256_and_are_the_callers_own() -> None:
    colors = distinct_colors(300)
    assert len(np.unique(colors[:256], axis=0)) == 256
    assert np.array_equal(colors[256:], colors[:44])
    colors[:] = 0
    assert distinct_colors(1).any()
