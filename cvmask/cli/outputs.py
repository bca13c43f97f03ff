"""The files that a run of predict or edit writes: planned once, checked, and handed on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvmask.cli.inputs import Input, is_file, stem_of
from cvmask.cli.options import ALPHA_SUFFIXES, PICTURE_SUFFIXES, OutputOptions
from cvmask.errors import SinkError
from cvmask.formats.saver import FILES, check_names
from cvmask.streams.sinks.encoders import CODECS
from cvmask.streams.sinks.sink import file_id, file_ids
from cvmask.streams.sources.opening import ADDRESS
from cvmask.system.files import fit_name, wrong_name

_LONGEST_STEM = 240  # bytes: leaves room for a number and any ending


@dataclass(frozen=True)
class Plan:
    """The files of each source, by its path.

    Attributes
    ----------
    pictures
        The annotated picture of each picture.
    videos
        The video of each video or stream; JSON lines go beside it.
    save_json
        Whether there are JSON files beside them.
    """

    pictures: Mapping[str, Path]
    videos: Mapping[str, Path]
    save_json: bool

    def of(self, source: str) -> list[Path]:
        """Return all files of one source, the picture or the video first."""
        if source in self.pictures:
            main, suffix = self.pictures[source], ".json"
        else:
            main, suffix = self.videos[source], ".jsonl"
        beside = main.with_suffix(suffix)
        return [main, beside] if self.save_json and beside != main else [main]


def plan_outputs(inputs: Sequence[Input], output: OutputOptions, alpha: bool = False) -> Plan:
    """Name all files that will be written, and check that none replaces another output or a source.

    Parameters
    ----------
    inputs
        Two of the same name get "_2", "_3" and so on.
    output
        The destination is a folder, or a file for a single source, as checked by `Destination.check`.
    alpha
        Whether the pictures have transparency: then a ``.jpg`` becomes a ``.png``.

    Raises
    ------
    SinkError
        If a result would replace any source, two results are the same file, or no encoder accepts the name of
        a video.
    """
    target, one_file = output.destination
    suffixes = ALPHA_SUFFIXES if alpha else PICTURE_SUFFIXES
    names: tuple[set[str], set[str]] = (set(), set())
    pictures, videos = dict[str, Path](), dict[str, Path]()
    for one in inputs:
        stem = _free_stem(stem_of(one.path) if one.stream else Path(one.path).stem, names[one.stream])
        suffix = Path(one.path).suffix.lower()
        ending = ".mp4" if one.stream else suffix if suffix in suffixes else ".png"
        (videos if one.stream else pictures)[one.path] = target if one_file else target / (stem + ending)
    plan = Plan(pictures, videos, output.save_json)
    # An address may be a video, which is written; sources that are certainly live are not.
    written = [one for one in inputs if is_file(one.path) or one.kind == ADDRESS or not output.only_shown]
    # An address may contain a password.
    planned = [(path, one.path if is_file(one.path) else one.name) for one in written for path in plan.of(one.path)]
    _refuse_names(planned)
    _refuse_replacing(planned, [one.path for one in inputs])
    if output.save:
        _refuse_writing_twice(planned, output.save, output.destination.folder)
        named = {stream: [one.name for one in inputs if one.stream == stream] for stream in (False, True)}
        check_names(named[False], named[True], output.save)
    return plan


def _refuse_names(planned: Sequence[tuple[Path, str]]) -> None:
    for path, _ in planned:
        if path.suffix.lower() in CODECS and (wrong := wrong_name(os.path.abspath(path))):
            raise SinkError(f"{path}: {wrong}")


def _refuse_replacing(planned: Sequence[tuple[Path, str]], sources: Sequence[str]) -> None:
    """Raise SinkError if a planned file, given with its source, is one of the sources."""
    read = file_ids(sources)
    for path, source in planned:
        found = file_id(path)
        if found in read:
            whose = "its" if found == file_id(source) else "another"
            raise SinkError(f"{path} would replace {whose} source: give another name or folder with -o")


def _refuse_writing_twice(planned: Sequence[tuple[Path, str]], formats: Sequence[str], folder: Path) -> None:
    # Many file systems do not distinguish A and a.
    saved = {str(folder / name).casefold(): kind for kind in formats for name in FILES.get(kind, ())}
    for path, source in planned:
        kind = saved.get(str(path).casefold())
        if kind is not None:
            raise SinkError(
                f"{path} would be written for {source} and by --save {kind}: leave one out, or rename one"
            )


def _free_stem(stem: str, taken: set[str]) -> str:
    """Return a name that no other source has, ignoring case, and add it to `taken`.

    Names are compared without their endings, so that files beside an output are unique too.
    """
    stem = fit_name(stem, longest=_LONGEST_STEM)
    free, number = stem, 1
    while free.casefold() in taken:
        number += 1
        free = f"{stem}_{number}"
    taken.add(free.casefold())
    return free
