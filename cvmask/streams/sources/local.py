"""Addresses of files on this machine: file:///folder/name."""

from __future__ import annotations

import os
import re
from urllib.parse import unquote

_FILE = re.compile(r"file://(?:localhost)?(?=/)", re.IGNORECASE)


def local_path(place: str) -> str:
    """Give the path that a file:// address names; any other name as it is."""
    scheme = _FILE.match(place)
    if scheme is None:
        return place
    path = unquote(place[scheme.end() :])
    return path[1:] if os.name == "nt" and re.match(r"/[A-Za-z]:", path) else path
