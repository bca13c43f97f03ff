"""Where the files that come with the package lie: in a wheel, in a checkout, in an editable install."""

from __future__ import annotations

from pathlib import Path

from cvmask.errors import CvmaskError


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
