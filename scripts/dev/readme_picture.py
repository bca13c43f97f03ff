"""Make the README's picture of what the demo writes: people, a blurred background, shapes, side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from cvmask.cli.main import main as cvmask

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "people_and_shapes.jpg"
HEIGHT = 360


def main() -> None:
    row = []
    with tempfile.TemporaryDirectory() as folder:
        cvmask(["demo", "-o", folder])
        for name in ("portrait", "portrait_blurred", "scene"):
            picture = cv2.imread(f"{folder}/annotated/{name}.png")
            width = round(picture.shape[1] * HEIGHT / picture.shape[0])
            row.append(cv2.resize(picture, (width, HEIGHT), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(OUTPUT), cv2.hconcat(row), [cv2.IMWRITE_JPEG_QUALITY, 88, cv2.IMWRITE_JPEG_OPTIMIZE, 1])


if __name__ == "__main__":
    main()
