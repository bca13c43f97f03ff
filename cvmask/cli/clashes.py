"""Before anything is done: no result may replace a source of the run, or another result."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from cvmask.cli.inputs import Input
from cvmask.cli.outputs import free_stem
from cvmask.cli.run_stream import is_file, output_names, stem_of
from cvmask.errors import SinkError
from cvmask.formats.formats import FILES
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sinks.replacing import file_id, file_ids
from cvmask.system.files import wrong_name


def check_clashes(
    args: argparse.Namespace, inputs: Sequence[Input], pictures: Sequence[tuple[Path, str]], saved_in: Path | None
) -> None:
    """Hold all files that will be written against each other and against those that are read.

    Parameters
    ----------
    pictures
        Those that will be written, each with its source.
    saved_in
        The folder of what ``--save`` writes; None: it was not given.

    Raises
    ------
    SinkError
        If a result would replace a source, be it that of another result, two are one file, or a video has a
        name that no encoder takes.
    """
    planned = [*pictures, *_beside(args, pictures), *_of_streams(args, inputs)]
    _refuse_names(planned)
    _refuse_replacing(planned, [one.path for one in inputs])
    if saved_in is not None:
        _refuse_writing_twice(planned, args.save, saved_in)


def _beside(args: argparse.Namespace, pictures: Sequence[tuple[Path, str]]) -> list[tuple[Path, str]]:
    return [(path.with_suffix(".json"), source) for path, source in pictures] if args.save_json else []


def _of_streams(args: argparse.Namespace, inputs: Sequence[Input]) -> list[tuple[Path, str]]:
    only_shown = args.output is None and args.show
    taken: set[str] = set()
    planned = []
    for one in inputs:
        if one.stream:
            stem, from_file = free_stem(stem_of(one.path), taken), is_file(one.path)
            if from_file or not only_shown:
                source = one.path if from_file else one.name  # an address may hold a password
                planned += [(Path(name), source) for name in output_names(stem, args)]
    return planned


def _refuse_names(planned: Sequence[tuple[Path, str]]) -> None:
    for path, _ in planned:
        if path.suffix.lower() in CODECS and (wrong := wrong_name(os.path.abspath(path))):
            raise SinkError(f"{path}: {wrong}")


def _refuse_replacing(planned: Sequence[tuple[Path, str]], sources: Sequence[str]) -> None:
    """Raise SinkError if a file that will be written, here with its own source, is one of the sources."""
    read = file_ids(sources)
    for path, source in planned:
        found = file_id(path)
        if found in read:
            whose = "its" if found == file_id(source) else "another"
            raise SinkError(f"{path} would replace {whose} source: give another name or folder with -o")


def _refuse_writing_twice(planned: Sequence[tuple[Path, str]], formats: Sequence[str], folder: Path) -> None:
    # Many file systems take A and a for one.
    saved = {str(folder / name).casefold(): kind for kind in formats for name in FILES.get(kind, ())}
    for path, source in planned:
        kind = saved.get(str(path).casefold())
        if kind is not None:
            raise SinkError(
                f"{path} would be written for {source} and by --save {kind}: leave one out, or name them apart"
            )
