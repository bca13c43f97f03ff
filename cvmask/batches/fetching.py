"""Videos from afar: copied once to each machine, since decoding needs a file."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pyarrow as pa

from cvmask.batches.storage import LOCAL, Place, one_line
from cvmask.errors import SourceError
from cvmask.system.lock import locked

_KEPT = 4  # the newest so many stay: the workers of a machine go through a video together
_CHUNK_BYTES = 8 << 20
_USERS = "users.lock"


def local_file(place: Place, run: str) -> str:
    """Give a path on this machine for a file; it stays until this process asks for another one, or ends.

    Raises
    ------
    SourceError
        If it cannot be read.
    """
    if place.root == LOCAL:
        return place.path
    folder, mine = _folders(run)
    name = hashlib.sha256(repr(place).encode()).hexdigest()[:16] + Path(place.path).suffix
    path = folder / name
    for old in mine.iterdir():
        old.unlink()
    with locked(folder / f"{name}.lock", _wait):
        if not path.exists():
            _copy(place, path)
        os.utime(path)
        # Others may remove the copy, when they have fetched enough newer ones, but not this name of it.
        os.link(path, mine / name)
    others = [one for one in folder.iterdir() if one.is_file() and one.suffix not in (".lock", ".part")]
    for old in sorted(others, key=_age)[_KEPT:]:
        with suppress(OSError):
            old.unlink()
    return str(mine / name)


@cache
def _folders(run: str) -> tuple[Path, Path]:
    """Make the folder of a run on this machine, and that of this process in it; whoever ends last removes them."""
    folder = Path(tempfile.gettempdir()) / f"cvmask-batch-{run}"
    mine = folder / f"of-{os.getpid()}"
    with locked(folder / _USERS, _wait):
        mine.mkdir(parents=True, exist_ok=True)
    atexit.register(_leave, folder, mine)
    return folder, mine


def _leave(folder: Path, mine: Path) -> None:
    with locked(folder / _USERS, _wait):
        shutil.rmtree(mine, ignore_errors=True)
        # One that was killed has left nothing but its folder.
        if not any(_is_alive(int(one.name[3:])) for one in folder.glob("of-*")):
            shutil.rmtree(folder, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _copy(place: Place, path: Path) -> None:
    part = path.with_suffix(".part")
    try:
        with place.filesystem.open_input_stream(place.path) as source, open(part, "wb") as target:
            while data := source.read(_CHUNK_BYTES):
                target.write(data)
    except (OSError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        reason = "no such file" if missing else one_line(error)
        raise SourceError(f"{place.shown}: cannot be read: {reason}") from None
    os.replace(part, path)


def _age(path: Path) -> float:
    try:
        return -path.stat().st_mtime
    except OSError:
        return 0.0


def _wait() -> None:
    """Another worker copies the same video: nobody needs to be told."""
