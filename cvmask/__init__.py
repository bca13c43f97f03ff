"""Mask R-CNN instance segmentation with nothing but OpenCV and NumPy.

>>> import cv2, cvmask
>>> model = cvmask.load("shapes")
>>> frame = cv2.imread("scene.png")
>>> cv2.imwrite("out.png", cvmask.draw(frame, model.detect(frame), labels=model.labels))
"""

from cvmask.detections import Detections
from cvmask.draw import draw
from cvmask.errors import CvmaskError, ModelError, SinkError, SourceError, TargetError
from cvmask.loading import load
from cvmask.runtime.model import MaskRCNN

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
    "draw",
    "load",
]
