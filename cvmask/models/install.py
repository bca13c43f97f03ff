"""From a name to a model's folder: fetch, check, unpack, record, and only then show it."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

from cvmask.errors import ModelError
from cvmask.models.fetch import Progress, Say, fetch
from cvmask.models.part import Part
from cvmask.models.record import Digest, Record, digest, new_record, read_record, write_record
from cvmask.models.table import GRAPH_FILE, KnownModel, get, is_offline, source_url
from cvmask.models.trust import cure, difference, hash_text
from cvmask.models.unpack import kind_of, unpack
from cvmask.models.zoo import Places, find, missing_text, places
from cvmask.system.disk import DiskError, writing_to
from cvmask.system.lock import locked

# Weights hardly compress; text and padding do. A bomb does so a thousandfold.
_UNPACKED_FACTOR, _UNPACKED_ROOM_BYTES = 4, 256 * 10**6
_log = logging.getLogger(__name__)


def download(name: str, progress: Progress | None = None, say: Say | None = None) -> Path:
    """Bring a known model into the cache; at once if it is there already.

    Two processes may do so at the same time: one fetches, the other waits and finds it.
    An interrupted download goes on where it stopped the next time.

    Parameters
    ----------
    name
        One of `NAMES`.
    progress
        Called with the bytes that are here, and the size of the whole or None.
    say
        Called with each line that a user should see; without it they are logged.

    Returns
    -------
    The model's folder.

    Raises
    ------
    ModelError
        If it cannot be had, is not what was expected, or cannot be written.
    """
    model, say = get(name), say or _log.info
    found = find(name)
    if found is not None:
        return found
    if model.bundled:
        raise ModelError(missing_text(model))
    url, at = source_url(model), places(model)
    if is_offline():
        raise ModelError(
            f"model {name!r} is not here and CVMASK_OFFLINE forbids the network: "
            f"unset it, or put {GRAPH_FILE} into {at.folder}"
        )
    waiting = f"another process is downloading model {name!r}: waiting for it"
    with locked(at.lock, on_wait=lambda: say(waiting)):
        return find(name) or _install(model, url, at, progress or _no_progress, say)


def _install(model: KnownModel, url: str, at: Places, progress: Progress, say: Say) -> Path:
    with writing_to(at.folder.parent):
        at.folder.parent.mkdir(parents=True, exist_ok=True)
        _clear_way(at.folder)
        # Made before the download, so that a folder that cannot be written is found out first.
        fresh = Path(tempfile.mkdtemp(prefix=f".{model.name}.", dir=at.folder.parent))
        fresh.chmod(0o755)
    try:
        part, recorded = Part(at.part), read_record(at.record)
        archive = _fetch_checked(model, url, part, recorded, progress, say)
        limit_bytes = _UNPACKED_FACTOR * archive.n_bytes + _UNPACKED_ROOM_BYTES
        _unpack_checked(model, part, fresh, limit_bytes)
        if recorded is None:
            write_record(at.record, new_record(url, archive, fresh))
        say(hash_text(model, archive, recorded, at.record))
        with writing_to(at.folder.parent):
            os.replace(fresh, at.folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    part.discard()
    return at.folder


def _clear_way(folder: Path) -> None:
    # Only the holder of the lock comes here, so these are of a process that was killed.
    for left_over in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left_over, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    if folder.exists() or folder.is_symlink():
        raise ModelError(
            f"{folder} is in the way, without a {GRAPH_FILE} in it: "
            f"run 'cvmask models remove {folder.name}' or move it"
        )


def _fetch_checked(
    model: KnownModel, url: str, part: Part, recorded: Record | None, progress: Progress, say: Say
) -> Digest:
    resumed = part.size > 0
    fetch(url, part, 2 * model.archive_bytes, progress, say)
    archive = digest(part.path)
    problem = difference(model, archive, recorded)
    if problem is None:
        return archive
    came = kind_of(part.path)
    part.discard()
    if not resumed:
        raise ModelError(f"{url} is not what was expected: {problem}; {came} came; {cure(model, recorded)}")
    say("what was kept of the last attempt does not fit: starting over")
    return _fetch_checked(model, url, part, recorded, progress, say)


def _unpack_checked(model: KnownModel, part: Part, fresh: Path, limit_bytes: int) -> None:
    try:
        unpack(part.path, fresh, model.folder_prefix, limit_bytes)
        found_sha1 = digest(fresh / GRAPH_FILE).sha1
        if model.graph_sha1 is not None and found_sha1 != model.graph_sha1:
            raise ModelError(
                f"{GRAPH_FILE} of {model.archive} has sha1 {found_sha1}, {model.graph_sha1} was needed"
            )
    except DiskError:
        raise
    except ModelError:
        # It is whole, so going on from it would end here again.
        part.discard()
        raise


def _no_progress(done_bytes: int, total_bytes: int | None) -> None:
    """Tell nobody."""
