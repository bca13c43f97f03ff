"""Detections as JSON, one line a frame."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

from cvmask.errors import SinkError, SourceError
from cvmask.results.arrays import Picture, check_frame
from cvmask.results.detections import Detections
from cvmask.streams.sinks.sink import Sink
from cvmask.streams.sources.source import Frame, Notify, ignore
from cvmask.system.files import LineTooLong, bounded_lines, check_is_file


class JsonLines(Sink):
    """One line a frame, with soft masks, so that `cvmask.streams.replay.render` can draw everything again.

    Unlike other outputs, the file grows in its final place. Every line is handed to the system before `write`
    returns: a crash loses nothing. The first line replaces an older file.

    Parameters
    ----------
    labels
        The class names, written into the first line.
    """

    def __init__(self, path: str | os.PathLike[str], labels: Sequence[str] | None = None) -> None:
        self.name = os.fspath(path)
        self._first: dict[str, Any] = {} if labels is None else {"labels": list(labels)}
        self._count = 0
        self._file: FileIO | None = None
        self._closed = False
        with self._told():
            Path(self.name).parent.mkdir(parents=True, exist_ok=True)
            _check_access(Path(self.name))

    def write(
        self, image: Picture, frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Write the line of a frame; the picture itself is not in it."""
        if self._closed:
            raise SinkError(f"{self.name} is closed: no frame can follow")
        if detections is None:
            height, width = check_frame(image, alpha=True).shape[:2]
            detections = Detections.empty((height, width))
        record = {
            "index": self._count if frame is None else frame.index,
            "time_s": None if frame is None else frame.time_s,
            "name": None if frame is None else frame.name,
            **self._first,
            "detections": detections.to_dict(),
        }
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        self._append(line.encode(errors="backslashreplace") + b"\n")
        self._first = {}
        self._count += 1

    def close(self) -> None:
        """Close the file; nothing if no frame came."""
        self._closed = True
        if self._file is not None:
            self._file.close()

    def _append(self, line: bytes) -> None:
        with self._told():
            if self._file is None:
                self._file = FileIO(self.name, "wb")
            start = self._file.tell()
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                # Half a line would make the file unreadable.
                self._file.truncate(start)
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"{self.name} cannot be written: {error.strerror or error}") from None


def _check_access(path: Path) -> None:
    """Raise OSError if the file cannot be written, as far as that can be told without touching it."""
    check_is_file(path)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def read_json_lines(
    path: str | os.PathLike[str], on_message: Notify = ignore
) -> Iterator[tuple[dict[str, Any], Detections]]:
    """Read a file of `JsonLines`: yield each line without its detections, and the detections.

    A last line that was cut off, for example by a crash, is left out and `on_message` is called. Empty lines are
    skipped.

    Raises
    ------
    SourceError
        If the file cannot be read or a line is damaged; the message names the line.
    """
    path = os.fspath(path)
    labels: list[str] | None = None
    try:
        with open(path, "rb") as file:  # each line is decoded alone: the last one may end within a character
            for number, line in bounded_lines(file):
                if not line.strip():
                    continue
                try:
                    parsed = _parse(line, f"{path}: line {number}", labels)
                except SourceError:
                    if line.endswith(b"\n") or number == 1:  # without a line before it, it may be anything
                        raise
                    on_message(f"{path}: line {number} is cut off, its run was interrupted there: it is left out")
                    return
                labels = parsed[0].get("labels", labels)
                yield parsed
    except LineTooLong as error:
        raise SourceError(f"{path}: {error}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from None


def _parse(line: bytes, name: str, labels: list[str] | None) -> tuple[dict[str, Any], Detections]:
    try:
        record = json.loads(line.decode())
        detections = Detections.from_dict(record.pop("detections"))
        record["index"] = int(record["index"])
        _check_labels(record.get("labels"))
        _check_classes(detections, record.get("labels", labels))
    except json.JSONDecodeError as error:
        raise SourceError(f"{name} is not a frame of detections: {error.msg} (character {error.colno})") from None
    except UnicodeDecodeError:
        raise SourceError(f"{name} is not a frame of detections: the file is not JSON lines in UTF-8") from None
    except KeyError as error:
        raise SourceError(
            f"{name} has no {error}: needed a file that `--save-json` wrote for a video; "
            "read files of `--save jsonl` with cvmask.formats.lines.read_jsonl"
        ) from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise SourceError(f"{name} is not a frame of detections: {error or 'damaged'}") from None
    return record, detections


def _check_classes(detections: Detections, labels: list[str] | None) -> None:
    highest = int(detections.class_id.max(initial=-1))
    if labels is not None and highest >= len(labels):
        raise ValueError(f"class_id must be below {len(labels)}, the number of labels, got {highest}")


def _check_labels(labels: object) -> None:
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise ValueError(f"labels must be a list of names, got {str(labels)[:60]}")
