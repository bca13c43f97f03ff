"""Converts Detections to and from JSON, supervision, pandas, and Matterport's Mask R-CNN for Keras."""

from __future__ import annotations

import base64
import binascii
import importlib
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError

if TYPE_CHECKING:
    from cvmask.results.detections import Detections

_MAX_SOFT = 1 << 26  # values of all soft masks of a frame: 100 objects of 800x800, in 256 MB
_MAX_PIXELS = 1 << 30  # as OpenCV's own limit for pictures


def to_dict(detections: Detections) -> dict[str, Any]:
    """See `Detections.to_dict`. A float32 survives JSON: Python writes it so that it reads back the same."""
    ids = detections.tracker_id
    return {
        "frame_size": list(detections.frame_size),
        "xyxy": detections.xyxy.tolist(),
        "confidence": detections.confidence.tolist(),
        "class_id": detections.class_id.tolist(),
        "tracker_id": None if ids is None else ids.tolist(),
        "soft_masks": _pack(detections.soft_masks),
        "mask_paste": detections.mask_paste,
        **({} if detections.labels is None else {"labels": detections.labels.tolist()}),
        **({"carried": detections.carried} if detections.carried else {}),
    }


@np.errstate(over="ignore")  # what becomes infinite is refused by Detections
def arrays_from_dict(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of Detections; ValueError if a field is missing or damaged."""
    if not isinstance(fields, Mapping):
        raise TypeError(f"from_dict needs a dict, as to_dict and json.loads give it, got {type(fields).__name__}")
    needed = ["frame_size", "xyxy", "confidence", "class_id", "soft_masks"]
    missing = [name for name in needed if name not in fields]
    if missing:
        raise ValueError(f"a dict of Detections needs {', '.join(needed)}; {', '.join(missing)} missing")
    ids, labels = fields.get("tracker_id"), fields.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(text, str) for text in labels)):
        raise ValueError(f"labels must be a text for each detection, got {str(labels)[:60]}")
    xyxy = _float32("xyxy", fields["xyxy"])
    if xyxy.size % 4:
        raise ValueError(f"xyxy must be left, top, right, bottom for each object, got {str(fields['xyxy'])[:60]}")
    xyxy = xyxy.reshape(-1, 4)
    if np.isfinite(xyxy).all() and (xyxy[:, 2:] < xyxy[:, :2]).any():
        raise ValueError(f"xyxy must be left, top, right, bottom, got {str(fields['xyxy'])[:60]}")
    confidence = _float32("confidence", fields["confidence"])
    if not ((confidence >= 0) & (confidence <= 1)).all():  # NaN is neither
        raise ValueError(f"confidence must be numbers from 0 to 1, got {str(fields['confidence'])[:60]}")
    class_id = _int32("class_id", fields["class_id"])
    if (class_id < 0).any():
        raise ValueError(f"class_id must be 0 or more, got {class_id.min()}")
    frame_size = _int32("frame_size", fields["frame_size"]).reshape(-1).tolist()
    if len(frame_size) != 2 or frame_size[0] * frame_size[1] > _MAX_PIXELS:
        raise ValueError(
            f"frame_size must be height and width, {_MAX_PIXELS} pixels at most, got {str(frame_size)[:60]}"
        )
    return {
        "frame_size": tuple(frame_size),
        "xyxy": xyxy,
        "confidence": confidence,
        "class_id": class_id,
        "tracker_id": None if ids is None else _int32("tracker_id", ids),
        "soft_masks": _unpack(fields["soft_masks"], len(xyxy)),
        # Files without this field are from a time when masks were always pasted as in the tutorials.
        "mask_paste": fields.get("mask_paste", "tutorial"),
        "labels": labels,
        "carried": fields.get("carried", 0),
    }


def _float32(name: str, values: Any) -> NDArray[np.float32]:
    try:
        return np.array(values, dtype=np.float32)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, got {str(values)[:60]}") from None


def _int32(name: str, values: Any) -> NDArray[np.int32]:
    numbers, limits = np.array(values), np.iinfo(np.int32)
    # Other programs may have turned 1 into 1.0.
    kind = numbers.dtype.kind
    whole = not numbers.size or kind in "iu" or (kind == "f" and (numbers == np.floor(numbers)).all())
    if not whole or not ((numbers >= limits.min) & (numbers <= limits.max)).all():
        raise ValueError(f"{name} must be whole numbers of 32 bits, got {str(values)[:60]}")
    return numbers.astype(np.int32)


def _pack(soft_masks: NDArray[np.float32]) -> dict[str, Any]:
    raw = zlib.compress(soft_masks.astype("<f4").tobytes())
    return {"shape": list(soft_masks.shape), "float32_zlib_base64": base64.b64encode(raw).decode("ascii")}


def _unpack(packed: Mapping[str, Any], count: int) -> NDArray[np.float32]:
    try:
        shape = _int32("shape", packed["shape"]).tolist()
        if len(shape) != 3 or shape[0] != count or min(shape) < 0 or math.prod(shape) > _MAX_SOFT:
            raise ValueError(f"shape must be ({count}, h, w), {_MAX_SOFT} values at most, got {str(shape)[:60]}")
        size = 4 * math.prod(shape)
        # Unpacked only as far as the shape says: a few bytes can stand for gigabytes.
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(base64.b64decode(packed["float32_zlib_base64"], validate=True), size + 1)
        if len(raw) != size or not unpacker.eof:
            raise ValueError(f"needed {size} bytes for shape {shape}, got {'more' if len(raw) > size else len(raw)}")
        values: NDArray[np.float32] = np.frombuffer(raw, dtype="<f4").reshape(shape)
        return values.astype(np.float32)
    except (KeyError, TypeError, ValueError, binascii.Error, zlib.error) as error:
        raise ValueError(f"soft_masks must be what Detections.to_dict wrote: {error!r}") from error


def to_dataframe(detections: Detections, names: Sequence[str], threshold: float | None) -> Any:
    """See `Detections.to_dataframe`."""
    try:
        pandas = importlib.import_module("pandas")
    except ImportError as error:
        raise CvmaskError("to_dataframe needs pandas: pip install pandas") from error
    columns = {
        "label": list(names),
        "confidence": detections.confidence,
        "class_id": detections.class_id,
        **dict(zip(("left", "top", "right", "bottom"), detections.xyxy.T)),
        "area": detections.area(threshold),
    }
    if detections.tracker_id is not None:
        columns["tracker_id"] = detections.tracker_id
    return pandas.DataFrame(columns)


def to_supervision(detections: Detections, threshold: float | None, labels: Sequence[str] | None) -> Any:
    """See `Detections.to_supervision`."""
    try:
        supervision = importlib.import_module("supervision")
    except ImportError as error:
        raise CvmaskError("to_supervision needs supervision: pip install supervision") from error
    names = detections.labels if labels is None else np.array(labels)[detections.class_id]
    data = {} if names is None else {"class_name": names}
    return supervision.Detections(
        xyxy=detections.xyxy,
        mask=detections.masks(threshold),
        confidence=detections.confidence,
        class_id=detections.class_id,
        tracker_id=detections.tracker_id,
        data=data,
    )


def to_matterport(detections: Detections, threshold: float | None) -> dict[str, NDArray[Any]]:
    """See `Detections.to_matterport`."""
    return {
        "rois": detections.boxes()[:, [1, 0, 3, 2]],
        "class_ids": detections.class_id + np.int32(1),
        "scores": detections.confidence,
        "masks": np.moveaxis(detections.masks(threshold), 0, -1),
    }
