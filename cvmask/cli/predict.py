"""cvmask predict: pictures and videos in, annotated ones and results in any format out."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options, run_sources
from cvmask.cli.inputs import Input
from cvmask.cli.outputs import DEFAULT_FOLDER, Outputs
from cvmask.cli.run_sources import Task
from cvmask.drawing.draw import draw
from cvmask.formats.record import Record
from cvmask.formats.saver import FORMATS, Saver, Settings, check_formats, check_names
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sources import Frame

EPILOG = """\
examples:
  cvmask predict -m shapes scene.png
  cvmask predict -m shapes in.mp4 -o out.mp4 --save-json --track
  cvmask predict -m shapes 0 --show
  cvmask predict -m shapes 'in/*.jpg' -o out --save-json
  cvmask predict photos/ -o out --save coco,labelme,cutouts
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
    run_sources.add_source_options(parser)
    parser.add_argument("--save", metavar="FORMAT,...", type=_formats, default=[],
                        help=f"write the results too, in any of: {', '.join(FORMATS)}")  # fmt: skip
    parser.add_argument(
        "--save-json",
        action="store_true",
        help="write JSON too: boxes, scores, classes and RLE masks; of videos one line a frame",
    )
    run_sources.add_model_and_stream_options(parser, track=True)
    options.add_drawing_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    return run_sources.run(args, lambda model, inputs: Annotate(args, model, inputs))


class Annotate(Task):
    """Draw what was found, and save it in the formats that were asked for."""

    def __init__(self, args: argparse.Namespace, model: MaskRCNN, inputs: Sequence[Input]) -> None:
        self._model, self._save_json = model, args.save_json
        self._style = options.drawing(args, model)
        self._stack = ExitStack()
        self._saver: Saver | None = None
        if args.save:
            folder = args.output.folder if args.output else DEFAULT_FOLDER
            pictures, videos = ([one.name for one in inputs if one.stream == stream] for stream in (False, True))
            check_names(pictures, videos, args.save)
            settings = Settings(folder, model.labels, self._style["colors"], model.settings.mask_threshold)
            self._saver = Saver(args.save, settings)
            self.closing = f"{', '.join(args.save)}: in {folder}"

    def __enter__(self) -> Annotate:
        if self._saver is not None:
            self._stack.enter_context(self._saver)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Draw."""
        return draw(image, detections, **self._style) if len(detections) else image

    def keep(self, frame: Frame, detections: Detections, outputs: Outputs) -> None:
        """Write the JSON of one picture."""
        if self._save_json:
            record = describe(frame, detections, self._model)
            outputs.write_text(frame.name, ".json", json.dumps(record) + "\n")

    def save(self, record: Record, image: NDArray[np.uint8]) -> None:
        """Save in every format."""
        if self._saver is not None:
            self._saver.write(record, image)


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


def _formats(text: str) -> list[str]:
    try:
        return check_formats([name.strip() for name in text.split(",") if name.strip()])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
