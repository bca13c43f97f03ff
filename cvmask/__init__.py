"""Mask R-CNN instance segmentation with nothing but OpenCV and NumPy."""

__version__ = "0.1.0"
