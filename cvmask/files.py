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
def whole_file(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing beside its place, and put it there once the block has ended well.

    If the block raises, nothing is left and a file that was there before stays. Text is UTF-8 with
    line ends as written. Missing folders are made.

    Raises
    ------
    SinkError
        If the place cannot be written to, or the disk is full.
    """
    path = Path(path)
    part = path.parent / f".{uuid.uuid4().hex}.part"
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with _named(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(part, mode.replace("w", "x"), **text)  # type: ignore[call-overload]  # noqa: SIM115
        # An error of writing names no file, that of another file in the block does.
        with _named(path, unnamed_only=True), file:
            yield file
        with _named(path):
            os.replace(part, path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


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
