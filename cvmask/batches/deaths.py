"""Pictures that kill the process that reads them: found by whoever takes over, and then left out."""

from __future__ import annotations

import json
from contextlib import suppress

import ray

from cvmask.batches.storage import Place, file_size, read_bytes, write_bytes

FOLDER = "_deaths"
MOST_DEATHS = 2
_WATCHED_CHUNKS = 8


class Deaths:
    """Notes before each picture, in a worker that took over from a dead one, that it is being tried.

    A worker that never died writes nothing. What was being tried when a watched worker died twice is
    not tried again.

    Parameters
    ----------
    output
        The folder of the batch; the notes are in a folder of it until their part is written.
    watching
        Whether to watch; None: if this worker took over from a dead one, for its first chunks, since
        what killed that one is among them.
    """

    def __init__(self, output: Place, watching: bool | None = None) -> None:
        self._output = output
        if watching is None:
            watching = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._chunks_left = _WATCHED_CHUNKS if watching else 0
        self._place: Place | None = None
        self._tried: dict[str, int] = {}

    def begin(self, unit: int, chunk: int) -> None:
        """Begin a chunk."""
        self._place = None
        if self._chunks_left:
            self._chunks_left -= 1
            self._place = self._output / FOLDER / f"{unit:06d}-{chunk:04d}.json"
            known = file_size(self._place) is not None
            self._tried = json.loads(read_bytes(self._place)) if known else {}

    def may_try(self, number: int) -> bool:
        """Tell whether a picture of the chunk may be tried, and note that it is."""
        if self._place is None:
            return True
        deaths = self._tried.get(str(number), 0)
        if deaths >= MOST_DEATHS:
            return False
        # What came before it has survived.
        before = {key for key, count in self._tried.items() if int(key) < number and count < MOST_DEATHS}
        self._tried = {key: count for key, count in self._tried.items() if key not in before}
        self._tried[str(number)] = deaths + 1
        write_bytes(self._place, json.dumps(self._tried).encode())
        return True

    def end(self) -> None:
        """Forget the chunk: its part is written."""
        if self._place is not None:
            with suppress(OSError):
                self._place.filesystem.delete_file(self._place.path)
