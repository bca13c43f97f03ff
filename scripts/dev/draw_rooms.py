"""Draw the rooms of the package and their arrows into docs/architecture.md."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, PAGE = ROOT / "cvmask", ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: scripts/run draw_rooms -->\n", "<!-- end -->\n"


def rooms() -> list[str]:
    """Packages and loose modules of cvmask, without its own __init__ and __main__."""
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    return sorted(name for name in found if not name.startswith("_"))


def arrows() -> dict[str, set[str]]:
    """For each room those that its modules import."""
    result: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("cvmask"):
                continue
            for alias in node.names:
                parts = f"{node.module}.{alias.name}".split(".")
                if parts[1] in rooms() and parts[1] != room and not room.startswith("_"):
                    result[room].add(parts[1])
    return result


def drawing() -> str:
    """The rooms in Mermaid; an arrow that follows from two others is left out, and so are those to `errors`."""
    graph = arrows()

    def below(room: str) -> set[str]:
        return graph[room].union(*(below(other) for other in graph[room])) if graph[room] else set()

    lines = []
    for room in rooms():
        indirect = set().union(*(below(other) for other in graph[room])) if graph[room] else set()
        lines += [f"    {room} --> {other}" for other in sorted(graph[room] - indirect - {"errors"})]
    return "```mermaid\ngraph TD\n" + "\n".join(lines) + "\n```\n"


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + BEGIN + drawing() + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
