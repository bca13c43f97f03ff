"""The loop that `predict` and `edit` share: read, find, paint, write."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Callable

import numpy as np
from numpy.typing import NDArray

from cvmask.cli import options, window
from cvmask.cli.frame_progress import FrameProgress
from cvmask.cli.inputs import Input, expand
from cvmask.cli.outputs import Outputs
from cvmask.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.sources import Frame, Images


class Task:
    """What a verb does with each frame; a context manager around the whole run.

    Attributes
    ----------
    closing
        A line to print when all went well; "" for none.
    """

    closing = ""

    def __enter__(self) -> Task:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def paint(self, image: NDArray[np.uint8], detections: Detections) -> NDArray[np.uint8]:
        """Make the picture to write, BGR or BGRA."""
        raise NotImplementedError

    def keep(self, frame: Frame, detections: Detections) -> None:
        """Do whatever else is to be done with what was found."""


MakeTask = Callable[[MaskRCNN, Sequence[Input], Outputs], Task]


def add_source_options(parser: argparse.ArgumentParser) -> argparse.Action:
    """Add SOURCE, --output and --show; gives the action of SOURCE."""
    sources = parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="a picture, a folder, or a pattern in quotes"
    )
    parser.add_argument("-o", "--output", metavar="OUT", type=Path,
                        help="a folder, or a file for a single picture (default: the folder cvmask_out)")  # fmt: skip
    parser.add_argument(
        "--show", action="store_true", help="show each result in a window; q ends, any key goes on"
    )
    return sources


def run(args: argparse.Namespace, make_task: MakeTask, alpha: bool = False) -> int:
    """Run a verb over all sources; its exit code: 0, 1 if every picture failed, 3 if some did.

    `alpha` says that what is painted has transparency.
    """
    inputs, failures = expand(args.sources)
    for failure in failures:
        print(f"cvmask: {failure}", file=sys.stderr)
    if not inputs:
        return 1
    outputs = Outputs(args.output, [one.path for one in inputs], alpha)
    model = options.load_model(args)
    if model.target.reason:
        print(f"cvmask: {model.target.requested} does not run: {model.target.reason}; using "
              f"{model.target.effective}", file=sys.stderr)  # fmt: skip
    show = args.show and _can_show()
    with make_task(model, inputs, outputs) as task, FrameProgress(len(inputs)) as progress:
        done, unread = _go(inputs, model, task, outputs, progress, show)
    if task.closing:
        print(task.closing)
    return 0 if not failures and not unread else (3 if done else 1)


def _go(
    inputs: Sequence[Input], model: MaskRCNN, task: Task, outputs: Outputs, progress: FrameProgress, show: bool
) -> tuple[int, int]:
    """Go from picture to picture; how many went well and how many could not be read."""
    done = unread = 0

    def fail(error: Exception) -> None:
        nonlocal unread
        unread += 1
        progress.say(f"cvmask: {error}", error=True)

    for frame in Images([one.path for one in inputs], on_error=fail):
        for warning in frame.warnings:
            progress.say(f"cvmask: warning: {frame.name}: {warning}", error=True)
        began = time.perf_counter()
        detections = model.detect(frame.image)
        spent_ms = 1000 * (time.perf_counter() - began)
        picture = task.paint(frame.image, detections)
        path = outputs.write_picture(frame.name, picture)
        task.keep(frame, detections)
        done += 1
        height, width = frame.image.shape[:2]
        found = summarise(detections, model.labels)
        progress.advance(f"{frame.name}: {width}x{height}, {found}, {spent_ms:.0f} ms -> {path}")
        if show and not window.show(picture):
            break
    return done, unread


def _can_show() -> bool:
    why = window.why_no_window()
    if why:
        print(f"cvmask: nothing is shown: {why}", file=sys.stderr)
    return why is None


def summarise(detections: Detections, labels: Sequence[str]) -> str:
    """Say what was found: "2 circle, 1 star", the most frequent first."""
    counts = Counter(labels[i] for i in detections.class_id.tolist())
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "nothing found"
