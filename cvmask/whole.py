"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvmask.errors import SinkError


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path to write to; when the block ends well that file takes the place of `path`.

    When the block ends in an exception nothing is left behind and an older `path` stays as it was.
    The missing folders of `path` are made.

    Raises
    ------
    SinkError
        If the folder or file cannot be written; OSErrors of the block become one too.
    """
    final = Path(path)
    # The ending stays: writers choose their format by it.
    part = final.with_name(f".{final.stem[:100]}.{secrets.token_hex(4)}{final.suffix}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, final)
    except OSError as error:
        raise SinkError(f"{final} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink()


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes to a file, whole or not at all; SinkError as of `whole_file`."""
    with whole_file(path) as part:
        part.write_bytes(data)
