"""cvmask demo: see the bundled model work."""

from __future__ import annotations

import argparse
import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask import scenes
from cvmask.cli.run_sources import summarise
from cvmask.drawing.draw import draw
from cvmask.models import load
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks import VideoFile
from cvmask.system.files import write_whole

SIZE_WH = (640, 480)
SCENE_SEED, CLIP_SEED = 5, 5
CLIP_FRAMES, FRAME_RATE = 50, 25


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "demo",
        help="make a scene, annotate it, and a short clip, with the bundled model",
        description="Make a scene of shapes, its annotated form and a short annotated clip.",
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("cvmask_demo"), metavar="FOLDER",
                        help="where they go (default: cvmask_demo)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    model = load.load("shapes")
    scene = scenes.make_scene(SCENE_SEED, SIZE_WH, objects=8)
    detections = model.detect(scene.image)
    write_picture(args.output / "scene.png", scene.image)
    write_picture(args.output / "scene_annotated.png", draw(scene.image, detections, labels=model.labels))
    print(f"{args.output / 'scene.png'}: a made-up scene of {len(scene.class_id)} shapes")
    print(f"{args.output / 'scene_annotated.png'}: found {summarise(detections, model.labels)}")
    clip = args.output / "clip.mp4"
    print(f"annotating {CLIP_FRAMES} frames ...", file=sys.stderr, flush=True)
    write_clip(clip, model)
    print(f"{clip}: {CLIP_FRAMES} annotated frames, {CLIP_FRAMES / FRAME_RATE:.0f} seconds")
    return 0


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a PNG."""
    write_whole(path, cv2.imencode(".png", picture)[1].tobytes())


def write_clip(path: Path, model: MaskRCNN) -> None:
    """Annotate a moving scene, frame by frame, into a video."""
    with VideoFile(path, frame_rate=Fraction(FRAME_RATE)) as video:
        for scene in scenes.moving_scene(CLIP_SEED, CLIP_FRAMES, SIZE_WH, objects=6):
            video.write(draw(scene.image, model.detect(scene.image), labels=model.labels))
