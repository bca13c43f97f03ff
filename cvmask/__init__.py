"""Mask R-CNN instance segmentation with nothing but OpenCV and NumPy.

>>> import cv2, cvmask
>>> model = cvmask.load("shapes")
>>> frame = cv2.imread("scene.png")
>>> cv2.imwrite("out.png", cvmask.draw(frame, model.detect(frame), labels=model.labels))
"""

# ruff: noqa: E402
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cvmask.interrupt import end_if_command_cannot_import, end_quietly_while_importing

end_quietly_while_importing()  # before NumPy and OpenCV, which take their time

try:
    from cvmask.detections import Detections
    from cvmask.draw import draw
except ImportError as error:
    end_if_command_cannot_import(error)
    raise

from cvmask.errors import CvmaskError, ModelError, SinkError, SourceError, TargetError

if TYPE_CHECKING:
    from cvmask.archive import batch
    from cvmask.loading import load
    from cvmask.pipeline import annotate
    from cvmask.runtime.model import MaskRCNN
    from cvmask.sinks import open_sink
    from cvmask.sources import open_source

__version__ = "0.1.0"

__all__ = [
    "CvmaskError",
    "Detections",
    "MaskRCNN",
    "ModelError",
    "SinkError",
    "SourceError",
    "TargetError",
    "__version__",
    "annotate",
    "batch",
    "draw",
    "load",
    "open_sink",
    "open_source",
]

# Converting graphs and downloading models take long to import, and many who import cvmask do neither.
_LATER = {
    "MaskRCNN": "cvmask.runtime.model",
    "annotate": "cvmask.pipeline",
    "batch": "cvmask.archive",
    "load": "cvmask.loading",
    "open_sink": "cvmask.sinks",
    "open_source": "cvmask.sources",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'cvmask' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value
