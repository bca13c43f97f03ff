"""Where the network runs: what was asked for, and what really happens."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from cvmask.errors import TargetError
from cvmask.runtime.net import Net

NAMES = ("cpu", "opencl", "opencl-fp16")


@dataclass(frozen=True)
class Target:
    """What runs where.

    Attributes
    ----------
    requested, effective
        One of `NAMES`.
    device
        What the effective target calls itself.
    reason
        Why it is not what was requested; empty if it is.
    """

    requested: str
    effective: str
    device: str
    reason: str = ""


def check_name(name: str) -> None:
    """TargetError if there is no such target."""
    if name not in NAMES:
        raise TargetError(f"target {name!r} is unknown: use one of {', '.join(NAMES)}")


def prefer(net: Net, name: str) -> None:
    """Ask OpenCV to run `net` on a target; whether it does is seen after the first forward."""
    ids = {
        "cpu": cv2.dnn.DNN_TARGET_CPU,
        "opencl": cv2.dnn.DNN_TARGET_OPENCL,
        "opencl-fp16": cv2.dnn.DNN_TARGET_OPENCL_FP16,
    }
    net.cv.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.cv.setPreferableTarget(ids[name])


def observe(net: Net, requested: str) -> Target:
    """Say what ran, after a forward in this thread.

    The only signs that hold together: the layers carry OpenCL's mark, OpenCL is in use in this
    thread, and its default device has a name.
    """
    if requested == "cpu":
        return Target("cpu", "cpu", "CPU")
    device = cv2.ocl.Device.getDefault().name() if cv2.ocl.haveOpenCL() else ""
    if device and cv2.ocl.useOpenCL() and "OCV/OCL" in net.cv.dump():
        return Target(requested, requested, device)
    why = f"OpenCV refused the OpenCL device {device}" if device else "there is no OpenCL device"
    return Target(requested, "cpu", "CPU", why)
