"""Make docs/gallery.md and its pictures: every drawing style, colour mode and effect, on a made-up scene."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

import cvmask
from cvmask import scenes
from cvmask.drawing.effects import EFFECTS, replace_background
from cvmask.drawing.palette import distinct_colors
from cvmask.formats.images import cut_out, encode_palette_png, to_class_map, to_instance_map

Picture = NDArray[np.uint8]
DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZE_WH = (400, 300)
SCENE_SEED, SKY_SEED = 104, 40
JPEG_QUALITY = 82
COLUMNS = 2

STYLES: dict[str, dict[str, Any]] = {
    "": {},
    "--no-boxes": {"boxes": False},
    "--no-labels": {"captions": False},
    "--no-masks": {"masks": False, "contours": False},
    "--no-boxes --no-labels": {"boxes": False, "captions": False},
    "--opacity 0.9": {"opacity": 0.9},
    "--opacity 0 --no-boxes": {"opacity": 0, "boxes": False},
    "without the score": {"scores": False},
    "without the outline": {"contours": False, "boxes": False},
    "boxes alone": {"masks": False, "contours": False, "captions": False},
}
COLOR_MODES: dict[str, dict[str, Any]] = {
    "--color-by class": {"color_by": "class"},
    "--color-by instance": {"color_by": "instance"},
    "--colors FILE": {"colors": [[60, 60, 230], [240, 240, 240]]},
}
EFFECT_OPTIONS: dict[str, list[dict[str, Any]]] = {
    "blur-background": [{}, {"strength": 2.5}],
    "spotlight": [{}, {"feather_px": 0}],
    "pixelate-objects": [{}, {"block_px": 24}],
}


class Item(NamedTuple):
    """One picture of the gallery: what a person calls it, the code that makes it, and itself."""

    title: str
    code: str
    picture: Picture


def main() -> None:
    model = cvmask.load("shapes", score_threshold=0.7)
    frame = scenes.make_scene(SCENE_SEED, SIZE_WH, objects=7).image
    found = model.detect(frame)
    for old in (DOCS / "pictures" / "gallery").glob("*.jpg"):
        old.unlink()
    text = [INTRO]
    for title, make in SECTIONS.items():
        items = list(make(frame, found, model.labels))
        text += [f"## {title}\n", *write(title.split()[0].lower(), items)]
    (DOCS / "gallery.md").write_text("\n".join(text), encoding="utf-8")
    total = sum(path.stat().st_size for path in (DOCS / "pictures" / "gallery").iterdir())
    print(f"docs/gallery.md: {total / 1e6:.2f} MB of pictures, {len(found)} objects found")


def styles(frame: Picture, found: cvmask.Detections, labels: list[str]) -> Iterator[Item]:
    for flags, options in STYLES.items():
        picture = cvmask.draw(frame, found, labels=labels, **options)
        yield Item(flags or "the default", f"cvmask.draw(frame, found, labels=labels{_text(options)})", picture)


def color_modes(frame: Picture, found: cvmask.Detections, labels: list[str]) -> Iterator[Item]:
    for flags, options in COLOR_MODES.items():
        picture = cvmask.draw(frame, found, labels=labels, **options)
        yield Item(flags, f"cvmask.draw(frame, found, labels=labels{_text(options)})", picture)


def effects(frame: Picture, found: cvmask.Detections, labels: list[str]) -> Iterator[Item]:
    for name, effect in EFFECTS.items():
        for options in EFFECT_OPTIONS.get(name, [{}]):
            changed: Callable[..., Picture] = effect
            code = f"effects.{name.replace('-', '_')}(frame, found{_text(options)})"
            yield Item(f"--effect {name}" if not options else name, code, changed(frame, found, **options))
    sky = scenes.make_scene(SKY_SEED, SIZE_WH, objects=0).image
    for file, background, code in (("FILE", sky, "sky"), ("'#ffffff'", (255, 255, 255), "(255, 255, 255)")):
        picture = replace_background(frame, found, background)
        title = f"--effect replace-background --background {file}"
        yield Item(title, f"effects.replace_background(frame, found, {code})", picture)
    chosen = found[found.class_id == found.class_id[0]]
    title = f"--effect grey-background --classes {labels[chosen.class_id[0]]}"
    code = f"effects.grey_background(frame, found[found.class_id == {chosen.class_id[0]}])"
    yield Item(title, code, EFFECTS["grey-background"](frame, chosen))


def saved(frame: Picture, found: cvmask.Detections, labels: list[str]) -> Iterator[Item]:
    pieces = [laid_on_checks(piece) for piece in cut_out(frame, found)]
    yield Item("--save cutouts", "list(cut_out(frame, found))", side_by_side(pieces))
    indexed = encode_palette_png(to_class_map(found), np.vstack([[[0, 0, 0]], distinct_colors(255)]).astype(np.uint8))
    classes = cv2.imdecode(np.frombuffer(indexed, np.uint8), cv2.IMREAD_COLOR)
    yield Item("--save png-classes", "to_class_map(found)", classes)
    instances = to_instance_map(found) * (255 // max(1, len(found)))
    yield Item("--save png-instances (made brighter)", "to_instance_map(found)", instances.astype(np.uint8))


SECTIONS: dict[str, Callable[[Picture, cvmask.Detections, list[str]], Iterator[Item]]] = {
    "Drawing styles": styles,
    "Colours": color_modes,
    "Effects": effects,
    "Saved pictures": saved,
}

INTRO = """\
# Gallery

Made by `scripts/run gallery` with the bundled model; nothing is touched up. Above each picture stands what
makes it on the command line (`cvmask predict` draws and saves, `cvmask edit` takes the effects), where
there is a flag for it, and in Python:

```python
import cv2
import cvmask
from cvmask.drawing import effects

model = cvmask.load("shapes", score_threshold=0.7)
labels = model.labels
frame = cv2.imread("cvmask_demo/scene.png")
found = model.detect(frame)
```
"""


def write(prefix: str, items: list[Item]) -> Iterator[str]:
    """Write the pictures of a section; gives the lines of its table."""
    yield "| " * COLUMNS + "|\n" + "|---" * COLUMNS + "|"
    for start in range(0, len(items), COLUMNS):
        cells = []
        for number, item in enumerate(items[start : start + COLUMNS], start):
            name = f"pictures/gallery/{prefix}_{number:02d}.jpg"
            place = DOCS / name
            place.parent.mkdir(parents=True, exist_ok=True)
            picture = laid_on_checks(item.picture)
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
            place.write_bytes(cv2.imencode(".jpg", picture, quality)[1].tobytes())
            plain = item.title.replace("`", "")
            shown = f"`{item.title}`" if item.title.startswith("--") else item.title
            cells.append(f"{shown}<br>`{item.code}`<br>![{plain}]({name})")
        yield "| " + " | ".join(cells + [""] * (COLUMNS - len(cells))) + " |"
    yield ""


def laid_on_checks(picture: Picture) -> Picture:
    """Show transparency as the usual grey squares."""
    if picture.ndim == 2 or picture.shape[2] == 3:
        return picture
    y, x = np.indices(picture.shape[:2]) // 10
    checks = np.where((x + y) % 2, 255, 215)[..., None]
    alpha = picture[..., 3:] / 255
    return (picture[..., :3] * alpha + checks * (1 - alpha)).round().astype(np.uint8)


def side_by_side(pictures: list[Picture], gap_px: int = 6) -> Picture:
    """Put pictures into rows that fit the width of the gallery."""
    canvas = np.full((SIZE_WH[1], SIZE_WH[0], 3), 255, np.uint8)
    left = top = below = 0
    for picture in sorted(pictures, key=lambda one: -one.shape[0]):
        height, width = picture.shape[:2]
        if left + width > SIZE_WH[0]:
            left, top = 0, top + below + gap_px
            below = 0
        if top + height > SIZE_WH[1]:
            continue
        canvas[top : top + height, left : left + width] = picture
        left, below = left + width + gap_px, max(below, height)
    return canvas


def _text(options: dict[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())


if __name__ == "__main__":
    main()
