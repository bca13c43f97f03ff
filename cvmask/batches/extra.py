"""What `pip install 'cvmask[ray]'` brings."""

from __future__ import annotations

import importlib

from cvmask.errors import CvmaskError


def need_ray() -> None:
    """CvmaskError if Ray Data or PyArrow is missing, with the command that installs them."""
    for name in ("ray.data", "pyarrow"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise CvmaskError(
                f"batch needs Ray Data and PyArrow ({error}): pip install 'cvmask[ray]'"
            ) from error
