"""Checks of arguments: types, shapes and ranges of arrays and numbers, and indices."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

Index = Union[int, slice, Sequence[int], Sequence[bool], NDArray[np.bool_], NDArray[np.integer[Any]]]

# What is handed in as a frame: to type checkers any array, as `cv2.typing.MatLike` is, and the None of `cv2.imread`.
# `check_frame` says what is wrong with it.
Picture = Optional[NDArray[Any]]


def check_array(name: str, array: object, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Raise TypeError or ValueError unless it is an array of this type and shape; None fits any length."""
    wanted = f"{np.dtype(dtype).name} of shape ({', '.join('any' if n is None else str(n) for n in shape)})"
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be {wanted}, got {type(array).__name__}: make it an array first")
    if array.dtype != dtype:
        raise ValueError(
            f"{name} must be {wanted}, got {array.dtype}: use {name}.astype(np.{np.dtype(dtype).name})"
        )
    fits = len(array.shape) == len(shape) and all(n in (None, m) for n, m in zip(shape, array.shape))
    if not fits:
        raise ValueError(
            f"{name} must be {wanted}, got shape {array.shape}: all arrays need one row for each box in xyxy"
        )


def check_range(name: str, value: object, least: float, most: float = math.inf) -> None:
    """Raise TypeError unless it is a number, ValueError unless it lies in this range; NaN lies in none."""
    wanted = f"{name} must be a number from {least:g} " + ("up" if most == math.inf else f"to {most:g}")
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{wanted}, got {value!r}")
    if not least <= value <= most or value == math.inf:
        raise ValueError(f"{wanted}, got {value}")


def whole_number(name: str, value: object, least: int = 1) -> int:
    """Return `value` as an int; TypeError unless it is a whole number, ValueError if it is less than `least`."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be a whole number from {least} up, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be a whole number from {least} up, got {value}")
    return int(value)


def rows_of(index: Index, count: int) -> Any:
    """Return an index that selects the same rows as `index` from `count` rows, and keeps the dimensions.

    Raises
    ------
    IndexError
        If a number is out of range, or a bool array of another length.
    TypeError
        If it is neither an int, a slice, nor a bool or int array of one dimension.
    """
    if isinstance(index, (int, np.integer)) and not isinstance(index, bool):
        if not -count <= index < count:
            raise IndexError(f"index {index} is out of range: there are {count} detections")
        return [int(index)]
    if isinstance(index, slice):
        return index
    rows = np.asarray(index)
    if rows.size == 0 and rows.dtype != np.bool_:
        rows = rows.astype(np.intp)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise TypeError(
            f"index Detections with an int, a slice, or a bool or int array of one dimension, got {index!r}"
        )
    if rows.dtype == np.bool_ and len(rows) != count:
        raise IndexError(f"a bool index needs one value for each of the {count} detections, got {len(rows)}")
    return rows


def check_frame(frame: object, *, alpha: bool = False) -> NDArray[np.uint8]:
    """Return the frame if it is valid; it need not be contiguous. With `alpha`, BGRA is one too.

    Raises
    ------
    TypeError
        If it is not an array.
    ValueError
        If it has another dtype or shape, or no pixel; the message says what to do.
    """
    if not isinstance(frame, np.ndarray):
        raise TypeError(f"a frame must be an array, got {type(frame).__name__}: {_cure_of_type(frame)}")
    channels = (3, 4) if alpha else (3,)
    fits = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] in channels and frame.size > 0
    if not fits:
        raise ValueError(
            f"a frame must be uint8 of shape (height, width, 3), BGR; "
            f"got {frame.dtype} {frame.shape}: {_cure(frame)}"
        )
    return frame


def check_frame_of(frame: object, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frame if it is valid and of this (height, width); otherwise ValueError or TypeError."""
    checked = check_frame(frame)
    if checked.shape[:2] != frame_size:
        raise ValueError(
            f"the detections are of a frame of {frame_size} (height, width), "
            f"got a frame of {checked.shape[:2]}"
        )
    return checked


def _cure_of_type(frame: object) -> str:
    if frame is None:
        return "cv2.imread gives None where it finds no picture"
    if isinstance(frame, (str, os.PathLike)):
        return "read the file with cv2.imread first, or give its path to cvmask.annotate"
    if hasattr(frame, "image"):
        return "give its .image"
    if hasattr(frame, "convert") and hasattr(frame, "mode"):
        return "use cv2.cvtColor(numpy.asarray(picture.convert('RGB')), cv2.COLOR_RGB2BGR)"
    if isinstance(frame, (list, tuple)):
        return "pass one picture at a time"
    return "use numpy.asarray"


def _cure(frame: NDArray[np.generic]) -> str:
    if frame.size == 0:
        return "it has no pixel"
    if frame.dtype != np.uint8:
        if frame.dtype.kind == "b":
            return "for True and False use frame.astype(np.uint8) * 255"
        if frame.dtype.kind == "u" and frame.dtype.itemsize == 2:
            return "for 16 bit use (frame // 257).astype(np.uint8)"
        if frame.dtype.kind == "f":
            return "for 0 to 1 use (frame * 255).round().astype(np.uint8)"
        return "convert it to 0 to 255 with frame.astype(np.uint8)"
    if frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] == 1):
        return "for grey use cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)"
    if frame.ndim == 3 and frame.shape[2] == 4:
        return "for BGRA use cv2.cvtColor(frame, cv2.COLOR_BGRA2BGR)"
    if frame.ndim == 3 and frame.shape[0] == 3:
        return "the colours come last: use frame.transpose(1, 2, 0)"
    return "pass one picture at a time" if frame.ndim == 4 else "it is not a picture"


def label_of(class_id: int, labels: Sequence[str] | None = None) -> str:
    """Return the name of a class, such as "class 7" if there is no label."""
    return labels[class_id] if labels is not None and 0 <= class_id < len(labels) else f"class {class_id}"
