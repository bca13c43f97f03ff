"""The cache folder: where downloads and everything that can be made again lie."""

from __future__ import annotations

import os
from pathlib import Path

from cvmask.errors import CvmaskError


def cache_home() -> Path:
    """Find the cache folder: ``CVMASK_HOME``, else ``$XDG_CACHE_HOME/cvmask``, else ``~/.cache/cvmask``.

    The folder need not exist.

    Raises
    ------
    CvmaskError
        If neither variable is set and this user has no home directory, or ``CVMASK_HOME`` begins with the
        ``~`` of no user, or is relative to a working folder that is gone.
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
        what = f"CVMASK_HOME={own} leads nowhere" if own else "this user has no home directory"
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
        If this installation lacks it.
    """
    package = Path(__file__).resolve().parents[1]
    # A wheel has cvmask/bundled/; in a checkout the same files lie beside the package.
    installed = package / "bundled"
    found = (installed if installed.is_dir() else package.parent).joinpath(*name.split("/"))
    if not found.exists():
        raise CvmaskError(f"{name} is missing from this installation (looked at {found}): reinstall cvmask")
    return found
