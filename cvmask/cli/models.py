"""The verb ``models``: what is at hand, downloads, and a look into files."""

from __future__ import annotations

import argparse
import sys
from typing import Callable

from cvmask import models
from cvmask.cli import models_convert, models_inspect
from cvmask.cli.offer import download_with_progress
from cvmask.errors import ModelError
from cvmask.models import table
from cvmask.models.table import GRAPH_FILE, KnownModel
from cvmask.models.zoo import places
from cvmask.system.disk import size_text

_Subparsers = argparse._SubParsersAction  # argparse gives its type no public name

_EPILOG = """\
Models lie in CVMASK_HOME (default: ~/.cache/cvmask). CVMASK_OFFLINE=1 forbids the network,
CVMASK_MIRROR=https://host/folder fetches from there, HTTP_PROXY and HTTPS_PROXY are used.
"""


def add_parser(subparsers: _Subparsers[argparse.ArgumentParser]) -> None:
    """Add this verb and its own verbs."""
    parser = subparsers.add_parser(
        "models",
        help="list, download, check, convert and inspect models",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="the known models, and which of them are here")
    for action, text in (
        ("download", "fetch a model; goes on where an earlier attempt stopped"),
        ("verify", "check the hashes of a model, and that it converts, splits and runs"),
        ("path", "print the folder of a model that is here"),
        ("remove", "remove a downloaded model"),
    ):
        verb = actions.add_parser(action, help=text, description=text)
        or_folder = ", or a folder" if action == "verify" else ""
        verb.add_argument("name", metavar="NAME", help=f"one of: {', '.join(models.NAMES)}{or_folder}")
    verb.add_argument(
        "--forget",
        action="store_true",
        help="also forget its recorded hash, so that the next download sets it anew",
    )
    models_convert.add_parser(actions)
    models_inspect.add_parser(actions)


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 0 done, 1 failed, 130 interrupted."""
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "download": _download,
        "verify": _verify,
        "path": _path,
        "remove": _remove,
        "convert": models_convert.run,
        "inspect": models_inspect.run,
    }
    return actions[args.action](args)


def _list(args: argparse.Namespace) -> int:
    width = max(map(len, models.NAMES))
    states = [_state(model) for model in models.known()]
    for model, state in zip(models.known(), states):
        print(f"{model.name:{width}}  {state:{max(map(len, states))}}  {model.summary}")
    return 0


def _state(model: KnownModel) -> str:
    folder = models.find(model.name)
    if folder is not None:
        return f"here ({size_text((folder / GRAPH_FILE).stat().st_size)})"
    if model.bundled:
        return "missing"
    part = places(model).part
    begun = f", {size_text(part.stat().st_size)} begun" if part.exists() else ""
    return f"to download ({size_text(model.archive_bytes)}{begun})"


def _download(args: argparse.Namespace) -> int:
    folder = models.find(args.name)
    if folder is not None:
        print(f"model {args.name!r} is here already", file=sys.stderr)
        print(folder)
        return 0
    try:
        folder = download_with_progress(args.name)
    except KeyboardInterrupt:
        print("interrupted: what came is kept, the same command goes on from there", file=sys.stderr)
        return 130
    print(folder)
    return 0


def _verify(args: argparse.Namespace) -> int:
    report = models.verify(args.name)
    print(report.folder)
    for line in report.passed:
        print(f"  ok    {line}")
    for line in report.problems:
        print(f"  WRONG {line}")
    return 0 if report.ok else 1


def _path(args: argparse.Namespace) -> int:
    table.get(args.name)
    print(models.resolve(args.name))
    return 0


def _remove(args: argparse.Namespace) -> int:
    gone = models.remove(args.name, forget=args.forget, say=_say)
    if not gone:
        folder = places(table.get(args.name)).folder
        raise ModelError(f"nothing of model {args.name!r} is here (looked at {folder})")
    for path in gone:
        print(f"removed {path}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
