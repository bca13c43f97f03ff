"""The options that a verb's flags become: those of the Python API, with its defaults, and seen by the verbs alone."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import cvmask
from cvmask.batches.options import Options
from cvmask.cli.edit import EditOptions
from cvmask.cli.main import VERBS, build_parser
from cvmask.cli.options import (
    DrawingOptions,
    ModelOptions,
    OutputOptions,
    RunOptions,
    StreamOptions,
    drawing_options,
    take,
)
from cvmask.cli.render import RenderOptions
from cvmask.cli.serve import ServeOptions
from cvmask.drawing.effects import make_effect
from cvmask.streams.replay import render

CLI = ROOT / "cvmask" / "cli"


def defaults(*functions: Callable[..., Any]) -> dict[str, Any]:
    return {
        name: parameter.default
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
    }


@pytest.mark.parametrize(
    ("options", "functions", "chosen"),
    [
        (ModelOptions, [cvmask.load], {}),
        # None: as suits the source.
        (StreamOptions, [cvmask.open_source, cvmask.annotate], {"workers": None, "detect_every": None}),
        (DrawingOptions, [cvmask.draw], {}),
        (Options, [cvmask.batch], {}),
        (EditOptions, [make_effect], {"effect": dataclasses.MISSING}),
        (RenderOptions, [render, cvmask.draw], {}),
    ],
)
def test_options_have_the_names_and_defaults_of_the_python_api(
    options: Any, functions: list[Callable[..., Any]], chosen: dict[str, Any]
) -> None:
    known = {**defaults(*functions), **chosen}
    for option in dataclasses.fields(options):
        if option.name in ("source", "detections"):  # that which is rendered
            continue
        default = known[option.name]
        assert option.default == (dataclasses.MISSING if default is inspect.Parameter.empty else default), option.name
    assert options.__dataclass_params__.frozen


@pytest.mark.parametrize(
    ("argv", "kinds"),
    [
        (["predict", "a.png"], [ModelOptions, StreamOptions, OutputOptions]),
        (["edit", "a.png", "--effect", "spotlight"], [ModelOptions, StreamOptions, OutputOptions]),
        (["batch", "in", "-o", "out"], [ModelOptions, Options]),
        (["benchmark"], [ModelOptions]),
        (["serve"], [ServeOptions, ModelOptions]),
    ],
)
def test_flags_that_are_not_given_are_those_defaults(argv: list[str], kinds: list[Any]) -> None:
    args = build_parser().parse_args(argv)
    for kind in kinds:
        found = take(kind, args)
        assert dataclasses.astuple(found) == tuple(option.default for option in dataclasses.fields(kind))


def test_the_drawing_flags_that_are_not_given_draw_as_the_python_api_does() -> None:
    found = drawing_options(build_parser().parse_args(["predict", "a.png"]))
    assert dataclasses.astuple(found) == dataclasses.astuple(RunOptions(["a.png"]).drawing)


def namespaces(path: Path) -> Iterator[str]:
    """The functions of a module that take what argparse parsed."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            hints = [ast.unparse(one.annotation) for one in given if one.annotation is not None]
            if any("Namespace" in hint for hint in hints) or any(one.arg == "args" for one in given):
                yield getattr(node, "name", "lambda")


def test_only_the_edge_of_a_verb_sees_what_argparse_parsed() -> None:
    verbs = {Path(str(verb.__file__)).stem for verb in VERBS}
    for path in sorted((ROOT / "cvmask").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        imports = "argparse" in {
            alias.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for alias in node.names
        }
        is_verb = path.parent == CLI and path.stem in verbs
        allowed = is_verb or (path.parent == CLI and path.stem in ("options", "main"))
        assert allowed or not imports, f"{path} imports argparse"
        if is_verb:
            assert list(namespaces(path)) == ["run"], f"{path}: only run may take the Namespace"
        elif not allowed:
            assert not re.search(r"\bNamespace\b", source), path
    assert set(namespaces(CLI / "options.py")) == {"take", "drawing_options"}
