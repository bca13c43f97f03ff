"""The options of a batch and the check of its packages; imported without Ray and PyArrow."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable

from cvmask.errors import CvmaskError, install

if TYPE_CHECKING:
    from cvmask.batches.job import Progress


@dataclass(frozen=True)
class Options:
    """How a batch is run; see `cvmask.batch` for what each means. ValueError if a number is out of range."""

    address: str | None = None
    workers: int | None = None
    threads: int = 1
    soft_masks: bool = False
    annotated: bool = False
    stride: int = 1
    max_failures: int | None = None
    part_frames: int = 64
    image_column: str | None = None
    retry_failed: bool = False
    add: bool = False
    on_progress: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        least = {"workers": 1, "threads": 1, "stride": 1, "max_failures": 0, "part_frames": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < minimum):
                raise ValueError(f"{name} must be a whole number from {minimum} up, got {value!r}")


def need_ray() -> None:
    """CvmaskError if Ray Data or PyArrow is missing, with the command that installs them."""
    for name in ("ray.data", "pyarrow"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise CvmaskError(f"batch needs Ray Data and PyArrow ({error}): {install('ray')}") from error
