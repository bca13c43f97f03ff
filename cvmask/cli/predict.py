"""cvmask predict: pictures in, annotated pictures and JSON out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvmask.cli import options
from cvmask.cli.frame_progress import FrameProgress
from cvmask.cli.outputs import Outputs
from cvmask.cli.stream_options import add_stream_options
from cvmask.cli.streams import is_stream, run_stream
from cvmask.detections import Detections
from cvmask.draw import draw
from cvmask.errors import CvmaskError, SinkError, SourceError
from cvmask.runtime.model import MaskRCNN
from cvmask.sinks import Window
from cvmask.sources import Frame, Images, find_images

EPILOG = """\
examples:
  cvmask predict -m shapes scene.png
  cvmask predict -m shapes 'in/*.jpg' -o out --save-json
  cvmask predict -m shapes in.mp4 -o out.mp4 --save-json --track
  cvmask predict -m shapes 0 --show
  cvmask predict street.jpg --classes person,car --conf 0.7 --no-boxes
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "predict",
        help="annotate pictures, videos, cameras and streams",
        description="Find objects in pictures, videos, cameras and streams and draw their masks.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a picture, a folder, a pattern in quotes, a video, a camera (0, 1), an address, or -",
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path,
                        help="a folder, or a file for a single source (default: the folder cvmask_out)")  # fmt: skip
    parser.add_argument(
        "--save-json",
        action="store_true",
        help="write JSON too: boxes, scores, classes and RLE masks; of videos one line a frame",
    )
    parser.add_argument(
        "--show", action="store_true", help="show each result in a window: q ends, s saves, any other key goes on"
    )
    options.add_model_options(parser)
    options.add_drawing_options(parser)
    add_stream_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code: 0, 1 if every source failed, 3 if some did."""
    places, failures = expand(args.sources)
    for failure in failures:
        print(f"cvmask: {failure}", file=sys.stderr)
    if not places:
        return 1
    streams = [place for place in places if is_stream(place)]
    paths = [place for place in places if place not in streams]
    outputs = Outputs(args.output, paths) if paths else None
    model = options.load_model(args)
    style = options.drawing(args, model)
    done = 0
    if outputs is not None:
        done = predict_pictures(paths, args, model, style, outputs, failures)
    for place in streams:
        try:
            run_stream(place, args, model, style, alone=len(places) == 1)
            done += 1
        except CvmaskError as error:
            failures.append(str(error))
            print(f"cvmask: {error}", file=sys.stderr)
    return 0 if not failures else (3 if done else 1)


def predict_pictures(
    paths: list[str],
    args: argparse.Namespace,
    model: MaskRCNN,
    style: dict[str, Any],
    outputs: Outputs,
    failures: list[str],
) -> int:
    """Annotate picture files; how many. Whatever fails is said and added to `failures`."""
    window = _open_window() if args.show else None
    done = 0
    with FrameProgress(len(paths)) as progress:

        def fail(error: Exception) -> None:
            failures.append(str(error))
            progress.say(f"cvmask: {error}", error=True)

        for frame in Images(paths, on_error=fail):
            for warning in frame.warnings:
                progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
            began = time.perf_counter()
            detections = model.detect(frame.image)
            spent_ms = 1000 * (time.perf_counter() - began)
            picture = draw(frame.image, detections, **style)
            path = outputs.write_picture(frame.name, picture)
            if args.save_json:
                record = describe(frame, detections, model)
                outputs.write_text(frame.name, ".json", json.dumps(record) + "\n")
            done += 1
            height, width = frame.image.shape[:2]
            found = summarise(detections, model.labels)
            progress.advance(f"{frame.name}: {width}x{height}, {found}, {spent_ms:.0f} ms -> {path}")
            if window is not None:
                window.write(picture, frame, detections)
                if window.ended:
                    break
    return done


def _open_window() -> Window | None:
    try:
        return Window(hold=True, on_message=lambda line: print(line, file=sys.stderr))
    except SinkError as error:
        print(f"cvmask: {error}", file=sys.stderr)
        return None


def expand(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """Turn files, folders and patterns into paths, in order and each once; and what could not be."""
    paths: dict[str, None] = {}
    failures: list[str] = []
    for source in sources:
        is_many = Path(source).is_dir() or (any(c in source for c in "*?[") and not Path(source).exists())
        try:
            paths.update(dict.fromkeys(find_images(source) if is_many else [source]))
        except SourceError as error:
            failures.append(str(error))
    return list(paths), failures


def summarise(detections: Detections, labels: Sequence[str]) -> str:
    """Say what was found: "2 circle, 1 star", the most frequent first."""
    counts = Counter(labels[i] for i in detections.class_id.tolist())
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing found"


def describe(frame: Frame, detections: Detections, model: MaskRCNN) -> dict[str, object]:
    """Make the JSON record of one picture; boxes are left, top, right, bottom in pixels, masks COCO RLE."""
    height, width = frame.image.shape[:2]
    objects = [
        {
            "label": model.labels[c],
            "class_id": c,
            "score": round(s, 6),
            "box_xyxy": [round(v, 3) for v in box],
            "rle": rle,
        }
        for c, s, box, rle in zip(
            detections.class_id.tolist(),
            detections.confidence.tolist(),
            detections.xyxy.tolist(),
            detections.rle(model.settings.mask_threshold),
        )
    ]
    return {"file": frame.name, "width": width, "height": height, "objects": objects}
