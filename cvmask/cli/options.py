"""The flags that several verbs share, and the frozen options that each verb makes from them."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cvmask.drawing.captions import SMALLEST_TEXT_PX
from cvmask.drawing.draw import MOST_PX
from cvmask.drawing.palette import read_colors
from cvmask.formats.saver import FORMATS, check_formats
from cvmask.models.labels import read_names
from cvmask.results.masks import MASK_PASTES
from cvmask.runtime import targets
from cvmask.runtime.tiles import OVERLAP, check_tile
from cvmask.streams.follow import Every, check_every
from cvmask.streams.sinks import SUFFIXES as STREAM_SUFFIXES
from cvmask.streams.sinks.encoders import wrong_codec
from cvmask.streams.sinks.image_sink import no_folder
from cvmask.streams.sinks.virtual_camera import NAME as VIRTUAL_CAMERA
from cvmask.streams.sources.opening import ADDRESS, CAMERA, STDIN, STREAM

_Options = TypeVar("_Options")
Subparsers = Any
"""What `argparse.ArgumentParser.add_subparsers` gives: argparse has no public name for its type."""


class UsageError(Exception):
    """Wrong usage that the parser alone cannot detect: one line, exit code 2."""


def add_verb(subparsers: Subparsers, name: str, epilog: str | None = None, **texts: Any) -> argparse.ArgumentParser:
    """Add the parser of a verb; `texts` are ``help`` and ``description``, `epilog` keeps its line breaks."""
    form = argparse.RawDescriptionHelpFormatter if epilog else argparse.HelpFormatter
    parser: argparse.ArgumentParser = subparsers.add_parser(name, epilog=epilog, formatter_class=form, **texts)
    return parser


def take(kind: type[_Options], args: argparse.Namespace) -> _Options:
    """Make a dataclass of options from the flags of the same names; a flag that the verb lacks is its default."""
    names = {option.name for option in fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(args).items() if name in names}
    # argparse gives lists for repeated flags; frozen options hold tuples.
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


@dataclass(frozen=True)
class ModelOptions:
    """Arguments of `cvmask.load`, with its defaults."""

    model: str = "coco"
    graph: str | None = None
    keep_graph: bool = False
    labels: str | None = None
    target: str = "cpu"
    strict_target: bool = False
    score_threshold: float = 0.5
    mask_threshold: float | None = None
    mask_paste: str = "tensorflow"
    classes: str | None = None
    max_detections: int | None = None
    proposals: int | None = None
    size: str = "auto"
    tile: int | str | None = None
    overlap: float = OVERLAP

    def check(self) -> None:
        """Check the file that --labels names; ModelError says what is wrong with it."""
        if self.labels is not None:
            read_names(self.labels)


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags that choose a model and what it looks for."""
    usual = ModelOptions
    group = parser.add_argument_group("model")
    group.add_argument("-m", "--model", default=usual.model, metavar="MODEL",
                       help="a name from `cvmask models list`, a folder or a .pb (default: coco)")  # fmt: skip
    group.add_argument(
        "--graph", metavar="PBTXT", help="a text graph of your own instead of the one found or made"
    )
    group.add_argument(
        "--keep-graph", action="store_true", help="run the text graph even if it contradicts the frozen graph"
    )
    group.add_argument("--labels", metavar="FILE", help="class names, one per line, or a label map")
    group.add_argument("--score-threshold", "--conf", type=share, default=usual.score_threshold, metavar="T",
                       help="keep detections with a higher score, 0 to 1 (default: 0.5)")  # fmt: skip
    add_mask_threshold(group)
    group.add_argument("--mask-paste", default=usual.mask_paste, choices=tuple(MASK_PASTES),
                       help="how masks become pixels: as in TensorFlow, cut at 0.5, or as in OpenCV's tutorials, "
                       "cut at 0.3 (default: tensorflow)")  # fmt: skip
    group.add_argument("--classes", type=classes, metavar="A,B",
                       help="keep only these classes: names or ids, separated by commas")  # fmt: skip
    group.add_argument("--max-detections", type=positive, metavar="N",
                       help="keep the N best in each picture (default: all that the model gives)")  # fmt: skip
    group.add_argument("--proposals", type=positive, metavar="N",
                       help="number of first-stage boxes; fewer are faster, but change the results")  # fmt: skip
    group.add_argument("--size", default=usual.size, metavar="SIZE",
                       help="auto (as trained), native, 640 (short side) or 800x600 (default: auto)")  # fmt: skip
    group.add_argument("--target", default=usual.target, choices=targets.NAMES, help="the device (default: cpu)")
    group.add_argument("--strict-target", action="store_true", help="fail instead of running on another device")


def add_tile_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for large pictures."""
    group = parser.add_argument_group("large pictures")
    group.add_argument("--tile", type=_tile, metavar="SIZE",
                       help="also process overlapping tiles of this side in pixels, and merge the results; "
                       "auto: the model's own size (default: no tiles)")  # fmt: skip
    group.add_argument("--overlap", type=_overlap, default=OVERLAP, metavar="X",
                       help="share of its side by which a tile overlaps the next, 0 to 0.8 "
                       f"(default: {OVERLAP})")  # fmt: skip


def _tile(text: str) -> int | str:
    try:
        tile = int(text) if text.isdecimal() and len(text) < 10 else text
        check_tile(tile, OVERLAP)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return tile


def _overlap(text: str) -> float:
    try:
        check_tile("auto", float(text))
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return float(text)


def add_mask_threshold(group: argparse._ActionsContainer) -> None:
    """Add --mask-threshold."""
    group.add_argument("--mask-threshold", type=share, metavar="T",
                       help="the edge of a mask, 0 to 1 (default: 0.5; 0.3 with --mask-paste tutorial)")  # fmt: skip


@dataclass(frozen=True, eq=False)
class DrawingOptions:
    """Arguments of `cvmask.draw` that do not come from the model, with its defaults."""

    colors: NDArray[np.uint8] | None = None
    color_by: str = "class"
    boxes: bool = True
    masks: bool = True
    contours: bool = True
    captions: bool = True
    opacity: float = 0.45
    line_px: int | None = None
    text_px: int | None = None
    refine: bool = False

    def style(self, mask_threshold: float | None) -> dict[str, Any]:
        """Return keyword arguments for `cvmask.draw`, without the labels."""
        own = {option.name: getattr(self, option.name) for option in fields(self)}
        return {"mask_threshold": mask_threshold, **own}


def add_drawing_options(parser: argparse.ArgumentParser) -> None:
    """Add the flags for drawing."""
    group = parser.add_argument_group("drawing")
    group.add_argument("--colors", metavar="FILE", help="colours, one per line: blue green red, as in colors.txt")
    group.add_argument("--color-by", choices=("class", "instance"), default=DrawingOptions.color_by,
                       help="one colour per class or per object (default: class)")  # fmt: skip
    group.add_argument("--opacity", type=share, default=DrawingOptions.opacity, metavar="X",
                       help="opacity of masks, 0 to 1 (default: 0.45)")  # fmt: skip
    group.add_argument("--line-width", type=partial(whole, least=1, most=MOST_PX), dest="line_px", metavar="PX",
                       help="of boxes and outlines, in pixels (default: by sizes of picture and object)")  # fmt: skip
    group.add_argument(
        "--text-size", type=partial(whole, least=SMALLEST_TEXT_PX, most=MOST_PX), dest="text_px", metavar="PX",
        help="height of capitals, in pixels (default: by picture and object)",
    )  # fmt: skip
    group.add_argument("--refine", action="store_true",
                       help="align the edges of masks with those of the picture, in saved results too")  # fmt: skip
    group.add_argument("--no-boxes", dest="boxes", action="store_false", help="leave out the boxes")
    group.add_argument(
        "--no-masks", dest="masks", action="store_false", help="leave out the masks and their outlines"
    )
    group.add_argument("--no-labels", dest="captions", action="store_false", help="leave out the names and scores")


def drawing_options(args: argparse.Namespace) -> DrawingOptions:
    """Read the file of colours; --no-masks leaves out the outlines too."""
    colors = None if args.colors is None else read_colors(args.colors)
    return replace(take(DrawingOptions, args), colors=colors, contours=args.masks)


PICTURE, VIDEO, NUMBERED = "picture", "video", "numbered frames"
_RATED = f"{STDIN} and {NUMBERED}"
_USERS = {VIDEO: "videos", _RATED: _RATED, CAMERA: "cameras and streams", STREAM: "streams", STDIN: "standard input"}
# Kinds that also use the flags of others; an http address may turn out to be any of them.
_LIKE = {STREAM: (CAMERA,), ADDRESS: (VIDEO, CAMERA, STREAM), STDIN: (_RATED,), NUMBERED: (VIDEO, _RATED)}


def _flag(name: str, used_by: str = "") -> dict[str, str]:
    """Return field metadata: the flag, and the only kind of source that uses it ("" for all but pictures)."""
    return {"flag": name, "used_by": used_by}


@dataclass(frozen=True)
class StreamOptions:
    """Arguments of `cvmask.open_source` and `cvmask.annotate`, with their defaults.

    Attributes
    ----------
    detect_every
        None: 1, and "auto" for a camera or stream in a window, see `run_stream`.
    workers
        None: chosen by the source, see `run_stream.usual_workers`.

    Raises
    ------
    UsageError
        If the selected part of a video is empty, or --on-event or --smooth is given without --track.
    """

    start_s: float = field(default=0.0, metadata=_flag("--start", VIDEO))
    end_s: float | None = field(default=None, metadata=_flag("--end", VIDEO))
    stride: int = field(default=1, metadata=_flag("--stride", VIDEO))
    track: bool = field(default=False, metadata=_flag("--track"))
    smooth: bool = field(default=False, metadata=_flag("--smooth"))
    on_event: tuple[str, ...] | str | None = field(default=None, metadata=_flag("--on-event"))
    detect_every: Every | None = field(default=None, metadata=_flag("--detect-every"))
    workers: int | None = field(default=None, metadata=_flag("--workers"))
    every_frame: bool = field(default=False, metadata=_flag("--every-frame", CAMERA))
    retries: int = field(default=10, metadata=_flag("--retries", STREAM))
    timeout_s: float = field(default=1.5, metadata=_flag("--timeout", STREAM))
    size_wh: tuple[int, int] | None = field(default=None, metadata=_flag("--raw-size", STDIN))
    frame_rate: Fraction | None = field(default=None, metadata=_flag("--rate", _RATED))

    def __post_init__(self) -> None:
        if self.end_s is not None and self.end_s <= self.start_s:
            raise UsageError(f"--end must come after --start, got {self.start_s:g} s to {self.end_s:g} s")

        if self.smooth and not self.track:
            raise UsageError("--smooth needs --track: without numbers nobody knows what belongs together")
        if self.on_event is not None and not self.track:
            raise UsageError("--on-event needs --track, which numbers the objects: add --track")

    def source(self) -> dict[str, Any]:
        """Return keyword arguments for `open_source`."""
        run = ("track", "smooth", "on_event", "detect_every", "workers")
        return {option.name: getattr(self, option.name) for option in fields(self) if option.name not in run}


def add_stream_options(parser: argparse.ArgumentParser, track: bool = True, workers: int | None = None) -> None:
    """Add the flags, --track only where `track`; `workers` is the default number, None: chosen later."""
    usual = StreamOptions
    group = parser.add_argument_group("videos, cameras and streams")
    group.add_argument("--start", type=seconds, default=usual.start_s, dest="start_s", metavar="TIME",
                       help="start time: seconds, or 1:23:45 (videos)")  # fmt: skip
    group.add_argument("--end", type=seconds, dest="end_s", metavar="TIME",
                       help="end time, exclusive: seconds, or 1:23:45 (videos)")  # fmt: skip
    group.add_argument("--stride", type=_stride, default=usual.stride, metavar="N",
                       help="process only every N-th frame (videos)")  # fmt: skip
    if track:
        group.add_argument("--track", action="store_true", help="track objects: each keeps its number")
        group.add_argument("--smooth", action="store_true",
                           help="with --track: average masks and scores over time, against flicker")  # fmt: skip
        group.add_argument("--on-event", type=_command, metavar="CMD",
                           help="with --track: run CMD when an object appears or has left, with JSON on its standard "
                           "input; words in quotes, no shell")  # fmt: skip
    if workers is None:
        group.add_argument("--detect-every", type=_every, default=usual.detect_every, metavar="N",
                           help="run the network on every N-th frame and carry its masks to the frames between; "
                           "auto chooses the frames, with cameras and streams whenever the network is free (default: "
                           "auto for a camera or stream in a window, else 1, every frame)")  # fmt: skip
    many = workers or "for long videos as many as OpenCV has threads, at most 4, if memory allows; else 1"
    group.add_argument("--workers", type=positive, default=workers, metavar="N",
                       help=f"number of models that work on frames in parallel (default: {many})")  # fmt: skip
    group.add_argument(
        "--every-frame",
        action="store_true",
        help="process every frame of cameras and streams, however late (default: the newest)",
    )
    group.add_argument("--retries", type=positive, default=usual.retries, metavar="N",
                       help="give up a stream after N failed attempts in a row (default: 10)")  # fmt: skip
    group.add_argument("--timeout", type=_positive_float, default=usual.timeout_s, dest="timeout_s", metavar="S",
                       help="a stream that sends nothing for S seconds is lost (default: 1.5)")  # fmt: skip
    group.add_argument("--raw-size", type=_size, dest="size_wh", metavar="WxH",
                       help="raw BGR frames of this size on standard input (default: JPEGs)")  # fmt: skip
    group.add_argument("--rate", type=_rate, dest="frame_rate", metavar="R",
                       help="frames per second on standard input and of numbered frames, which a folder becomes "
                       "with it: 25, 30000/1001")  # fmt: skip


class Destination(NamedTuple):
    """The place of results.

    Attributes
    ----------
    path
        The file or the folder.
    is_file
        Whether it is a file: it has an ending, is not an existing folder, and was not given with a
        trailing slash.
    """

    path: Path
    is_file: bool = False

    def __str__(self) -> str:
        """Return the file, or the folder with a trailing slash, so that it stays a folder if its name has an ending."""
        return str(self.path) if self.is_file else f"{self.path}/"

    @property
    def folder(self) -> Path:
        """The folder for outputs that belong to no single source: the destination, or the folder of the file."""
        return self.path.parent if self.is_file else self.path

    def check(self, sources: int, stream: bool, alpha: bool = False) -> None:
        """Check the destination before anything is loaded.

        Parameters
        ----------
        sources
            Number of sources: one file can hold the results of one.
        stream
            Whether the source is a video, a camera or a stream, not a picture.
        alpha
            Whether pictures have transparency.

        Raises
        ------
        UsageError
            If one file is given for several sources, its format cannot be written, or a folder is
            a file.
        """
        path, suffix = self.path, self.path.suffix.lower()
        if self == VIRTUAL:
            if sources > 1 or not stream:
                raise UsageError(f"-o {path}: a virtual camera shows one video, camera or stream; a folder is {path}/")
            return
        if not self.is_file:
            if wrong := no_folder(str(path)):
                raise UsageError(f"{path}: {wrong}")
            if path.exists() and not path.is_dir():
                raise UsageError(f"{path} is not a folder: for a single picture end the name in .png or .jpg")
            return
        if sources > 1:
            raise UsageError(f"{path} is one file for {sources} sources: give a folder")
        # A picture would hold only the first frame.
        videos = tuple(ending for ending in STREAM_SUFFIXES if ending not in PICTURE_SUFFIXES or ending == ".webp")
        suffixes = videos if stream else PICTURE_SUFFIXES
        if suffix not in suffixes:
            known, what = " ".join(suffixes), "video" if stream else "picture"
            needed = f"for a {what} needed one of {known}, or a folder with / at its end"
            raise UsageError(f"{path}: {needed}, got {path.suffix}")
        if alpha and not stream and suffix not in ALPHA_SUFFIXES:
            raise UsageError(f"{path}: {suffix} has no transparency: end the name in .png")


PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
ALPHA_SUFFIXES = (".png", ".webp", ".tif", ".tiff")
DEFAULT_FOLDER = Destination(Path("cvmask_out"))


VIRTUAL = Destination(Path(VIRTUAL_CAMERA), is_file=True)


def destination(text: str) -> Destination:
    """Parse the value of -o."""
    path = Path(text)
    if text == VIRTUAL_CAMERA:
        return VIRTUAL
    is_folder = text.endswith(("/", os.sep)) or os.path.isdir(path) or not path.suffix
    return Destination(path, not is_folder)


@dataclass(frozen=True)
class OutputOptions:
    """Which files are written, and where.

    Attributes
    ----------
    output
        None: the folder `DEFAULT_FOLDER`, or only a window where `show` is set and the source is live.
    save
        Names of `formats.saver.FORMATS`.
    save_json
        JSON beside each picture, JSON lines beside each video.
    """

    output: Destination | None = None
    codec: str | None = field(default=None, metadata=_flag("--codec"))
    show: bool = False
    save: tuple[str, ...] = ()
    save_json: bool = False

    @property
    def destination(self) -> Destination:
        """The place of results."""
        return self.output or DEFAULT_FOLDER

    @property
    def only_shown(self) -> bool:
        """Whether live sources go to a window and not to a file."""
        return self.output is None and self.show

    def check_codec(self) -> None:
        """Raise UsageError if the video's format cannot have this codec; in a folder videos are .mp4."""
        target = self.destination
        if wrong := wrong_codec(target.path.suffix.lower() if target.is_file else ".mp4", self.codec):
            raise UsageError(f"--codec {self.codec}: {wrong}")


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add SOURCE."""
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="a picture, a folder, a pattern in quotes, a video, frame_%%04d.png, a camera (0, 1), an address, or -",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add --output, --codec and --show."""
    parser.add_argument("-o", "--output", metavar="OUT", type=destination,
                        help="a folder, or for a single source a file or virtual, a camera for video calls "
                       "(default: the folder cvmask_out)")  # fmt: skip
    add_codec_option(parser)
    parser.add_argument("--show", action="store_true",
                        help="show each result in a window: q or Esc ends, s saves, space pauses a video, any key "
                             "closes a picture")  # fmt: skip


def add_codec_option(parser: argparse.ArgumentParser) -> None:
    """Add --codec."""
    parser.add_argument("--codec", choices=("h264", "mp4v"), metavar="CODEC",
                        help="of videos: h264, which needs PyAV, or mp4v, which is larger and written "
                        "about twice as fast (default: h264 if possible)")  # fmt: skip


def add_save_options(parser: argparse.ArgumentParser) -> None:
    """Add --save and --save-json."""
    parser.add_argument("--save", metavar="FORMAT,...", type=_formats, default=(),
                        help=f"also write the results in formats: {', '.join(FORMATS)}")  # fmt: skip
    parser.add_argument(
        "--save-json",
        action="store_true",
        help="also write JSON: boxes, scores, classes and RLE masks; for videos one line per frame",
    )


@dataclass(frozen=True)
class RunOptions:
    """All options of a run of `predict` or `edit`; `bridge` is that of `cvmask.annotate`."""

    sources: Sequence[str]
    model: ModelOptions = ModelOptions()
    stream: StreamOptions = StreamOptions()
    output: OutputOptions = OutputOptions()
    drawing: DrawingOptions = DrawingOptions()
    bridge: bool = False


def unused_flags(options: Sequence[StreamOptions | OutputOptions], kinds: Collection[str]) -> list[str]:
    """Return the given flags that sources of these kinds do not use: "--rate (standard input)"."""
    flags = [
        (option.metadata["flag"], option.metadata["used_by"])
        for group in options
        for option in fields(group)
        if "flag" in option.metadata and getattr(group, option.name) != option.default
    ]
    return [
        f"{flag} ({_USERS.get(user, 'videos, cameras and streams')})"
        for flag, user in flags
        if not any(_uses(kind, user) for kind in kinds)
    ]


def _uses(kind: str, user: str) -> bool:
    return kind != PICTURE and (user in ("", kind) or user in _LIKE.get(kind, ()))


def share(text: str) -> float:
    """Parse a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        hint = f": for {value:g} percent give {value / 100:g}" if 1 < value <= 100 else ""
        raise argparse.ArgumentTypeError(f"needed a number from 0 to 1, got {text!r}{hint}")
    return value


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    return whole(text, 1)


def whole(text: str, least: int = 0, most: int = 2**31 - 1) -> int:
    """Parse a whole number from `least` to `most`."""
    number = int(text[:20]) if text.isdecimal() else -1
    if not least <= number <= most:
        limit = f" to {most}" if number > most else ""
        raise argparse.ArgumentTypeError(f"needed a whole number from {least} up{limit}, got {text[:40]!r}")
    return number


def classes(text: str) -> str:
    """Check a comma-separated list of class names or ids."""
    if not text.replace(",", "").strip():
        raise argparse.ArgumentTypeError("needed names or ids, separated by commas, got none")
    return text


def _formats(text: str) -> tuple[str, ...]:
    try:
        return tuple(check_formats([name.strip() for name in text.split(",") if name.strip()]))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}: put commas between them") from None


_CLOCK = re.compile(r"(?:(\d+):([0-5]?\d)|(\d+)):([0-5]?\d(?:\.\d*)?)", re.ASCII)
_DAY_S = 86_400.0


def seconds(text: str) -> float:
    """Parse a time: 90, 1:30 or 0:01:30.5."""
    found = _CLOCK.fullmatch(text)
    try:
        hours, minutes, only_minutes, rest = found.groups(default="0") if found else ("0", "0", "0", text)
        total = 3600.0 * int(hours) + 60 * (int(minutes) + int(only_minutes)) + float(rest)
    except (ValueError, OverflowError):
        total = -1.0
    if not 0 <= total < float("inf"):
        wanted = "seconds, M:SS or H:MM:SS"
        raise argparse.ArgumentTypeError(f"needed {wanted}, got {text!r}")
    return total


def _positive_float(text: str) -> float:
    value = seconds(text)
    if not 0 < value <= _DAY_S:
        raise argparse.ArgumentTypeError(f"needed more than 0 seconds, up to a day, got {text!r}")
    return value


def _stride(text: str) -> int:
    # The resulting frame rate has to be a fraction of 32-bit numbers.
    return whole(text, 1, 1_000_000)


def _command(text: str) -> tuple[str, ...] | str:
    """Split a command as a POSIX shell splits words; Windows does that itself."""
    try:
        words = shlex.split(text, posix=os.name != "nt")
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{str(error).lower()} in {text!r}") from None
    if not words or shutil.which(words[0].strip('"')) is None:
        raise argparse.ArgumentTypeError(f"there is no program {words[0] if words else text!r:.60}")
    return text if os.name == "nt" else tuple(words)


def _every(text: str) -> Every:
    try:
        return check_every(int(text) if text.isdecimal() else text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"needed a whole number from 1 to 60, or auto, got {text[:40]!r}") from None


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"needed a size like 640x480, got {text!r}")
    return int(width), int(height)


def _rate(text: str) -> Fraction:
    frames, slash, per = text.partition("/")
    try:
        rate = Fraction(float(frames)) / Fraction(float(per) if slash else 1)
    except (ValueError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if not Fraction(1, 1000) <= rate <= 1000:
        wanted = "frames per second from 0.001 to 1000, such as 25 or 30000/1001"
        raise argparse.ArgumentTypeError(f"needed {wanted}, got {text[:40]!r}")
    # Like that of a file, it has to be a fraction of 32-bit numbers.
    return rate.limit_denominator(100_000)
