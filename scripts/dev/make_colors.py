#!/usr/bin/env python3
"""Write colors.txt: one colour for each line of mscoco_labels.names, as the tutorials write them."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from cvmask.drawing.palette import distinct_colors  # noqa: E402
from cvmask.models.labels import read_labels  # noqa: E402


def main() -> None:
    colors = distinct_colors(len(read_labels(ROOT / "mscoco_labels.names")))
    lines = [" ".join(f"{value:.1f}" for value in color) for color in colors.tolist()]
    (ROOT / "colors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
