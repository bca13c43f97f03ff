"""A batch with soft masks, empty frames and failures, read by Spark: every row and column as PyArrow reads it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

import cvmask
from cvmask import scenes
from cvmask.results import rle

KEY = ("source", "frame", "object")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="cvmask-spark-") as folder:
        work = Path(folder)
        make_archive(work / "in")
        model = cvmask.load("shapes", size="128x96")
        summary = cvmask.batch(work / "in", work / "out", model, part_frames=4, soft_masks=True)
        wanted = sorted(pq.read_table(work / "out" / "parts").to_pylist(), key=key)
        spark = start_spark()
        try:
            table = spark.read.parquet(f"file://{work}/out/parts")
            got = sorted((row.asDict(recursive=True) for row in table.collect()), key=key)
            frames = table.where("coalesce(object, 0) = 0 AND error IS NULL").count()
            by_class = table.where("object IS NOT NULL").groupBy("class_name").count().collect()
            columns = [f"{field.name} {field.dataType.simpleString()}" for field in table.schema]
        finally:
            spark.stop()
    report(wanted, got, summary, frames, {row["class_name"]: row["count"] for row in by_class})
    print("\n" + ", ".join(columns))


def make_archive(folder: Path) -> None:
    """Write pictures, one without objects, one that is none, and a video."""
    folder.mkdir()
    for seed in range(6):
        image = next(scenes.moving_scene(seed, 1, (96, 64), objects=2)).image
        cv2.imwrite(str(folder / f"{seed}.png"), image)
    cv2.imwrite(str(folder / "nothing.png"), np.full((64, 96, 3), 128, np.uint8))
    (folder / "bad.jpg").write_bytes(b"no picture")
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for moving in scenes.moving_scene(5, 30, (96, 64), objects=2):
        writer.write(moving.image)
    writer.release()


def start_spark() -> Any:
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    return builder.config("spark.driver.host", "127.0.0.1").getOrCreate()


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((row[name] is not None, row[name]) if row[name] is not None else (False,) for name in KEY)


def report(
    wanted: list[dict[str, Any]], got: list[dict[str, Any]], summary: dict[str, Any], frames: int,
    by_class: dict[str, int],
) -> None:  # fmt: skip
    different = [name for name in wanted[0] if [row[name] for row in wanted] != [row.get(name) for row in got]]
    objects = [row for row in got if row["object"] is not None]
    for row in objects:
        mask = rle.decode({"size": [row["height"], row["width"]], "counts": row["rle"]})
        assert mask.any(), row
        assert np.shape(row["soft_mask"]) == (15, 15), row
    print("| | PyArrow, summary | Spark |\n|---|---|---|")
    lines = {
        "rows": (len(wanted), len(got)),
        "frames": (summary["frames"], frames),
        "objects": (summary["objects"], sum(by_class.values())),
        "rows with an error": (summary["failed"], sum(row["error"] is not None for row in got)),
        "columns": (len(wanted[0]), len(got[0])),
        "columns that differ": (0, len(different)),
    }
    for name, (here, there) in lines.items():
        print(f"| {name} | {here} | {there} |")
    if any(here != there for here, there in lines.values()):
        sys.exit(f"Spark reads something else: {different}")


if __name__ == "__main__":
    main()
