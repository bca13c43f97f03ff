"""The objects found in one frame."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cvmask.results import interop
from cvmask.results.arrays import Index, Picture, check_array, check_frame_of, label_of, rows_of, whole_number
from cvmask.results.masks import BoxMask, check_mask_paste, paste, to_frame, whole_boxes
from cvmask.results.polygons import Polygon, trace
from cvmask.results.rle import Rle, encode


@dataclass(frozen=True, eq=False, repr=False)
class Detections:
    """The objects found in one frame, as arrays of equal length n; checked once, here.

    ``detections[detections.confidence > 0.5]`` filters, ``detections[0]`` is Detections of length 1, and an iteration
    gives one `Detection` after the other. To change an array use `dataclasses.replace`.

    A pixel belongs to a mask if the enlarged soft mask is greater than the ``threshold``, 0 to 1; None means the usual
    threshold of ``mask_paste``.

    Attributes
    ----------
    xyxy
        Shape (n, 4): left, top, right, bottom in pixels; x right, y down; right and bottom exclusive.
        The mask covers every pixel that the box touches, see `masks.whole_boxes`.
    confidence
        Shape (n,), range 0 to 1.
    class_id
        Shape (n,), 0-based into the labels of the model.
    soft_masks
        Shape (n, h, w) for any h and w, range 0 to 1; they span the box, whatever its size.
    frame_size
        Height and width of the frame in pixels.
    tracker_id
        Shape (n,): the number of the object in a video. None without tracking.
    mask_paste
        How soft masks become pixels: one of `masks.MASK_PASTES`, which tells its usual threshold.
    labels
        Shape (n,), text: the name of each object's class, so that ``found[found.labels == "person"]`` filters. None if
        they are unknown. Labels are ignored when Detections are compared.
    carried
        Distance in frames to the nearest frame that the network saw; 0 if it saw this one.
    guide
        The frame whose edges the masks follow, see `refined`; it is never saved. None: masks stay as they are.

    Raises
    ------
    TypeError, ValueError
        If an array has another type, shape or length than stated here.
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    soft_masks: NDArray[np.float32]
    frame_size: tuple[int, int]
    tracker_id: NDArray[np.int32] | None = None
    mask_paste: str = "tensorflow"
    labels: NDArray[np.str_] | None = None
    carried: int = 0
    guide: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        height, width = self.frame_size
        if min(height, width) < 1:
            raise ValueError(f"frame_size must be (height, width) of at least 1 pixel, got {self.frame_size}")
        object.__setattr__(self, "frame_size", (int(height), int(width)))
        count = len(self.xyxy)
        check_array("xyxy", self.xyxy, np.float32, (count, 4))
        check_array("confidence", self.confidence, np.float32, (count,))
        check_array("class_id", self.class_id, np.int32, (count,))
        check_array("soft_masks", self.soft_masks, np.float32, (count, None, None))
        if self.tracker_id is not None:
            check_array("tracker_id", self.tracker_id, np.int32, (count,))
        if self.labels is not None:
            object.__setattr__(self, "labels", _texts(self.labels, count))
        check_mask_paste(self.mask_paste)
        object.__setattr__(self, "carried", whole_number("carried", self.carried, 0))
        if self.guide is not None:
            check_frame_of(self.guide, self.frame_size)
        _check_values(self)

    @classmethod
    def empty(cls, frame_size: tuple[int, int], mask_size: tuple[int, int] = (15, 15)) -> Detections:
        """Make the Detections of a frame, (height, width), in which nothing was found."""
        return cls(
            xyxy=np.zeros((0, 4), dtype=np.float32),
            confidence=np.zeros(0, dtype=np.float32),
            class_id=np.zeros(0, dtype=np.int32),
            soft_masks=np.zeros((0, *mask_size), dtype=np.float32),
            frame_size=frame_size,
        )

    def __len__(self) -> int:
        return len(self.xyxy)

    def __iter__(self) -> Iterator[Detection]:
        return (Detection(self[index]) for index in range(len(self)))

    def __repr__(self) -> str:
        height, width = self.frame_size
        what = f": {self._summary()}" if len(self) else ""
        return f"<Detections: {len(self)} in {width}x{height}{what}>"

    def _summary(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in Counter(self._names()).most_common())

    def _names(self) -> list[str]:
        if self.labels is not None:
            return [str(label) for label in self.labels]
        return list(map(label_of, self.class_id.tolist()))

    def _repr_html_(self) -> str:
        """Give a table for notebooks."""
        columns = ("", "label", "confidence", "left", "top", "right", "bottom")
        head = "<tr>" + "".join(f"<th>{name}</th>" for name in columns) + "</tr>"
        rows = [
            f"<tr><td>{number}</td><td>{html.escape(one.label)}</td><td>{one.confidence:.2f}</td>"
            + "".join(f"<td>{side:.0f}</td>" for side in one.xyxy)
            + "</tr>"
            for number, one in enumerate(self)
        ]
        return f"<table>{head}{''.join(rows)}</table>"

    def __getitem__(self, index: Index) -> Detections:
        rows = rows_of(index, len(self))
        return Detections(
            xyxy=self.xyxy[rows],
            confidence=self.confidence[rows],
            class_id=self.class_id[rows],
            soft_masks=self.soft_masks[rows],
            frame_size=self.frame_size,
            tracker_id=None if self.tracker_id is None else self.tracker_id[rows],
            mask_paste=self.mask_paste,
            labels=None if self.labels is None else self.labels[rows],
            carried=self.carried,
            guide=self.guide,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Detections):
            return NotImplemented
        if (self.frame_size, self.mask_paste, self.carried) != (other.frame_size, other.mask_paste, other.carried):
            return False
        if len(self._arrays()) != len(other._arrays()) or (self.guide is None) != (other.guide is None):
            return False
        return all(np.array_equal(mine, theirs) for mine, theirs in zip(self._arrays(), other._arrays()))

    __hash__ = None  # type: ignore[assignment]

    def _arrays(self) -> list[NDArray[Any]]:
        more = [array for array in (self.tracker_id, self.guide) if array is not None]
        return [self.xyxy, self.confidence, self.class_id, self.soft_masks, *more]

    def refined(self, frame: Picture) -> Detections:
        """Give the same objects, with masks that follow the edges in the frame.

        Everything made from the masks then follows the picture: drawings, effects, areas, polygons, exports. A guided
        filter runs within each box; an object of 400x400 pixels takes some milliseconds more.

        Parameters
        ----------
        frame
            BGR, shape (height, width, 3), in which the objects were found; it is kept, not copied.
        """
        return replace(self, guide=check_frame_of(frame, self.frame_size))

    def boxes(self) -> NDArray[np.int32]:
        """Give the boxes in whole pixels, shape (n, 4), right and bottom exclusive: where masks lie."""
        return whole_boxes(self.xyxy, self.frame_size)

    def largest_first(self) -> NDArray[np.intp]:
        """Give the rows in the order to paint in, shape (n,): by box, so that small objects lie on top."""
        left, top, right, bottom = self.boxes().T
        order: NDArray[np.intp] = np.argsort(-(right - left) * (bottom - top), kind="stable")
        return order

    def box_masks(self, threshold: float | None = None) -> list[BoxMask]:
        """Give each mask in the size of its box, with its position: all that drawing and exports need."""
        return list(self.each_box_mask(threshold))

    def each_box_mask(self, threshold: float | None = None) -> Iterator[BoxMask]:
        """Yield the masks of `box_masks`, each made when it is needed."""
        return paste(self.soft_masks, self.xyxy, self.frame_size, self.mask_paste, threshold, self.guide)

    def masks(self, threshold: float | None = None) -> NDArray[np.bool_]:
        """Give masks as large as the frame, shape (n, height, width)."""
        return to_frame(self.box_masks(threshold), self.frame_size)

    def area(self, threshold: float | None = None) -> NDArray[np.int64]:
        """Count the pixels of each mask, shape (n,)."""
        counts = [np.count_nonzero(box_mask.mask) for box_mask in self.each_box_mask(threshold)]
        return np.array(counts, dtype=np.int64)

    def polygons(self, threshold: float | None = None) -> list[list[Polygon]]:
        """Trace each mask: for every object its parts, each with its holes."""
        return [trace(box_mask) for box_mask in self.each_box_mask(threshold)]

    def rle(self, threshold: float | None = None) -> list[Rle]:
        """Encode each mask as COCO's compressed RLE."""
        return [encode(box_mask, self.frame_size) for box_mask in self.each_box_mask(threshold)]

    def to_dict(self) -> dict[str, Any]:
        """Give everything in a form that JSON can hold; see `from_dict`."""
        return interop.to_dict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Detections:
        """Make Detections equal to those that `to_dict` was called on; ValueError names what is wrong."""
        return cls(**interop.arrays_from_dict(fields))

    def to_dataframe(self, threshold: float | None = None) -> Any:
        """Make a pandas DataFrame, a row for each object.

        Columns: label, confidence, class_id, left, top, right, bottom (pixels), area (pixels of the mask), and
        tracker_id where there is one. CvmaskError if pandas is not installed.
        """
        return interop.to_dataframe(self, self._names(), threshold)

    def to_supervision(self, threshold: float | None = None, labels: Sequence[str] | None = None) -> Any:
        """Make ``supervision.Detections``, with masks as large as the frame.

        `labels`, the names of the classes, adds ``data["class_name"]``, as does what is in ``self.labels``. CvmaskError
        if supervision is not installed.
        """
        return interop.to_supervision(self, threshold, labels)

    def to_matterport(self, threshold: float | None = None) -> dict[str, NDArray[Any]]:
        """Give the result of Matterport's Keras model.

        ``rois`` int32 (n, 4) as y1, x1, y2, x2 with the last two exclusive, ``class_ids`` int32 (n,)
        where 0 would be background, ``scores`` float32 (n,), ``masks`` bool (height, width, n).
        """
        return interop.to_matterport(self, threshold)


@dataclass(frozen=True, eq=False, repr=False)
class Detection:
    """One object of `Detections`, as an iteration over them gives it.

    Attributes
    ----------
    row
        The object as Detections of length 1, for everything else.
    """

    row: Detections

    @property
    def label(self) -> str:
        """The name of its class; "class 3" where there is none."""
        return self.row._names()[0]

    @property
    def confidence(self) -> float:
        """0 to 1."""
        return float(self.row.confidence[0])

    @property
    def class_id(self) -> int:
        """0-based into the labels of the model."""
        return int(self.row.class_id[0])

    @property
    def tracker_id(self) -> int | None:
        """Which object it is over a video; None where nothing tracks."""
        return None if self.row.tracker_id is None else int(self.row.tracker_id[0])

    @property
    def xyxy(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels; x right, y down; right and bottom exclusive."""
        left, top, right, bottom = self.row.xyxy[0].tolist()
        return left, top, right, bottom

    def mask(self, threshold: float | None = None) -> NDArray[np.bool_]:
        """Give its mask, as large as the frame, shape (height, width)."""
        mask: NDArray[np.bool_] = self.row.masks(threshold)[0]
        return mask

    def box_mask(self, threshold: float | None = None) -> BoxMask:
        """Give its mask, as large as its box, and its place."""
        return self.row.box_masks(threshold)[0]

    def polygons(self, threshold: float | None = None) -> list[Polygon]:
        """Trace its mask: its parts, each with its holes."""
        return self.row.polygons(threshold)[0]

    def area(self, threshold: float | None = None) -> int:
        """Count the pixels of its mask."""
        return int(self.row.area(threshold)[0])

    def __str__(self) -> str:
        number = "" if self.tracker_id is None else f" #{self.tracker_id}"
        return f"{self.label}{number} {self.confidence:.2f}"

    def __repr__(self) -> str:
        sides = ", ".join(f"{side:.1f}" for side in self.xyxy)
        return f"<Detection: {self} at ({sides})>"


def _texts(labels: object, count: int) -> NDArray[np.str_]:
    """Give the names of objects as an array, in the usual forms in which texts come."""
    texts = np.asarray(labels)
    if (texts.dtype.kind == "O" and all(isinstance(text, str) for text in texts.ravel())) or not texts.size:
        texts = texts.astype(np.str_)
    if texts.dtype.kind != "U":
        raise TypeError(f"labels must be a text for each detection, got {str(labels)[:60]}")
    if texts.shape != (count,):
        raise ValueError(f"labels must be a text for each of {count} detections, got shape {texts.shape}")
    return texts


def _check_values(detections: Detections) -> None:
    if not np.isfinite(detections.xyxy).all():
        raise ValueError("xyxy must be finite pixels, got NaN or infinity: drop those rows first")
    soft = detections.soft_masks
    if 0 in soft.shape[1:]:
        raise ValueError(f"soft_masks must have at least one value for each object, got shape {soft.shape}")
    if soft.size and not (soft.min() >= 0 and soft.max() <= 1):
        raise ValueError(
            f"soft_masks must lie between 0 and 1, got {soft.min()} to {soft.max()}: scale them first"
        )
