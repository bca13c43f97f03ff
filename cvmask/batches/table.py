"""The table that a batch writes: a row for each object, and one for each frame without any."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cvmask.results.arrays import label_of
from cvmask.results.detections import Detections
from cvmask.streams.sources.source import Frame

SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("member", pa.string()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("object", pa.int32()),
        ("x1", pa.float32()),
        ("y1", pa.float32()),
        ("x2", pa.float32()),
        ("y2", pa.float32()),
        ("score", pa.float32()),
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("rle", pa.string()),
        ("soft_mask", pa.list_(pa.list_(pa.float32()))),
        ("mask_paste", pa.string()),
        ("warning", pa.string()),
        ("error", pa.string()),
    ]
)
_NOTE = b"cvmask"


@dataclass
class Counts:
    """Counts and times of a part, or their sum over parts.

    Attributes
    ----------
    frames, objects, failed
        Frames with or without objects; objects; pictures, frames and files that failed.
    reasons
        How many failed for which reason.
    detect_s
        Seconds that a worker spent on it, reading and writing left out.
    """

    frames: int = 0
    objects: int = 0
    failed: int = 0
    detect_s: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)

    def add(self, other: Counts) -> None:
        """Add another part."""
        self.frames += other.frames
        self.objects += other.objects
        self.failed += other.failed
        self.detect_s += other.detect_s
        self.reasons = dict(Counter(self.reasons) + Counter(other.reasons))


class Rows:
    """Gathers the rows of one part.

    Parameters
    ----------
    labels
        Names of the classes.
    mask_threshold
        The threshold of the RLE masks; None: that of the detections' paste.
    soft_masks
        Whether to keep the soft masks too.
    """

    def __init__(self, labels: tuple[str, ...], mask_threshold: float | None, soft_masks: bool) -> None:
        self._labels, self._threshold, self._soft = labels, mask_threshold, soft_masks
        self._rows: list[dict[str, Any]] = []
        self.counts = Counts()

    def found(self, frame: Frame, detections: Detections, *, member: str | None = None) -> None:
        """Add a frame and what was found in it; `member` is its name in a shard."""
        height, width = detections.frame_size
        about: dict[str, Any] = {"source": frame.name, "member": member, "frame": frame.index, "time_s": frame.time_s}
        about.update(width=width, height=height, warning="; ".join(frame.warnings) or None)
        self.counts.frames += 1
        self.counts.objects += len(detections)
        if not len(detections):
            self._rows.append(about)
        masks = detections.rle(self._threshold)
        for number, (box, rle) in enumerate(zip(detections.xyxy.tolist(), masks)):
            row = {**about, "object": number, "rle": rle["counts"]}
            row.update(zip(("x1", "y1", "x2", "y2"), box))
            row["score"] = float(detections.confidence[number])
            row["class_id"] = class_id = int(detections.class_id[number])
            row["class_name"] = label_of(class_id, self._labels)
            # Rows as arrays take a third of what lists of numbers take.
            row["soft_mask"] = list(detections.soft_masks[number]) if self._soft else None
            row["mask_paste"] = detections.mask_paste
            self._rows.append(row)

    def failed(self, source: str, frame: int | None, error: str, member: str | None = None) -> None:
        """Add a frame that failed; `frame` None: the whole file, or the rest of it."""
        text = error[len(source) + 2 :] if error.startswith(f"{source}: ") else error
        self.counts.failed += 1
        reason = reason_of(text)
        self.counts.reasons[reason] = self.counts.reasons.get(reason, 0) + 1
        self._rows.append({"source": source, "member": member, "frame": frame, "error": text})

    def keep(self, rows: list[dict[str, Any]]) -> None:
        """Add the rows of one frame, as they were read from a table."""
        self.counts.frames += 1
        self.counts.objects += sum(row["object"] is not None for row in rows)
        self._rows += rows

    def warn(self, warning: str) -> None:
        """Add a warning to the last row."""
        if self._rows:
            before = self._rows[-1].get("warning")
            self._rows[-1]["warning"] = f"{before}; {warning}" if before else warning

    def __len__(self) -> int:
        return len(self._rows)

    def to_parquet(self, **notes: Any) -> bytes:
        """Make a Parquet file; the counts and `notes` are in its footer."""
        note = json.dumps({**asdict(self.counts), **notes})
        table = pa.Table.from_pylist(self._rows, SCHEMA.with_metadata({_NOTE: note}))
        file = io.BytesIO()
        pq.write_table(table, file, compression="zstd")
        return file.getvalue()


def read_note(file: Any) -> dict[str, Any]:
    """Read the footer that `to_parquet` wrote; `file` is open for reading."""
    note: dict[str, Any] = json.loads((pq.read_schema(file).metadata or {})[_NOTE])
    return note


def counts_of(note: dict[str, Any]) -> Counts:
    """Pick the counts from a footer."""
    return Counts(**{name: note[name] for name in Counts.__dataclass_fields__})


def reason_of(error: str) -> str:
    """Shorten an error to the part that errors of its kind share: "is empty (0 bytes)" becomes "is empty"."""
    text = re.sub(r"\d+", "N", re.split(r", it starts with | \(", error, maxsplit=1)[0])
    return text if len(text) <= 80 else text[:77] + "..."
