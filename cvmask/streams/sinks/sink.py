"""What every output has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from cvmask.results.detections import Detections
from cvmask.streams.sources.source import Frame


class Sink(ABC):
    """Takes results, one a frame, in order.

    As a context manager it finishes when the block ends well or is interrupted (KeyboardInterrupt),
    and discards when the block ends in another exception.

    Attributes
    ----------
    name
        What messages call it.
    ended
        Set by an output that wants no more: a window that was closed.
    main_thread
        Whether it must be called from the main thread, as windows must.
    """

    name: str = ""
    ended: bool = False
    main_thread: bool = False

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, KeyboardInterrupt):
            self.close()
        else:
            self.discard()

    @abstractmethod
    def write(
        self, image: NDArray[np.uint8], frame: Frame | None = None, detections: Detections | None = None
    ) -> None:
        """Take one result.

        Parameters
        ----------
        image
            The annotated picture, shape (height, width, 3), BGR.
        frame
            Where it comes from: its index, time and name. None: the next one, without a time.
        detections
            What was found in it.

        Raises
        ------
        SinkError
            If it cannot be written; nothing more can be after that.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish: the output is whole, or SinkError says why not. A second call does nothing."""

    def discard(self) -> None:
        """End without an output, as far as that is possible: what is not whole is removed."""
        self.close()
