"""Make the README's picture: the demo's scene and its annotated form, side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2

from cvmask.cli.main import main as cvmask

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "pictures" / "scene.png"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        cvmask(["demo", "-o", folder])
        pair = [cv2.imread(f"{folder}/{name}.png") for name in ("scene", "annotated/scene")]
    cv2.imwrite(str(OUTPUT), cv2.hconcat(pair), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    main()
