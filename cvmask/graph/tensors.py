"""What the attributes of a node hold, whichever file it came from: constants and plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Union

import numpy as np
import numpy.typing as npt

from cvmask.errors import ModelError

# Numbers and names of tensorflow.DataType, and what NumPy calls the ones that hold numbers.
DTYPE_NAMES = {
    0: "DT_INVALID", 1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8",
    7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16", 17: "DT_UINT16",
    18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
NUMPY_DTYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "|u1", 5: "<i2", 6: "|i1", 9: "<i8", 10: "|b1", 17: "<u2", 19: "<f2",
    22: "<u4", 23: "<u8",
}  # fmt: skip
FLOAT, DOUBLE, INT32, UINT8, STRING, BOOL = 1, 2, 3, 4, 7, 10
# Elements that a tensor given value by value may have: no damaged shape allocates more.
_MAX_SPELLED = 1 << 24

Bytes = Union[bytes, memoryview]


@dataclass(frozen=True)
class Tensor:
    """A constant as it stands in the file; `content` is a slice of it, never a copy.

    `values` are the ones spelled one by one; the last one stands for all that follow it.
    """

    dtype: int
    shape: tuple[int, ...]
    content: Bytes = b""
    values: Sequence[Any] = ()

    @property
    def size(self) -> int:
        """How many elements the shape has."""
        size = 1
        for dim in self.shape:
            size *= dim
        return size

    @property
    def is_empty(self) -> bool:
        """True where the shape promises elements and the file holds none: weights that were stripped."""
        return self.size > 0 and not len(self.content) and not len(self.values)

    def array(self) -> npt.NDArray[Any]:
        """The elements, read-only where they are a view of the file.

        Raises
        ------
        ModelError
            If the element count and the shape do not fit, or the elements are not numbers.
        """
        name = NUMPY_DTYPES.get(self.dtype)
        if name is None or any(dim < 0 for dim in self.shape):
            kind = DTYPE_NAMES.get(self.dtype, self.dtype)
            raise ModelError(f"a tensor of type {kind} and shape {list(self.shape)} has no numbers to read")
        try:
            return self._numbers(np.dtype(name))
        except (ValueError, TypeError, OverflowError, MemoryError) as error:
            raise ModelError(f"a damaged tensor of shape {list(self.shape)}: {error}") from None

    def _numbers(self, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        if len(self.content):
            return np.frombuffer(self.content, dtype).reshape(self.shape)
        if len(self.values) <= 1:
            value = np.asarray(self.values[0] if self.values else 0).astype(dtype)
            return np.broadcast_to(value, self.shape)
        if not len(self.values) <= self.size <= _MAX_SPELLED:
            raise ValueError(f"{len(self.values)} values")
        flat = np.empty(self.size, dtype)
        flat[: len(self.values)] = self.values
        flat[len(self.values) :] = flat[len(self.values) - 1]
        return flat.reshape(self.shape)


class Attr(NamedTuple):
    """One attribute: its kind is the field of AttrValue that was set.

    ======  =================================================================
    kind    value
    ======  =================================================================
    s       bytes
    i       int
    f       float
    b       bool
    type    int, a key of DTYPE_NAMES
    shape   tuple of int (-1 is unknown), or None where the rank is unknown
    tensor  Tensor
    list    Attr, whose kind is that of the items and whose value is a tuple of them
    func    bytes: functions are carried, not read
    none    None: an attribute without a value, or a placeholder
    ======  =================================================================
    """

    kind: str
    value: Any
