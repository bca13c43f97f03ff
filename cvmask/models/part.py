"""A file that is on its way: what has come, and which version of the source it came from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from email.message import Message


class Part:
    """The first bytes of a download, and a note beside them that tells whether they may be resumed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note_path = path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        """How many bytes have come."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def request_headers(self, url: str) -> dict[str, str]:
        """Ask for the rest, if it is sure that the rest will fit.

        Without an ETag or a date from the server nobody can tell whether the file there is still
        the one that was begun: then it is asked for from its first byte.
        """
        note = self._note()
        validator = note.get("validator")
        if self.size == 0 or note.get("url") != url or not isinstance(validator, str):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def accept_whole(self, url: str, headers: Message) -> int | None:
        """Start over with an answer that begins at the first byte; return its length, if it has one."""
        total = _number(headers.get("Content-Length"))
        self.path.write_bytes(b"")
        note = {"url": url, "validator": _validator(headers), "total_bytes": total}
        self._note_path.write_text(json.dumps(note), encoding="utf-8")
        return total

    def accept_rest(self, headers: Message) -> int | None:
        """Go on with an answer to a Range; return the whole file's length.

        Raises
        ------
        ValueError
            If it is not the rest of what is here.
        """
        note = self._note()
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if span is None or int(span[1]) != self.size:
            came = headers.get("Content-Range")
            raise ValueError(f"asked for bytes from {self.size}, the answer's range is {came!r}")
        total = _number(span[2])
        if note.get("total_bytes") is not None and total is not None and total != note["total_bytes"]:
            raise ValueError(f"the file had {note['total_bytes']} bytes and now has {total}")
        validator = _validator(headers)
        if validator is not None and validator != note.get("validator"):
            raise ValueError("the file on the server has changed")
        return total

    def is_all_of(self, headers: Message) -> bool:
        """Say whether an answer "there is nothing past that" means that everything is here."""
        return headers.get("Content-Range", "").strip() == f"bytes */{self.size}"

    def append(self) -> BinaryIO:
        """Open for the next bytes."""
        return open(self.path, "ab")

    def discard(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self._note_path.unlink(missing_ok=True)

    def _note(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note_path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


def _validator(headers: Message) -> str | None:
    # A weak ETag vouches for the meaning, not for the bytes.
    etag = headers.get("ETag")
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("Last-Modified")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.strip().isdecimal() else None
