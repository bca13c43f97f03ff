from __future__ import annotations

import ast
import configparser
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import cvmask

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "cvmask"

# From the ground floor up, as in the design: a module imports from its own floor or from below.
FLOORS = (
    ("errors",),
    ("system",),
    ("scenes",),
    ("results",),
    ("graph",),
    ("runtime",),
    ("models",),
    ("drawing",),
    ("formats",),
    ("streams",),
    ("batches",),
    ("serve",),
    ("cli",),
)


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def floor_of(dotted: str) -> int | None:
    """The floor of cvmask.x.y; None for the package itself."""
    parts = dotted.split(".")
    name = parts[1] if parts[0] == "cvmask" and len(parts) > 1 else "__init__"
    if name.startswith("__") or not ((PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()):
        return None
    found = [i for i, names in enumerate(FLOORS) if name in names]
    assert found, f"cvmask.{name} has no floor: add it to FLOORS"
    return found[0]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = floor_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        return
    for name in imports(path):
        floor = floor_of(name)
        assert floor is None or floor <= own, f"{path.name} imports {name} from a floor above"


def test_only_runtime_touches_the_networks_of_opencv() -> None:
    for path in modules():
        uses = "cv2.dnn" in path.read_text(encoding="utf-8").replace("``", "")
        code = ast.parse(path.read_text(encoding="utf-8"))
        real = any(
            isinstance(node, ast.Attribute) and node.attr == "dnn" and getattr(node.value, "id", "") == "cv2"
            for node in ast.walk(code)
        )
        assert not (uses and real) or path.parent.name == "runtime", f"{path} uses cv2.dnn"


def test_graphs_and_decoding_do_without_opencv() -> None:
    for path in [*(PACKAGE / "graph").glob("*.py"), PACKAGE / "runtime" / "decode.py"]:
        assert not any(name.split(".")[0] == "cv2" for name in imports(path)), path


def test_nothing_imports_tensorflow() -> None:
    for path in modules():
        assert not any(name.split(".")[0] in ("tensorflow", "torch") for name in imports(path)), path


def test_every_package_is_in_the_metadata() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split()) - {"cvmask.bundled"}
    assert listed == {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}


def test_the_top_names_are_documented() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in cvmask.__all__:
        if not name.startswith("__") and not name.endswith("Error"):
            assert f"cvmask.{name}" in readme or f"`{name}`" in readme, f"{name} is not in README.md"


def test_import_does_without_what_only_loading_needs() -> None:
    later = ("urllib.request", "tarfile", "ray", "pyarrow", "cvmask.graph")
    code = f"import sys, cvmask; print([m for m in {later} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_the_drawing_of_the_rooms_is_that_of_the_imports() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "dev" / "draw_rooms.py"))
    assert script["drawing"]() in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), (
        "run scripts/run draw_rooms"
    )


def test_no_two_modules_of_a_room_below_the_command_line_share_a_name() -> None:
    names = [path.stem for path in modules() if path.parent.name not in ("cli", "cvmask") and path.stem != "__init__"]
    assert len(names) == len(set(names)), sorted(name for name in set(names) if names.count(name) > 1)


def test_only_the_command_line_knows_argparse() -> None:
    for path in modules():
        assert path.parent.name == "cli" or "argparse" not in imports(path), path


def test_modules_are_neither_fragments_nor_halls() -> None:
    for path in modules():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 600, f"{path} has more than 600 lines"


def test_every_script_of_the_table_is_described() -> None:
    names = set(re.findall(r"^   (\w+) +\.venv", (ROOT / "scripts" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    page = (ROOT / "scripts" / "dev" / "README.md").read_text(encoding="utf-8")
    assert names == set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
