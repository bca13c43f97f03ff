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
from typing import IO, Any, BinaryIO, Callable

from cvmask.errors import CvmaskError, ModelError, SinkError


def regular_handle(path: str | os.PathLike[str], flags: int = os.O_RDONLY, *, follow_links: bool = True) -> int:
    """Open a regular file with flags of `os.open`; OSError for a folder, a pipe, a device or a socket.

    It never blocks on a pipe, and checks the opened file, not the path, which may have changed since.

    Parameters
    ----------
    follow_links
        False: refuse symbolic links, where the system can tell, and refuse to write to a file with several hard links.
        For files that only cvmask makes, in folders that other users may write to.
    """
    with contextlib.suppress(FileNotFoundError):
        _need_regular(path, os.stat(path))  # merely opening a device may have an effect
    no_links = 0 if follow_links else getattr(os, "O_NOFOLLOW", 0)
    quietly = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags | no_links | quietly, 0o644)
    except OSError as error:
        if no_links and error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "needed a file, got a link", os.fspath(path)) from None
        raise
    try:
        status = os.fstat(handle)
        _need_regular(path, status)
        if not follow_links and flags & (os.O_WRONLY | os.O_RDWR) and status.st_nlink > 1:
            raise OSError(errno.EMLINK, "needed a file with one name, got several hard links", os.fspath(path))
    except OSError:
        os.close(handle)
        raise
    return handle


def _need_regular(path: str | os.PathLike[str], status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"needed a file, got {_file_kind(status.st_mode)}", os.fspath(path))


def _file_kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that is not empty for reading.

    Raises
    ------
    ModelError
        If it is missing, empty, a folder, a pipe or a device, or unreadable.
    """
    try:
        file = open(path, "rb", opener=regular_handle)  # noqa: SIM115
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {_unread(error)}") from None
    with file:
        if not os.fstat(file.fileno()).st_size:
            raise ModelError(f"{path}: the file is empty (0 bytes): download or copy it again")
        yield file


def _unread(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error)
    return reason if reason.startswith("needed") else f"cannot be read: {reason}"


def wrong_name(name: str) -> str:
    """Return why a path or address must not be passed to OpenCV and FFmpeg, which may crash on it; "" if it is fine."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name, or that of its folder, is not UTF-8: rename it"
    return "a name has no null character" if "\0" in name else ""


_LONGEST_NAME = 255  # bytes, the limit of common file systems


def fit_name(stem: str, ending: str = "", longest: int = _LONGEST_NAME) -> str:
    """Join stem and ending to a file name. A stem that is too long is cut, and a hash keeps it unique.

    Parameters
    ----------
    longest
        Most bytes of the whole name.
    """
    raw, room = os.fsencode(stem), longest - len(os.fsencode(ending))
    if len(raw) <= room:
        return stem + ending
    mark = "~" + hashlib.sha256(raw).hexdigest()[:8]
    return raw[: room - len(mark)].decode("utf-8", "ignore") + mark + ending


_NOT_ON_WINDOWS = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])\s*(\.|$)", re.IGNORECASE)


def portable_name(name: str, longest: int = _LONGEST_NAME) -> str:
    """Turn untrusted text into the name of a file in one folder, valid on every system.

    Whatever Windows refuses in names becomes ``_``: characters, trailing dots and spaces, names of devices; so do bytes
    that are not UTF-8. A name that is too long is cut before its ending. Different texts may give the same name.

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
def whole_path(path: str | os.PathLike[str], mark: str = "") -> Iterator[Path]:
    """Give a temporary name beside `path`, with the same ending; it is renamed to `path` when the block succeeds.

    If the block raises, nothing is left, and an existing file stays. Missing folders are made. For a link, the file
    that it points to is written. A replaced file passes its permissions to the new one. The temporary name begins
    with a dot and `mark`.

    Raises
    ------
    SinkError
        If `path` cannot be written, or is a folder, a pipe or a device, which is never replaced.
    """
    path = Path(path)
    with _replaced(path, mark) as part:
        with _named(path):
            # Libraries that fail to create a file name the temporary file, or say nothing.
            part.touch(exist_ok=False)
            part.unlink()
        yield part


@contextlib.contextmanager
def _replaced(path: Path, mark: str = "") -> Iterator[Path]:
    check_is_file(path)
    target = Path(os.path.realpath(path))
    part = target.parent / f".{mark}{uuid.uuid4().hex}.part{path.suffix}"
    try:
        with _named(path):
            target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        with contextlib.suppress(OSError):  # there was no file before, or the file system has no permissions
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        with _named(path):
            os.replace(part, target)
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Raise SinkError if `path` is a folder, a pipe or a device. Links are followed."""
    with _named(Path(path)):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if os.path.exists(path) and not os.path.isfile(path):
        raise SinkError(f"{os.fspath(path)} is a pipe or a device, which cannot be replaced: name a file")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file for writing; it appears at `path` as with `whole_path`. Text is UTF-8, line ends as written.

    Bytes of file names that are not UTF-8 are written as ``\\udcff``, which JSON reads back unchanged.

    Raises
    ------
    SinkError
        If `path` cannot be written, or the disk is full.
    """
    path = Path(path)
    text = {} if "b" in mode else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with _replaced(path) as part:
        with _named(path):
            file = open(part, mode.replace("w", "x"), **text)  # type: ignore[call-overload]  # noqa: SIM115
        # Errors of this file name no file; errors of other files in the block do.
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
    """A line is longer than any that cvmask writes."""


def bounded_lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number of each line, from 1, and the line; LineTooLong above 256 MB, as from a device."""
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise LineTooLong(f"line {number} is longer than {size_text(MAX_LINE_BYTES)}: not a JSON lines file")
        yield number, line


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Write one file; SinkError if it cannot be written."""
    with whole_file(path, "wb") as file:
        file.write(content)


def make_private(folder: Path) -> None:
    """Make a folder and its missing parents, accessible to this user only; OSError if that fails.

    Existing folders keep their permissions, so that a cache can be shared on purpose.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_private(folder.parent)
    with contextlib.suppress(FileExistsError):  # another process has just made it
        folder.mkdir(0o700)
        folder.chmod(0o700)  # the umask may have removed some permissions
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))


def write_private(path: Path, content: bytes) -> None:
    """Write a file of the cache, whole or not at all; a link in its place is replaced, not followed.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    make_private(path.parent)
    beside = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with create_file(beside) as file:
            file.write(content)
        os.replace(beside, path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def create_file(path: Path) -> BinaryIO:
    """Create a file for writing that other users can at most read; OSError if anything exists there, even a link."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644), "wb")


MAX_TEXT_BYTES = 16 << 20


def read_text(path: str | os.PathLike[str], *, max_bytes: int = MAX_TEXT_BYTES, follow_links: bool = True) -> str:
    r"""Read UTF-8 text, with or without a byte order mark; lines end in "\n".

    Raises
    ------
    CvmaskError
        If it is missing, not a regular file, larger than `max_bytes` or not UTF-8. Its ``__cause__`` is the system's
        error, if there was one.
    """
    try:
        with os.fdopen(regular_handle(path, follow_links=follow_links), "rb") as file:
            raw = file.read(max_bytes + 1)
        if len(raw) > max_bytes:
            raise CvmaskError(f"{path}: needed text of at most {size_text(max_bytes)}, got a larger file")
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise CvmaskError(f"{path}: must be UTF-8 text, got byte {error.object[error.start]:#x}") from error
    except (OSError, ValueError) as error:
        raise CvmaskError(f"{path}: {_unread(error)}") from error


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
    """The file system refused something; the file itself is not at fault."""


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn the system's errors while writing to a folder into a DiskError.

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
    """Check the free space before a download.

    Raises
    ------
    DiskError
        If the disk of `folder` has less than `needed_bytes` free.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < needed_bytes:
        raise DiskError(
            f"the disk of {folder} has {size_text(free_bytes)} free, needed {size_text(needed_bytes)}: "
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
    """Hold the lock file `path` during the block; wait while another process holds it.

    The file itself stays: removing it would let two processes lock two files of one name.

    Parameters
    ----------
    path
        The lock file; it and its folder are made if needed.
    on_wait
        Called once before waiting.

    Raises
    ------
    ModelError
        If the file cannot be made, or its file system has no locks.
    """
    with writing_to(path.parent):
        make_private(path.parent)
        handle = regular_handle(path, os.O_RDWR | os.O_CREAT, follow_links=False)
    try:
        _wait(handle, path, on_wait)
        yield
    finally:
        # Closing the file releases the lock on every system.
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
                f"{path.parent} does not support file locks ({error.strerror}): set CVMASK_HOME to a local folder"
            ) from error
        return True
