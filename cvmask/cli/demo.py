"""cvmask demo: show the bundled models at work."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.cli import edit, options
from cvmask.cli.edit import EditOptions
from cvmask.cli.options import ModelOptions, OutputOptions, RunOptions
from cvmask.cli.progress import say
from cvmask.cli.run_sources import summarise
from cvmask.drawing.draw import draw
from cvmask.drawing.effects import blur_background
from cvmask.models import load
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sources import read_image
from cvmask.system import folders
from cvmask.system.files import write_whole

SIZE_WH = (640, 480)
SCENE_SEED, CLIP_SEED = 5, 5
CLIP_FRAMES, FRAME_RATE = 50, 25
PORTRAIT = "docs/pictures/astronaut.jpg"
"""NASA's portrait of Eileen Collins, 1995, in the public domain."""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "demo",
        help="see the bundled models work: people and drawn shapes, pictures and clips",
        description="Write a portrait, a scene of shapes and a clip of each, plain and annotated, and the portrait "
                    "with a blurred background. With --camera, show a camera with a blurred background.",
    )  # fmt: skip
    parser.add_argument("-o", "--output", type=Path, default=Path("cvmask_demo"), metavar="FOLDER",
                        help="the output folder (default: cvmask_demo)")  # fmt: skip
    parser.add_argument("--camera", nargs="?", const="0", metavar="N",
                        help="blur what is behind the people in front of camera N (default: 0), in a window; "
                             "q ends it")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    if args.camera is not None:
        wanted = RunOptions([args.camera], ModelOptions("people"), output=OutputOptions(show=True))
        return edit.edit(wanted, EditOptions("blur-background"))
    demo(args.output)
    return 0


def demo(shapes: Path) -> None:
    """Write all pictures and clips to this folder, and print commands to try next."""
    people, annotated = shapes / "people", shapes / "annotated"

    scene = scenes.make_scene(SCENE_SEED, SIZE_WH, objects=8).image
    moving = (scene.image for scene in scenes.moving_scene(CLIP_SEED, CLIP_FRAMES, SIZE_WH, objects=6))
    show("shapes", scene, shapes / "scene.png", moving, shapes / "clip.mp4", annotated)

    portrait = read_image(str(folders.path(PORTRAIT)))[0]
    show("people", portrait, people / "portrait.png", approach(portrait), people / "portrait_clip.mp4", annotated)
    blurred = annotated / "portrait_blurred.png"
    write_picture(blurred, blur_background(portrait, load.load("people").detect(portrait)))
    say(f"{blurred}: the background blurred")

    program = how_called()
    say(
        "",
        "Next, try:",
        f"  {program} predict -m people {people} -o out",
        f"  {program} edit -m people 0 --effect blur-background --show   # a camera",
        f"  {program} --help",
    )


def show(
    name: str,
    picture: NDArray[np.uint8],
    picture_path: Path,
    frames: Iterable[NDArray[np.uint8]],
    clip_path: Path,
    annotated: Path,
) -> None:
    """Write a picture and a clip to a folder, plain and annotated."""
    model = load.load(name)
    found = model.detect(picture)
    write_picture(picture_path, picture)
    target = annotated / picture_path.name
    write_picture(target, draw(picture, found, labels=model.labels))
    say(f"{target}: {name}, found {summarise(found, model.labels)}")
    say(f"annotating {CLIP_FRAMES} frames ...", error=True)
    target = annotated / clip_path.name
    with VideoFile(clip_path, frame_rate=Fraction(FRAME_RATE)) as plain, \
         VideoFile(target, frame_rate=Fraction(FRAME_RATE)) as video:  # fmt: skip
        for frame in frames:
            plain.write(frame)
            video.write(draw(frame, model.detect(frame), labels=model.labels))
    say(f"{target}: {CLIP_FRAMES} annotated frames, {CLIP_FRAMES / FRAME_RATE:.0f} seconds")


def approach(picture: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a clip in which the camera moves closer and tilts a little."""
    height, width = picture.shape[:2]
    for number in range(CLIP_FRAMES):
        done = number / (CLIP_FRAMES - 1)
        turned = cv2.getRotationMatrix2D((width * 0.45, height * 0.4), 6 * np.sin(2 * np.pi * done), 1.15 + 0.4 * done)
        frame = cv2.warpAffine(picture, turned, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT)
        yield np.asarray(frame, np.uint8)


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a PNG."""
    write_whole(path, cv2.imencode(".png", picture)[1].tobytes())


def how_called() -> str:
    """Return how to call this program again: ``cvmask`` if the shell finds this one, else its path."""
    program = Path(sys.argv[0])
    if program.stem != "cvmask" or not program.exists():
        return f"{Path(sys.executable).name} -m cvmask"
    on_path = shutil.which("cvmask")
    if on_path is not None and os.path.samefile(on_path, program):
        return "cvmask"
    near = os.path.relpath(program)
    return str(program) if near.startswith("..") else near
