"""Known models: where they come from, their hashes, the cache."""

from __future__ import annotations

from cvmask.zoo.audit import Report, verify
from cvmask.zoo.install import download
from cvmask.zoo.store import find, remove, resolve
from cvmask.zoo.table import NAMES, KnownModel, known

__all__ = ["NAMES", "KnownModel", "Report", "download", "find", "known", "remove", "resolve", "verify"]
