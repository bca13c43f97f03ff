"""What the files of a picture or of the frames of a video are called, and that no two are called the same."""

from __future__ import annotations

import re
from pathlib import PurePath

from cvmask.errors import SinkError

_SUFFIX = re.compile(r"\.(?!\d+$)[A-Za-z0-9]{1,6}")
_FRAME = re.compile(r"(.+)_\d{6,}", re.ASCII)


def key_of(name: str) -> str:
    """Turn the name of a picture or video into a path below any folder, without suffix."""
    path = PurePath(name)
    stem = path.stem if _SUFFIX.fullmatch(path.suffix) else path.name  # 192.168.1.10_live has none
    parts = [part for part in (*path.parent.parts, stem) if part not in (path.anchor, "..", "")]
    return "/".join(re.sub(r'[<>:"|?*\\/\x00-\x1f]+', "_", part) for part in parts) or "frame"


class Names:
    """Holds pictures and videos against each other, in memory that does not grow with a video's frames."""

    def __init__(self) -> None:
        self._by_key: dict[str, str] = {}
        self._videos: dict[str, str] = {}
        self._like_frames: dict[str, str] = {}

    def add(self, name: str, video: bool) -> None:
        """Add a picture or a video, which may be there already.

        Raises
        ------
        SinkError
            If another one would get the same file: ``a.jpg`` and ``a.png``, or ``a_000017.jpg`` and a frame of
            ``a.mp4``.
        """
        # Many file systems take A and a for one.
        key = key_of(name).casefold()
        self._refuse(self._by_key.setdefault(key, name), name, key)
        like_frame = _FRAME.fullmatch(key)
        if video:
            self._videos[key] = name
            self._refuse(self._like_frames.get(key, name), name, f"{key}_ and a number")
        elif like_frame:
            self._like_frames[like_frame[1]] = name
            self._refuse(self._videos.get(like_frame[1], name), name, key)

    def _refuse(self, first: str, name: str, key: str) -> None:
        if first != name:
            raise SinkError(f"{first} and {name} would both be saved as {key}: rename one")
