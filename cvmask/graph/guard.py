"""A file may be put together in any way; whatever that leads to is said as a ModelError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cvmask.errors import ModelError

EXPORT_AGAIN = "export it again with export_inference_graph.py"
# What code that expects a well-formed graph runs into where an input, an attribute or a number is missing.
_UNFORESEEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
)


@contextmanager
def understood(origin: str, cure: str = EXPORT_AGAIN) -> Iterator[None]:
    """Let the block look at the graph of that name.

    Raises
    ------
    ModelError
        In place of an error that an odd graph has led to.
    """
    try:
        yield
    except ModelError:
        raise
    except _UNFORESEEN as error:
        what = " ".join(f"{type(error).__name__} {error}".split())
        raise ModelError(
            f"{origin}: damaged, or not put together as the Object Detection API does it ({what}); {cure}"
        ) from error
