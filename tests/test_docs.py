"""The pages of docs/ name everything that there is; `scripts/docs` tells whether links and docstrings are sound."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from cvmask.drawing.effects import EFFECTS
from cvmask.formats.saver import FORMATS

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_every_module_is_in_the_api_reference() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md"))
    documented = set(re.findall(r"^::: cvmask\.(\w+)$", pages, re.MULTILINE))
    there = {
        path.stem for path in (ROOT / "cvmask").iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert documented == {name for name in there if not name.startswith("_")} - {"cli"}


def test_the_page_of_the_command_line_is_that_of_the_parsers() -> None:
    made = runpy.run_path(str(ROOT / "scripts" / "dev" / "command_line.py"))["page"]()
    assert read("command-line.md") == made, "run scripts/run command_line"


def test_every_format_has_a_page() -> None:
    rows = dict(re.findall(r"^\| \[`([\w-]+)`\]\(([\w.]+)", read("formats/index.md"), re.MULTILINE))
    assert list(rows) == list(FORMATS)
    assert {path.name for path in (DOCS / "formats").iterdir()} == {*rows.values(), "index.md"}


@pytest.mark.parametrize("name", [*EFFECTS, "replace-background", "color-by class", "color-by instance", "colors FILE"])
def test_the_gallery_shows_everything(name: str) -> None:
    assert f"`--effect {name}" in read("gallery.md") or f"`--{name}`" in read("gallery.md")


def test_the_pictures_of_the_gallery_are_there_and_small() -> None:
    named = set(re.findall(r"\((pictures/gallery/\S+)\)", read("gallery.md")))
    there = {path.relative_to(DOCS).as_posix() for path in (DOCS / "pictures" / "gallery").iterdir()}
    assert named == there
    assert sum((DOCS / name).stat().st_size for name in named) < 1_500_000
