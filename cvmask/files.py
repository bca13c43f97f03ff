"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cvmask.errors import SinkError


@contextlib.contextmanager
def whole_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name beside `path` to write to, of the same ending; it becomes `path` once the block has ended well.

    If the block raises, nothing is left and a file that was there before stays. Missing folders are made.

    Raises
    ------
    SinkError
        If the place cannot be written to.
    """
    path = Path(path)
    with _replaced(path) as part:
        with _named(path):
            # Libraries that write name the part, or say nothing, where a file cannot be made.
            part.touch(exist_ok=False)
            part.unlink()
        yield part


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    part = path.parent / f".{uuid.uuid4().hex}.part{path.suffix}"
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with _named(path):
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing; it appears at `path` as with `whole_path`. Text is UTF-8, line ends as written.

    A byte of a file's name that is not UTF-8 becomes ``\\udcff`` there, which JSON reads back as it was.

    Raises
    ------
    SinkError
        If the place cannot be written to, or the disk is full.
    """
    path = Path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with _replaced(path) as part:
        with _named(path):
            file = open(part, mode.replace("w", "x"), **text)  # type: ignore[call-overload]  # noqa: SIM115
        # An error of writing names no file, that of another file in the block does.
        with _named(path, unnamed_only=True), file:
            yield file


@contextlib.contextmanager
def _named(path: Path, unnamed_only: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if unnamed_only and error.filename is not None:
            raise
        raise SinkError(f"{path} cannot be written: {error.strerror or error}") from error


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file; SinkError if it cannot be written."""
    with whole_file(path, "wb") as file:
        file.write(content)
