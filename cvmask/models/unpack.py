"""Taking a model's few files out of an archive that may be damaged or hostile."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from cvmask.errors import ModelError
from cvmask.models.table import CONFIG_FILE, GRAPH_FILE
from cvmask.system.disk import size_text, writing_to

_WANTED = (GRAPH_FILE, CONFIG_FILE)
# Between two members a tar file holds a few blocks of header; a hostile one holds gigabytes.
_HEADER_BYTES = 1 << 20
_MOST_MEMBERS = 1000
_CHUNK_BYTES = 1 << 20
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, KeyError)


def unpack(archive: Path, into: Path, folder_prefix: str, limit_bytes: int) -> None:
    """Take the frozen graph, and its config if there is one, out of a ``.tar.gz``.

    Nothing else is written, no member chooses where it goes, and the archive is read to its end,
    so that its own checksum is checked.

    Parameters
    ----------
    into
        An empty folder.
    folder_prefix
        How the archive's top folder begins; files that lie in no folder are taken as well.
    limit_bytes
        Of all members together, as unpacked.

    Raises
    ------
    ModelError
        If it is no such archive, is damaged, is of another model, has a member that would lie
        outside, has a link or a device in a model's place, or is too large.
    """
    try:
        with gzip.open(archive) as stream:
            meter = _Meter(stream)
            with tarfile.open(fileobj=cast("IO[bytes]", meter), mode="r|") as members:
                _take_wanted(members, meter, into, folder_prefix, limit_bytes)
            meter.drain()
    except _DAMAGE as error:
        raise ModelError(f"{archive.name} is damaged, or {kind_of(archive)} ({error})") from error
    if not (into / GRAPH_FILE).exists():
        raise ModelError(f"{archive.name} is of another model: it holds no {folder_prefix}*/{GRAPH_FILE}")


def kind_of(path: Path) -> str:
    """Say what a file that should be a ``.tar.gz`` seems to be."""
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    if start[:2] == b"\x1f\x8b":
        return "another gzip file"
    if start.lstrip()[:1] == b"<":
        return "an HTML page (from a proxy or a login page in between?)"
    return "no gzip file"


class _Meter:
    """A stream that ends in an error once more was read than was allowed."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = _HEADER_BYTES

    def allow(self, member_bytes: int) -> None:
        """Let one member's content and the next header pass."""
        self._left = member_bytes + _HEADER_BYTES

    def read(self, n_bytes: int) -> bytes:
        try:
            data = self._stream.read(n_bytes)
        except gzip.BadGzipFile as error:
            # An OSError by birth, which must not be taken for one of the disk.
            raise tarfile.ReadError(str(error)) from error
        self._left -= len(data)
        if self._left < 0:
            raise ModelError(f"the archive is not unpacked: a header exceeds {size_text(_HEADER_BYTES)}")
        return data

    def drain(self) -> None:
        """Read to the end, where the checksum is."""
        while self.read(1 << 16):
            pass


def _take_wanted(
    members: tarfile.TarFile, meter: _Meter, into: Path, folder_prefix: str, limit_bytes: int
) -> None:
    unpacked_bytes = 0
    for n_members, member in enumerate(members, start=1):
        unpacked_bytes += max(0, member.size)
        if member.size < 0 or unpacked_bytes > limit_bytes or n_members > _MOST_MEMBERS:
            raise ModelError(
                f"the archive is not unpacked: at {member.name!r} it exceeds {size_text(limit_bytes)} "
                f"or {_MOST_MEMBERS} members"
            )
        meter.allow(member.size)
        wanted = _wanted_name(member, folder_prefix)
        if wanted is not None:
            _take(members, member, into / wanted)


def _wanted_name(member: tarfile.TarInfo, folder_prefix: str) -> str | None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"the archive is not unpacked: its member {member.name!r} would lie outside")
    in_place = len(path.parts) == 1 or (len(path.parts) == 2 and path.parts[0].startswith(folder_prefix))
    if path.name not in _WANTED or not in_place:
        return None
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise ModelError(f"the archive is not unpacked: {member.name!r} is a link or a device, not a file")
    return path.name


def _take(members: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    content = members.extractfile(member)
    assert content is not None, "a regular file has content"
    if target.exists():
        raise ModelError(f"the archive is not unpacked: it holds {target.name} twice")
    with writing_to(target.parent), open(target, "xb") as file:
        while chunk := content.read(_CHUNK_BYTES):
            file.write(chunk)
