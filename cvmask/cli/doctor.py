"""cvmask doctor: what this machine can do, and what to do about the rest."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Callable

from cvmask.cli.checkup import CHECKS
from cvmask.cli.finding import PROBLEM, Finding
from cvmask.errors import CvmaskError
from cvmask.system.folders import cache_home

WIDTH = 27
# What a bug report calls the folders that tell who or where the user is.
_FOLDERS: dict[str, Callable[[], str | Path]] = {
    "CACHE": cache_home,
    "INSTALLED": lambda: Path(__file__).resolve().parents[2],
    "PYTHON": lambda: sys.prefix,
    "TEMPORARY": tempfile.gettempdir,
    "HERE": os.getcwd,
    "HOME": lambda: os.path.expanduser("~"),
}
EPILOG = """\
Ends with 0 where nothing is wrong and 1 where something is. Runs the bundled model on every target:
on a machine with OpenCL the first time takes a while.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what works on this machine and what to do about the rest",
        description="Check OpenCV, targets, video, windows and models on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON for a bug report, without personal paths")


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code: 1 if there is a problem."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not args.json:
            print(line(finding), flush=True)
    if args.json:
        print(without_paths(json.dumps([asdict(finding) for finding in findings], indent=1)))
    return int(any(finding.state == PROBLEM for finding in findings))


def examine() -> Iterator[Finding]:
    """All findings; a check that breaks is a finding too."""
    for check in CHECKS:
        try:
            yield from check()
        except (CvmaskError, OSError, ValueError, RuntimeError) as error:
            yield Finding(check.__name__.replace("check_", ""), PROBLEM, f"the check failed: {error}")


def line(finding: Finding) -> str:
    """The finding for people."""
    sign = {"ok": "ok   ", "note": "note ", "problem": "WRONG"}[finding.state]
    cure = f"\n      {'':{WIDTH}} -> {finding.cure}" if finding.cure else ""
    return f"{sign} {finding.topic:{WIDTH}} {finding.text}{cure}"


def without_paths(text: str) -> str:
    """Replace folders that tell who or where the user is; `text` is JSON."""
    folders = {}
    for name, find in _FOLDERS.items():
        with suppress(CvmaskError, OSError):  # a user without a home, a working folder that is gone
            folders[str(find())] = name
    for folder, name in sorted(folders.items(), key=lambda item: -len(item[0])):
        if len(folder) > 1:
            text = text.replace(json.dumps(folder)[1:-1], name)
    return re.sub(r'(/home/|/Users/|[A-Za-z]:\\\\+Users\\\\+)[^/\\" ]+', "HOME", text)
