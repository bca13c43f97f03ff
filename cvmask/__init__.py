"""Mask R-CNN instance segmentation with nothing but OpenCV and NumPy.

>>> import cv2, cvmask
>>> model = cvmask.load("shapes")
>>> frame = cv2.imread("scene.png")
>>> cv2.imwrite("out.png", cvmask.draw(frame, model.detect(frame), labels=model.labels))
"""

# ruff: noqa: E402
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cvmask.system.interrupts import end_if_command_cannot_import, end_quietly_while_importing

end_quietly_while_importing()  # before NumPy and OpenCV, which take their time

try:
    import cv2

    if not hasattr(cv2, "imread"):
        # Two packages of OpenCV share the folder cv2: whoever removes one of them empties it.
        raise ImportError("cv2 is an empty folder", name="cv2")

    from cvmask.drawing.draw import draw
    from cvmask.results.detections import Detections
except ImportError as error:
    end_if_command_cannot_import(error)
    raise

from cvmask.errors import CvmaskError, ModelError, SinkError, SourceError, TargetError

if TYPE_CHECKING:
    from cvmask import drawing as drawing
    from cvmask import errors as errors
    from cvmask import formats as formats
    from cvmask import models as models
    from cvmask import results as results
    from cvmask import scenes as scenes
    from cvmask.batches import batch
    from cvmask.drawing import effects as effects
    from cvmask.models.load import load
    from cvmask.runtime.model import MaskRCNN
    from cvmask.streams.pipeline import annotate
    from cvmask.streams.sinks import open_sink
    from cvmask.streams.sources import open_source

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
    "annotate": "cvmask.streams.pipeline",
    "batch": "cvmask.batches",
    "load": "cvmask.models.load",
    "open_sink": "cvmask.streams.sinks",
    "open_source": "cvmask.streams.sources",
}
_MODULES = {
    "drawing": "cvmask.drawing",
    "effects": "cvmask.drawing.effects",
    "errors": "cvmask.errors",
    "formats": "cvmask.formats",
    "models": "cvmask.models",
    "results": "cvmask.results",
    "scenes": "cvmask.scenes",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value = globals()[name] = import_module(_MODULES[name])
    elif name in _LATER:
        value = globals()[name] = getattr(import_module(_LATER[name]), name)
    else:
        raise AttributeError(f"module 'cvmask' has no attribute {name!r}")
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
