"""The command `cvmask`: its verbs, one-line errors, exit codes."""

from __future__ import annotations

import argparse
import difflib
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NoReturn

import cv2

from cvmask import __version__
from cvmask.cli import batch, benchmark, demo, doctor, edit, evaluate, models, predict, render, serve
from cvmask.cli.options import UsageError
from cvmask.cli.progress import say
from cvmask.errors import CvmaskError
from cvmask.runtime.net import reason
from cvmask.system.interrupts import INTERRUPTED, raise_as_usual, terminated_as_interrupted
from cvmask.system.process import prepare_streams, printable, reuse_large_blocks

DONE, FAILED, WRONG_USAGE, SOME_FAILED = 0, 1, 2, 3
VERBS: tuple[ModuleType, ...] = (predict, edit, render, serve, batch, demo, models, doctor, benchmark, evaluate)

EXAMPLES = """\
examples:
  cvmask demo                                   see it work, with the bundled models
  cvmask predict -m shapes scene.png -o out     one picture
  cvmask predict photos/ -o out --save-json     a folder, with boxes, scores and masks as JSON
  cvmask predict -m shapes in.mp4 -o out.mp4    a video
  cvmask predict -m shapes 0 --show             a camera
  cvmask edit photos/ --effect blur-background  another background, or objects nobody can recognise
  cvmask serve -m shapes 0                      a camera as a web page, and an HTTP interface
  cvmask batch archive/ -o found                all processors, any number of files, into Parquet
  cvmask models download coco                   get the COCO model (90 classes)

exit codes: 0 done, 1 failed, 2 wrong usage, 3 some inputs failed, 130 interrupted
"""


_WITH_COMMAS = ("--classes", "--save")


class Parser(argparse.ArgumentParser):
    """Reports errors in one line, because argparse's usage text would push them off the screen."""

    def error(self, message: str) -> NoReturn:
        """End with code 2."""
        self.exit(WRONG_USAGE, f"{self.prog}: error: {printable(message)} (see `{self.prog} --help`)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """End with code 2 for unknown flags: argparse would report them for the command, without the verb's flags.

        Sources may stand before and after flags.
        """
        if args is not None and self._subparsers is None:
            self._refuse_empty(args)
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            if args is not None and (before := _flag_before(args, unknown[0])) in _WITH_COMMAS:
                self.error(f"{before} takes one value: separate several by commas, as in {before} a,b")
            sources = vars(known).get("sources")
            if isinstance(sources, list) and all(word == "-" or not word.startswith("-") for word in unknown):
                # argparse does not accept positional arguments on both sides of a flag.
                sources += unknown
                return known, []
            flag = unknown[0].split("=")[0]
            names = {name.lstrip("-"): name for name in self._option_string_actions}
            near = difflib.get_close_matches(flag.lstrip("-"), names, 1)
            self.error(f"unknown argument {flag}{f', did you mean {names[near[0]]}?' if near else ''}")
        return known, unknown

    def _refuse_empty(self, args: Sequence[str]) -> None:
        """End with code 2 for an empty argument: as a path it would be the working folder."""
        for before, argument in zip([self.prog, *args], args):
            flag, sign, value = argument.partition("=")
            given = flag if flag.startswith("--") and sign and not value else ""
            if given or not argument:
                self.error(f"the value after {given or before} is empty: is a variable not set?")


def _flag_before(args: Sequence[str], word: str) -> str:
    """Return the flag that this word follows, directly or after other words; "" if it is a flag itself."""
    before = [argument for argument in args[: args.index(word)] if argument.startswith("-")] if word in args else []
    return before[-1] if before and not word.startswith("-") else ""


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command."""
    parser = Parser(
        prog="cvmask",
        description="Mask R-CNN instance segmentation with nothing but OpenCV and NumPy.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=version_text())
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS:
        verb.add_parser(subparsers)
    return parser


def version_text() -> str:
    import cv2
    import numpy

    return f"cvmask {__version__} (OpenCV {cv2.__version__}, NumPy {numpy.__version__})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    prepare_streams()
    reuse_large_blocks()
    parser = build_parser()
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help(sys.stderr)
        return WRONG_USAGE
    args = parser.parse_args(argv)
    verb = next(v for v in VERBS if v.__name__.rsplit(".", 1)[-1] == args.verb)
    try:
        raise_as_usual()
        with terminated_as_interrupted():
            return int(verb.run(args))
    except CvmaskError as error:
        if os.environ.get("CVMASK_DEBUG") == "1":
            raise
        return _fail(str(error))
    except UsageError as error:
        return _fail(str(error), WRONG_USAGE)
    except KeyboardInterrupt as interrupt:
        if isinstance(interrupt.__cause__, CvmaskError):  # an output that could not be finished
            say(f"cvmask: {interrupt.__cause__}", error=True)
        say("cvmask: interrupted", error=True)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of stdout has ended, as in `cvmask ... | head`: nobody would see a message.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)  # Windows does not name it
    except (MemoryError, OSError, cv2.error) as error:
        if os.environ.get("CVMASK_DEBUG") == "1":
            raise
        return _fail(_why(error))


def _why(error: Exception) -> str:
    if isinstance(error, cv2.error):
        return reason(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or "out of memory"


def _fail(message: str, code: int = FAILED) -> int:
    say(f"cvmask: error: {' '.join(message.split())}", error=True)
    return code
