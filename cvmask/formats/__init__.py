"""Detections as files: one file for each format."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

_MODULES = ("coco", "images", "labelme", "lines", "yolo")


def __getattr__(name: str) -> ModuleType:
    if name not in _MODULES:
        raise AttributeError(f"module 'cvmask.formats' has no attribute {name!r}")
    return import_module(f"cvmask.formats.{name}")


def __dir__() -> list[str]:
    return list(_MODULES)
