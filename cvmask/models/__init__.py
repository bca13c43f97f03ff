"""Known models: where they come from, their hashes, the cache."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cvmask.models.zoo import NAMES, KnownModel, find, known, remove, resolve

if TYPE_CHECKING:
    from cvmask.models.audit import Report, verify
    from cvmask.models.install import download

__all__ = ["NAMES", "KnownModel", "Report", "download", "find", "known", "remove", "resolve", "verify"]

# Loading an installed model needs neither HTTP nor TLS, which take longest to import.
_LATER = {"Report": "cvmask.models.audit", "download": "cvmask.models.install", "verify": "cvmask.models.audit"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'cvmask.models' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
