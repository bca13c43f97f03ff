"""Installs a model by name: downloads, checks, unpacks, records, and only then puts the folder in place."""

from __future__ import annotations

import gzip
import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO, cast

from cvmask.errors import ModelError
from cvmask.models.audit import (
    Digest,
    Record,
    cure,
    difference,
    digest,
    hash_text,
    new_record,
    read_record,
    self_check,
    write_record,
)
from cvmask.models.fetch import Part, Progress, Say, fetch
from cvmask.models.zoo import (
    CONFIG_FILE,
    GRAPH_FILE,
    KnownModel,
    Places,
    find,
    get,
    is_offline,
    missing_text,
    places,
    source_urls,
)
from cvmask.system.files import DiskError, create_file, locked, make_private, regular_handle, size_text, writing_to

_WANTED = (GRAPH_FILE, CONFIG_FILE)
# Between two members a tar file holds a few blocks of header; a hostile one holds gigabytes.
_HEADER_BYTES = 1 << 20
_MOST_MEMBERS = 1000
_CHUNK_BYTES = 1 << 20
# tarfile recurses for chains of headers, and trusts the numbers in them.
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError, LookupError, RecursionError,
           ArithmeticError, AttributeError, TypeError, MemoryError)  # fmt: skip


def unpack(archive: Path, into: Path, folder_prefix: str, limit_bytes: int) -> None:
    """Unpack the frozen graph, and its config if there is one, from a ``.tar.gz``.

    Nothing else is written, member names do not choose paths, and the archive is read to its end to check its
    checksum.

    Parameters
    ----------
    into
        An empty folder.
    folder_prefix
        Start of the name of the archive's top folder; files outside any folder are accepted too.
    limit_bytes
        Limit of all members together, unpacked.

    Raises
    ------
    ModelError
        If it is not such an archive, is damaged, belongs to another model, has a member that would lie
        outside the folder, has a link or a device in place of a file, or is too large.
    """
    try:
        with open(archive, "rb", opener=regular_handle) as file, gzip.open(file) as stream:
            meter = _Meter(stream)
            with tarfile.open(fileobj=cast("IO[bytes]", meter), mode="r|") as members:
                _take_wanted(members, meter, into, folder_prefix, limit_bytes)
            meter.drain()
    except _DAMAGE as error:
        raise ModelError(f"{archive.name} is damaged, or {kind_of(archive)} ({_reason(error)})") from error
    if not (into / GRAPH_FILE).exists():
        raise ModelError(f"{archive.name} belongs to another model: it has no {folder_prefix}*/{GRAPH_FILE}")


def kind_of(path: Path) -> str:
    """Describe what a file that should be a ``.tar.gz`` seems to be."""
    with open(path, "rb", opener=regular_handle) as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    if start[:2] == b"\x1f\x8b":
        return "another gzip file"
    if start.lstrip()[:1] == b"<":
        return "an HTML page (from a proxy or a login page in between?)"
    return "not a gzip file"


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "an endless chain of headers"
    return " ".join(str(error).split())[:200] or type(error).__name__


class _Meter:
    """A stream that raises an error when more is read than was allowed."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = _HEADER_BYTES

    def allow(self, member_bytes: int) -> None:
        """Allow one member's content and the next header."""
        self._left = member_bytes + _HEADER_BYTES

    def read(self, n_bytes: int) -> bytes:
        try:
            data = self._stream.read(n_bytes)
        except gzip.BadGzipFile as error:
            # This is an OSError too, and must not be mistaken for one of the disk.
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
    with writing_to(target.parent), create_file(target) as file:
        while chunk := content.read(_CHUNK_BYTES):
            file.write(chunk)


# Weights hardly compress; text and padding do. An archive bomb compresses a thousandfold.
_UNPACKED_FACTOR, _UNPACKED_ROOM_BYTES = 4, 256 * 10**6
_log = logging.getLogger(__name__)


def download(
    name: str, progress: Progress | None = None, say: Say | None = None, *, force: bool = False
) -> Path:
    """Download a known model to the cache; returns at once if it is installed.

    If two processes do so at the same time, one downloads and the other waits for it. An interrupted
    download is resumed by the next call.

    Parameters
    ----------
    name
        One of `NAMES`.
    progress
        Called with the bytes that have arrived, and the whole size or None.
    say
        Called with each line that a user should see; if None, the lines are logged.
    force
        Accept a model that differs from the listed or recorded hash, unless its hash is binding. It still has to pass
        its self-check.

    Returns
    -------
    The model's folder.

    Raises
    ------
    ModelError
        If it cannot be downloaded, is not what was expected, or cannot be written.
    """
    model, say = get(name), say or _log.info
    found = find(name)
    if found is not None:
        return found
    if model.bundled:
        raise ModelError(missing_text(model))
    urls, at = source_urls(model), places(model)
    if is_offline():
        raise ModelError(
            f"model {name!r} is not installed and CVMASK_OFFLINE forbids the network: "
            f"unset it, or put {GRAPH_FILE} into {at.folder}"
        )
    waiting = f"another process is downloading model {name!r}: waiting for it"
    with locked(at.lock, on_wait=lambda: say(waiting)):
        return find(name) or _install(model, urls, at, progress or _no_progress, say, force)


def _install(
    model: KnownModel, urls: list[str], at: Places, progress: Progress, say: Say, force: bool
) -> Path:
    with writing_to(at.folder.parent):
        make_private(at.folder.parent)
        _clear_way(at.folder)
        # Made before the download, so that a folder that cannot be written fails first.
        fresh = Path(tempfile.mkdtemp(prefix=f".{model.name}.", dir=at.folder.parent))
        fresh.chmod(0o755)
    try:
        part, recorded = Part(at.part), _recorded(model, at.record, say, force)
        url, archive = _fetch_from(model, urls, part, recorded, progress, say, force)
        limit_bytes = _UNPACKED_FACTOR * archive.n_bytes + _UNPACKED_ROOM_BYTES
        _unpack_checked(model, part, fresh, limit_bytes)
        if recorded is None or recorded.archive != archive:
            record = new_record(url, archive, fresh)
            _check_works(model, archive, part, fresh, say)
            write_record(at.record, record)
        say(hash_text(model, archive, recorded, at.record))
        with writing_to(at.folder.parent):
            os.replace(fresh, at.folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    part.discard()
    return at.folder


def _clear_way(folder: Path) -> None:
    # Only the holder of the lock gets here, so these files are leftovers of a killed process.
    for left_over in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists() or folder.is_symlink():
        raise ModelError(
            f"{folder} exists, but has no {GRAPH_FILE}: "
            f"run 'cvmask models remove {folder.name}' or move it"
        )


def _recorded(model: KnownModel, path: Path, say: Say, force: bool) -> Record | None:
    """Read the record of the first download. An unreadable one is replaced if its hash does not decide."""
    try:
        return read_record(path)
    except ModelError as error:
        if not force and model.archive_sha1 is None and model.listed_sha256 is None:
            raise
        say(str(error))
        return None


def _fetch_from(
    model: KnownModel,
    urls: list[str],
    part: Part,
    recorded: Record | None,
    progress: Progress,
    say: Say,
    force: bool,
) -> tuple[str, Digest]:
    """Fetch from the first source that answers; also return which one that was."""
    for url, other in zip(urls, urls[1:]):
        kept = part.size
        try:
            return url, _fetch_checked(model, url, part, recorded, progress, say, force)
        except ModelError as error:
            if force or part.size > kept:  # else try another source
                raise
            say(f"{error}; trying {other}")
    return urls[-1], _fetch_checked(model, urls[-1], part, recorded, progress, say, force)


def _fetch_checked(
    model: KnownModel, url: str, part: Part, recorded: Record | None, progress: Progress, say: Say, force: bool
) -> Digest:
    resumed = part.size > 0
    fetch(url, part, 2 * model.archive_bytes, progress, say)
    archive = digest(part.path)
    problem = difference(model, archive, recorded)
    if problem is None or (force and model.archive_sha1 is None):
        return archive
    came = kind_of(part.path)
    part.discard()
    if not resumed:
        raise ModelError(f"{url} is not what was expected: {problem}; got {came}; {cure(model, recorded)}")
    say("the kept part of the last attempt does not fit: starting over")
    return _fetch_checked(model, url, part, recorded, progress, say, force)


def _check_works(model: KnownModel, archive: Digest, part: Part, fresh: Path, say: Say) -> None:
    """Raise ModelError unless this is a Mask R-CNN that converts and runs: only then is its hash recorded."""
    if model.graph_sha1 is not None:
        return
    say(f"checking that model {model.name!r} converts and runs")
    problems = self_check(fresh)
    if not problems:
        return
    if archive.sha256 != model.listed_sha256:  # the archive is genuine, so it is kept: this machine may lack memory
        part.discard()
    reason = problems[0].replace(f"{fresh}{os.sep}", "")
    raise ModelError(f"{model.archive} holds no model {model.name!r} that works here: {reason}")


def _unpack_checked(model: KnownModel, part: Part, fresh: Path, limit_bytes: int) -> None:
    try:
        unpack(part.path, fresh, model.folder_prefix, limit_bytes)
        found_sha1 = digest(fresh / GRAPH_FILE).sha1
        if model.graph_sha1 is not None and found_sha1 != model.graph_sha1:
            raise ModelError(
                f"{GRAPH_FILE} of {model.archive} has sha1 {found_sha1}, needed {model.graph_sha1}"
            )
    except DiskError:
        raise
    except ModelError:
        # It is complete, so resuming it would fail here again.
        part.discard()
        raise


def _no_progress(done_bytes: int, total_bytes: int | None) -> None:
    """Report nothing."""
