"""Whether an archive is the right one: by a known hash, else by the one recorded at its first download."""

from __future__ import annotations

from pathlib import Path

from cvmask.models.record import Digest, Record
from cvmask.models.table import KnownModel


def difference(model: KnownModel, archive: Digest, recorded: Record | None) -> str | None:
    """Say how an archive differs from what it has to be; None if it does not, or if nothing is known."""
    if model.archive_sha1 is not None:
        same = archive.sha1 == model.archive_sha1
        return None if same else f"its sha1 is {archive.sha1}, {model.archive_sha1} was needed"
    if recorded is None or archive.sha256 == recorded.archive.sha256:
        return None
    return (
        f"its sha256 is {archive.sha256}, the first download ({recorded.recorded}, from {recorded.source}) "
        f"had {recorded.archive.sha256}"
    )


def cure(model: KnownModel, recorded: Record | None) -> str:
    """Say what to do about a difference."""
    if model.archive_sha1 is None and recorded is not None:
        return f"if the new one is right, run 'cvmask models remove {model.name} --forget' first"
    return "try again from another network, or set CVMASK_MIRROR to another server"


def hash_text(model: KnownModel, archive: Digest, recorded: Record | None, record_path: Path) -> str:
    """Say what an archive that is taken was compared with."""
    if model.archive_sha1 is not None:
        return f"the archive has the known sha1 {archive.sha1}"
    if recorded is not None:
        return f"the archive has the sha256 recorded on {recorded.recorded}, {archive.sha256}"
    listed = "it is" if archive.sha256 == model.listed_sha256 else "it is NOT"
    return (
        f"no hash of this archive was known: sha256 {archive.sha256} is recorded in {record_path} "
        f"and checked from now on ({listed} the one that the Open Model Zoo lists)"
    )
