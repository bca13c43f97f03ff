"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Callable

from cvmask.errors import CvmaskError, ModelError, SinkError


def wrong_name(name: str) -> str:
    """Say why OpenCV and FFmpeg must not be given a full path, or an address: they may crash. "" if they may."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name, or that of its folder, is not UTF-8: rename it"
    return "a name has no null character" if "\0" in name else ""


_LONGEST_NAME = 255  # bytes that common file systems take


def fit_name(stem: str, ending: str = "", longest: int = _LONGEST_NAME) -> str:
    """Join a file's name of stem and ending; a stem that is too long is cut, and a hash keeps it apart from others.

    Parameters
    ----------
    longest
        Bytes that the whole name may have.
    """
    raw, room = os.fsencode(stem), longest - len(os.fsencode(ending))
    if len(raw) <= room:
        return stem + ending
    mark = "~" + hashlib.sha256(raw).hexdigest()[:8]
    return raw[: room - len(mark)].decode("utf-8", "ignore") + mark + ending


_NOT_ON_WINDOWS = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def portable_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """Turn what may be anybody's text into the name of a file in one folder, on every system.

    What Windows refuses in names becomes ``_``: characters, dots and spaces at the end, names of devices; so do bytes
    that are not UTF-8. A name that is too long is cut before its ending. Different texts may become one name.

    Source: Microsoft, "Naming Files, Paths, and Namespaces".
    """
    name = _NOT_ON_WINDOWS.sub("_", name.encode(errors="replace").decode().replace("\ufffd", "_"))
    kept = name.rstrip(". ")
    name = kept + "_" * (len(name) - len(kept)) or "_"
    name = f"_{name}" if _DEVICE.match(name) else name
    if len(name.encode()) <= longest:
        return name
    ending = os.path.splitext(name)[1][-10:]
    return name.encode()[: longest - len(ending.encode())].decode(errors="ignore") + ending


@contextlib.contextmanager
def whole_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name beside `path` to write to, of the same ending; it becomes `path` once the block has ended well.

    If the block raises, nothing is left and a file that was there before stays. Missing folders are made. Of a
    link, it is the file that it leads to; a file that is replaced leaves its permissions to the new one.

    Raises
    ------
    SinkError
        If the place cannot be written to, or what is there is no file: a pipe or a device stays.
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
    check_is_file(path)
    target = Path(os.path.realpath(path))
    part = target.parent / f".{uuid.uuid4().hex}.part{path.suffix}"
    try:
        with _named(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with contextlib.suppress(OSError):  # there was no file before, or the file system knows no permissions
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        with _named(path):
            os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise SinkError where something lies that is no file: a folder, a pipe, a device. A link is what it leads to."""
    with _named(Path(path)):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if os.path.exists(path) and not os.path.isfile(path):
        raise SinkError(f"{os.fspath(path)} is a pipe or a device, which cannot be replaced: name a file")


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


MAX_LINE_BYTES = 1 << 28


class LineTooLong(ValueError):
    """A line of a file is longer than any that was written for its reader."""


def bounded_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Give the number of each line, from 1, and the line; LineTooLong for one of more than 256 MB, as in a device."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise LineTooLong(f"line {number} is longer than {size_text(MAX_LINE_BYTES)}: these are no JSON lines")
        yield number, line


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file; SinkError if it cannot be written."""
    with whole_file(path, "wb") as file:
        file.write(content)


def read_text(path: str | os.PathLike[str]) -> str:
    """Read UTF-8 text, with or without a byte order mark; CvmaskError if it cannot be read or is something else."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CvmaskError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except OSError as error:
        raise CvmaskError(f"{path}: cannot be read: {error.strerror or error}") from error


_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CLOSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def size_text(n_bytes: int) -> str:
    """Write a size as people read it: ``178 MB``, ``12 kB``."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= factor:
            value = n_bytes / factor
            return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}"
    return f"{n_bytes} bytes"


class DiskError(ModelError):
    """What the file system refuses, as against what is wrong with a file."""


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn what the system refuses while a folder is written to into a DiskError.

    Raises
    ------
    DiskError
        For any OSError of the block: full disk, no permission, read-only, a file in the way.
    """
    try:
        yield
    except OSError as error:
        raise DiskError(_refusal(folder, error)) from error


def need_free(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what cannot end.

    Raises
    ------
    DiskError
        If the disk of `folder` has less than `needed_bytes` free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskError(
            f"the disk of {folder} has {size_text(free_bytes)} free, {size_text(needed_bytes)} are needed: "
            "make room, or set CVMASK_HOME to a folder on another disk"
        )


def _refusal(folder: Path, error: OSError) -> str:
    if error.errno in _FULL:
        return f"the disk of {folder} is full: make room, or set CVMASK_HOME to a folder on another disk"
    if error.errno in _CLOSED:
        return f"no permission to write to {folder}: set CVMASK_HOME to a folder that is yours"
    reason = error.strerror or str(error)
    return f"cannot write to {folder} ({reason}): set CVMASK_HOME to a folder that can be written"


POLL_S = 0.2


@contextmanager
def locked(path: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file `path` for the time of the block; wait as long as another holds it.

    The file itself stays: removing it would let two processes lock two files of one name.

    Parameters
    ----------
    path
        The lock file; it and its folder are made if need be.
    on_wait
        Called once, if there is someone to wait for.

    Raises
    ------
    ModelError
        If the file cannot be made, or its file system knows no locks.
    """
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _wait(handle, path, on_wait)
        yield
    finally:
        # Closing is unlocking, on every system.
        os.close(handle)


def _wait(handle: int, path: Path, on_wait: Callable[[], None]) -> None:
    told = False
    while not _try_lock(handle, path):
        if not told:
            on_wait()
            told = True
        time.sleep(POLL_S)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(handle: int, path: Path) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

else:
    import fcntl

    def _try_lock(handle: int, path: Path) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise ModelError(
                f"{path.parent} knows no file locks ({error.strerror}): set CVMASK_HOME to a local folder"
            ) from error
        return True
