"""Lists OpenCL platforms and devices, which OpenCV's Python module does not."""

from __future__ import annotations

import ctypes
import ctypes.util
from typing import Any

PLATFORM_NAME, DEVICE_NAME, ALL_DEVICES = 0x0902, 0x102B, 0xFFFFFFFF
_AT_MOST = 64


def opencl_devices() -> list[tuple[str, str]] | None:
    """Platform and device, by name, of each OpenCL device; None where there is no OpenCL library."""
    library = _library()
    if library is None:
        return None
    found = []
    for platform in _ids(library.clGetPlatformIDs):
        name = _text(library.clGetPlatformInfo, platform, PLATFORM_NAME)
        devices = _ids(library.clGetDeviceIDs, platform, ctypes.c_uint64(ALL_DEVICES))
        found += [(name, _text(library.clGetDeviceInfo, device, DEVICE_NAME)) for device in devices]
    return found


def _library() -> ctypes.CDLL | None:
    path = ctypes.util.find_library("OpenCL")
    for name in filter(None, (path, "libOpenCL.so.1", "OpenCL.dll")):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _ids(function: Any, *first: object) -> list[ctypes.c_void_p]:
    ids, count = (ctypes.c_void_p * _AT_MOST)(), ctypes.c_uint(0)
    failed = function(*first, ctypes.c_uint(_AT_MOST), ids, ctypes.byref(count))
    return [] if failed else [ctypes.c_void_p(ids[i]) for i in range(min(count.value, _AT_MOST))]


def _text(function: Any, of: ctypes.c_void_p, what: int) -> str:
    text = ctypes.create_string_buffer(256)
    function(of, ctypes.c_uint(what), ctypes.c_size_t(len(text)), text, None)
    return text.value.decode("utf-8", "replace").strip()
