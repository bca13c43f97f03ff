"""Folders and files on this machine, on S3, or on any filesystem that PyArrow or fsspec knows."""

from __future__ import annotations

import importlib
import os
import posixpath
import uuid
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import fs as arrow_fs

from cvmask.errors import SinkError, SourceError
from cvmask.system.files import write_whole


def files_below(folder: str) -> Iterator[tuple[str, int | None]]:
    """Find every file below a folder, hidden ones left out, in no order: paths and bytes.

    Links to folders are followed, each folder once, so that a link to a parent does not loop. A broken link is a file
    of unknown size, and fails when it is read.

    Files removed meanwhile are skipped. Paths have forward slashes on every system.

    Raises
    ------
    OSError
        If a folder cannot be read, or there is none.
    """
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = _entries(here)
        except FileNotFoundError:
            if here == folder:
                raise
            continue
        for entry in entries:
            path = entry.path.replace(os.sep, "/")
            if entry.is_symlink() and not os.path.exists(path):
                yield path, None
            elif entry.is_dir():
                waiting.append(entry.path)
            else:
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        yield path, entry.stat().st_size


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Give what is to be looked at, the last name first."""
    with os.scandir(folder) as listing:
        seen = [entry for entry in listing if not entry.name.startswith(".")]
    return sorted(seen, key=lambda entry: entry.name, reverse=True)


LOCAL = ""


class StoragePath(NamedTuple):
    """A path in a filesystem.

    Attributes
    ----------
    root
        Names the filesystem: "" for this machine's, else an address without its path. It may hold a
        password: messages and tables show `shown` instead.
    path
        As the filesystem calls it: ``bucket/folder/a.jpg`` on S3.
    """

    root: str
    path: str

    @property
    def shown(self) -> str:
        """The address for people and tables, without passwords and options."""
        if self.root == LOCAL:
            return self.path
        scheme, rest = self.root.split("://", 1)
        if rest.startswith("::"):
            return f"{scheme}://{self.path}{rest}"
        host = rest.partition("?")[0].rpartition("@")[2]
        inside = self.path[len(host) :] if self.path.split("/")[0] == host else self.path
        return f"{scheme}://{host}/{inside.lstrip('/')}"

    @property
    def filesystem(self) -> Any:
        """The PyArrow filesystem."""
        return _filesystem(self.root)[0]

    def __truediv__(self, name: str) -> StoragePath:
        return StoragePath(self.root, posixpath.join(self.path, name))


def storage_path(text: str | os.PathLike[str]) -> StoragePath:
    """Understand a path or an address: ``in/a.jpg``, ``s3://bucket/in``, ``zip://in::/data/a.zip``.

    Raises
    ------
    SourceError
        If neither PyArrow nor fsspec knows such an address.
    """
    name = os.fspath(text)
    if name.startswith("file://"):
        name = name[len("file://") :]
    if "://" not in name:
        return StoragePath(LOCAL, os.path.abspath(name))
    scheme, rest = name.split("://", 1)
    if "::" in rest:  # fsspec's chains: a filesystem inside a file of another one
        path, chain = rest.split("::", 1)
        root = f"{scheme}://::{chain}"
        _filesystem(root)
        return StoragePath(root, path)
    rest, mark, query = rest.partition("?")
    host, _, path = rest.partition("/")
    root = f"{scheme}://{host}{mark}{query}"
    return StoragePath(root, posixpath.join(_filesystem(root)[1], path))


def list_files(folder: StoragePath) -> list[tuple[str, int | None]]:
    """Find every file below a folder, hidden ones left out: paths and bytes, sorted; empty if there is no folder.

    Bytes are None for a broken link.
    """
    if folder.root == LOCAL:
        try:
            return sorted(files_below(folder.path), key=itemgetter(0))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise SourceError(f"{folder.shown}: cannot be read: {one_line(error)}") from None
    selector = arrow_fs.FileSelector(folder.path, recursive=True, allow_not_found=True)
    found = [(info.path, info.size) for info in _infos(folder, selector) if info.type == arrow_fs.FileType.File]
    start = len(folder.path.rstrip("/")) + 1
    return sorted((path, size) for path, size in found if "/." not in "/" + path[start:])


def file_size(place: StoragePath) -> int | None:
    """Count the bytes of a file; None if there is no such file."""
    info = _infos(place, [place.path])[0]
    return int(info.size) if info.type == arrow_fs.FileType.File else None


def is_folder(place: StoragePath) -> bool:
    """Return whether a folder, or anything below such a prefix, exists."""
    return bool(_infos(place, [place.path])[0].type == arrow_fs.FileType.Directory)


def read_bytes(place: StoragePath) -> bytes:
    """Read a whole file; OSError if that fails."""
    with place.filesystem.open_input_file(place.path) as file:
        return bytes(file.read())


def write_bytes(place: StoragePath, data: bytes) -> None:
    """Write a file that appears whole or not at all, and replaces an older one.

    On this machine a temporary file is renamed; object stores get one put. SinkError if that fails.
    """
    if place.root == LOCAL:
        write_whole(place.path, data)
        return
    files = place.filesystem
    try:
        if files.type_name != "hdfs":
            _put(files, place.path, data)
            return
        beside = f"{posixpath.dirname(place.path)}/.{uuid.uuid4().hex}.part"
        _put(files, beside, data)
        files.move(beside, place.path)
    except (OSError, pa.ArrowException) as error:
        raise SinkError(f"{place.shown} cannot be written: {one_line(error)}") from None


def _put(files: Any, path: str, data: bytes) -> None:
    with files.open_output_stream(path) as file:
        file.write(data)


def _infos(place: StoragePath, wanted: Any) -> Any:
    try:
        return place.filesystem.get_file_info(wanted)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{place.shown}: cannot be read: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """Return the message of a filesystem error, shortened."""
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return text if len(text) <= 200 else text[:197] + "..."


def spelled(name: str) -> str:
    r"""Return a name that tables can hold: bytes that are not UTF-8 become ``\xe9``."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\\udc", "\\x")


@lru_cache(maxsize=64)
def _filesystem(root: str) -> tuple[Any, str]:
    """Make the filesystem of a root, and what its paths begin with."""
    if root == LOCAL:
        return arrow_fs.LocalFileSystem(), ""
    shown = root.partition("?")[0].rpartition("@")[2]
    try:
        return arrow_fs.FileSystem.from_uri(root)  # type: ignore[no-any-return]
    except pa.ArrowInvalid:
        pass
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{shown}: cannot be reached: {one_line(error)}") from None
    try:
        files, path = importlib.import_module("fsspec.core").url_to_fs(root)
    except Exception as error:  # each library that fsspec knows has exceptions of its own
        raise SourceError(f"{shown}: neither PyArrow nor fsspec can open it: {one_line(error)}") from None
    return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(files)), path
