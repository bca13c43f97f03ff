"""Draw detections at 320x240 and at 4000x3000, on a light and a dark scene: pictures for people to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cvmask import Detections, scenes
from cvmask.drawing import draw

SIZES_WH = ((320, 240), (4000, 3000))
SCENE_WH = (400, 300)
SEED, OBJECTS = 11, 8
# Of the scene's own brightness and what is added to it.
LIGHTS = {"light": (0.35, 160), "dark": (0.3, 0)}
SOFT_SIDE = 28


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/drawing"), metavar="FOLDER")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    scene = scenes.make_scene(SEED, SCENE_WH, OBJECTS)
    for width, height in SIZES_WH:
        found = true_detections(scene, (width, height))
        for light, (share, more) in LIGHTS.items():
            frame = cv2.resize(scene.image, (width, height), interpolation=cv2.INTER_CUBIC)
            frame = (frame * share + more).astype(np.uint8)
            path = folder / f"{light}_{width}x{height}.png"
            cv2.imwrite(str(path), draw(frame, found, labels=scenes.LABELS, color_by="instance"))
            print(path)


def true_detections(scene: scenes.Scene, size_wh: tuple[int, int]) -> Detections:
    """Make detections of what really is in the scene, in a picture of another size."""
    factor = size_wh[0] / SCENE_WH[0]
    cuts = [soft_mask(mask, box) for mask, box in zip(scene.masks, scene.xyxy.astype(int))]
    return Detections(
        xyxy=scene.xyxy * np.float32(factor),
        confidence=np.linspace(0.99, 0.51, len(cuts), dtype=np.float32),
        class_id=scene.class_id,
        soft_masks=np.array(cuts, np.float32),
        frame_size=size_wh[::-1],
    )


def soft_mask(mask: NDArray[np.bool_], box: NDArray[np.int_]) -> NDArray[np.float32]:
    left, top, right, bottom = box
    cut = mask[top:bottom, left:right].astype(np.float32)
    return np.clip(cv2.resize(cut, (SOFT_SIDE, SOFT_SIDE), interpolation=cv2.INTER_AREA), 0, 1)


if __name__ == "__main__":
    main()
