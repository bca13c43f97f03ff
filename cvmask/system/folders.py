"""The cache folder, for downloads and files that can be made again, and the bundled files."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cvmask.errors import CvmaskError

BUNDLED = (
    "mscoco_labels.names",
    "colors.txt",
    "models/people",
    "models/shapes",
    "docs/pictures/astronaut.jpg",
)
"""What a wheel, a frozen app or a zip file holds beside the code, under ``cvmask/bundled``."""


def cache_home() -> Path:
    """Find the cache folder: ``CVMASK_HOME``, else ``$XDG_CACHE_HOME/cvmask``, else ``~/.cache/cvmask``.

    The folder need not exist.

    Raises
    ------
    CvmaskError
        If neither variable is set and this user has no home directory, or ``CVMASK_HOME`` begins with ``~`` and an
        unknown user, or is relative to a working folder that no longer exists.
    """
    own = os.environ.get("CVMASK_HOME")
    try:
        if own:
            return Path(own).expanduser().absolute()
        shared = os.environ.get("XDG_CACHE_HOME", "")
        # The XDG specification asks that a relative path be ignored.
        if os.path.isabs(shared):
            return Path(shared) / "cvmask"
        return Path.home() / ".cache" / "cvmask"
    except (RuntimeError, OSError):
        what = f"CVMASK_HOME={own} is not a usable path" if own else "this user has no home directory"
        raise CvmaskError(f"{what}: set CVMASK_HOME to a folder for models") from None


def path(name: str) -> Path:
    """Find a bundled file or folder.

    Parameters
    ----------
    name
        Relative to the top of the checkout, with forward slashes: ``mscoco_labels.names``,
        ``colors.txt``, ``models/shapes``.

    Raises
    ------
    CvmaskError
        If this installation does not have it.
    """
    package = Path(__file__).resolve().parents[1]
    if not package.is_dir():
        return _unpacked(package, name)
    # A wheel has cvmask/bundled/; in a checkout the same files lie beside the package.
    installed = package / "bundled"
    found = (installed if installed.is_dir() else package.parent).joinpath(*name.split("/"))
    if not found.exists():
        raise CvmaskError(f"{name} is missing from this installation (looked at {found}): {_cure()}")
    return found


def _cure() -> str:
    if getattr(sys, "frozen", False):
        return "build the app with the hook that cvmask has for PyInstaller, and without --exclude"
    return "reinstall cvmask"


def _unpacked(package: Path, name: str) -> Path:
    """Find a bundled file in a package imported from a zip file; it is unpacked, because OpenCV reads files."""
    archive = next((folder for folder in package.parents if folder.is_file()), package.parent)
    try:
        status = archive.stat()
        key = hashlib.sha256(f"{archive} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
        target = cache_home() / "bundled" / key / name
        if not target.exists():
            with zipfile.ZipFile(archive) as file, _complete(target) as part:
                inside = f"{package.relative_to(archive).as_posix()}/bundled/{name}"
                members = [one for one in file.namelist() if one == inside or one.startswith(f"{inside}/")]
                if not members:
                    raise CvmaskError(f"{name} is missing from {archive}: put the whole package into it")
                for member in members:
                    place = Path(f"{part}{member[len(inside):]}")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if not member.endswith("/"):
                        place.write_bytes(file.read(member))
    except (OSError, zipfile.BadZipFile) as error:
        raise CvmaskError(f"{name} cannot be unpacked from {archive}: {error}") from error
    return target


@contextmanager
def _complete(target: Path) -> Iterator[Path]:
    """Give a temporary name beside `target` for a file or folder; it is renamed to `target` when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as folder:
        part = Path(folder) / target.name
        yield part
        with suppress(OSError):  # another process was first
            os.rename(part, target)
        if not target.exists():
            raise OSError(f"{target} cannot be made")
