"""Write docs/command-line.md, the reference of every verb and flag, from the parsers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from cvmask.cli.main import build_parser

PAGE = Path(__file__).resolve().parents[2] / "docs" / "command-line.md"
_OWN = (argparse._HelpAction, argparse._SubParsersAction)
HEAD = """\
# Command line

This page is made from the parsers by `scripts/run command_line`. `cvmask VERB --help` says the same.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some inputs failed, 130 interrupted. With 3, each input that failed is
named on stderr; `batch` lists them in its table.
"""


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The verbs of a parser by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def row(action: argparse.Action) -> str:
    """One line of a table: the flag with its value, and what it means."""
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    meaning = (action.help or "") % {"default": action.default, "prog": "cvmask"}
    if action.nargs == 0:
        return f"| {names} | {meaning} |"
    value = action.metavar or action.dest.upper()
    if action.choices and not action.metavar:
        meaning += f"; one of {', '.join(map(str, action.choices))}"
    return f"| {names} `{value}` | {meaning} |".replace("|  `", "| `")


def tables(name: str, parser: argparse.ArgumentParser, seen: dict[str, str]) -> Iterator[str]:
    """The tables of one verb; a group that an earlier verb has in full is named and not repeated."""
    unnamed = [action for group in parser._action_groups[:2] for action in group._group_actions]
    groups = [("", unnamed), *((group.title or "", group._group_actions) for group in parser._action_groups[2:])]
    for title, actions in groups:
        rows = [row(action) for action in actions if action.help != argparse.SUPPRESS and not isinstance(action, _OWN)]
        if not rows:
            continue
        body = "| argument | meaning |\n|---|---|\n" + "\n".join(rows) + "\n"
        if title and seen.get(body):
            yield f"Flags for the {title}: those of [{seen[body]}](#{seen[body].replace(' ', '-')}).\n"
            continue
        seen.setdefault(body, name)
        yield f"{title.capitalize()}:\n\n{body}" if title else body


def page() -> str:
    """The whole page."""
    parts, seen = [HEAD], dict[str, str]()
    todo = list(subcommands(build_parser()).items())
    while todo:
        name, parser = todo.pop(0)
        parts.append(f"## {name}\n\n{parser.description or ''}\n".replace("\n\n\n", "\n"))
        parts += tables(name, parser, seen)
        todo = [(f"{name} {verb}", inner) for verb, inner in subcommands(parser).items()] + todo
    return "\n".join(parts)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
