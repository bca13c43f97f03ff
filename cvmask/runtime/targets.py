"""Targets: the requested device, and a check of the device that really runs."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass

import cv2

from cvmask.errors import CvmaskError, TargetError, install
from cvmask.runtime.net import Net
from cvmask.system.files import make_private
from cvmask.system.folders import cache_home

NAMES = ("cpu", "opencl", "opencl-fp16", "auto", "cuda", "cuda-fp16", "vulkan", "onnxruntime")
ONNX_RUNTIME = "onnxruntime"  # the only one that is not OpenCV's, a package of its own
SELF_BUILT = {"cuda": "CUDA", "cuda-fp16": "CUDA", "vulkan": "Vulkan"}

# How to let OpenCV use a CPU as OpenCL device.
TAKE_CPU = "set both OPENCV_OPENCL_DEVICE=:CPU: and OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES=1"

# Backend and target of cv2.dnn, and the mark of Net.dump() on a layer that runs there.
_CALLED = {
    "cpu": ("OPENCV", "CPU", "OCV/CPU"),
    "opencl": ("OPENCV", "OPENCL", "OCV/OCL"),
    "opencl-fp16": ("OPENCV", "OPENCL_FP16", "OCV/OCL_FP16"),
    "cuda": ("CUDA", "CUDA", "CUDA/CUDA"),
    "cuda-fp16": ("CUDA", "CUDA_FP16", "CUDA/CUDA_FP16"),
    "vulkan": ("VKCOM", "VULKAN", "VULKAN/VULKAN"),
}


@dataclass(frozen=True)
class Target:
    """The requested and the effective target.

    Attributes
    ----------
    requested, effective
        Of `NAMES`; `effective` is never "auto".
    device
        Name of the device of the effective target.
    reason
        Why the effective target is not the requested one; empty if it is. For "auto" the reason of the choice.
    engine
        "importer" if OpenCV loaded the TensorFlow graph itself, "onnx" if it was written as ONNX networks.
    """

    requested: str
    effective: str
    device: str
    reason: str = ""
    engine: str = "importer"

    @property
    def fell_back(self) -> bool:
        """Whether another target runs than was requested."""
        return self.requested not in ("auto", self.effective)

    @property
    def warning(self) -> str:
        """One line for the user if another target runs, else an empty text."""
        return f"{self.requested} does not run: {self.reason}; using {self.effective}" if self.fell_back else ""


def check_name(name: str) -> None:
    """Raise TargetError if the target is unknown, this OpenCV was built without it, or its package is missing."""
    if name not in NAMES:
        raise TargetError(f"target {name!r} is unknown: use one of {', '.join(NAMES)}")
    if name == ONNX_RUNTIME and not has_onnxruntime():
        raise TargetError(f"target {name} needs the package {name}: {install(name)}")
    if name in SELF_BUILT and not is_built(name):
        raise TargetError(
            f"target {name}: OpenCV {cv2.__version__} was built without {SELF_BUILT[name]} or finds no device "
            "for it; wheels from PyPI have cpu and opencl"
        )


def has_onnxruntime() -> bool:
    """Whether the package of that target is installed. It is not imported."""
    return importlib.util.find_spec(ONNX_RUNTIME) is not None


def is_built(name: str) -> bool:
    """Whether this OpenCV was built with a target of `SELF_BUILT`, and finds a device for it."""
    backend, target = _ids(name)
    # For these targets the list is reliable: it is empty unless OpenCV was built with them and finds a device.
    return target in cv2.dnn.getAvailableTargets(backend)


def prefer(net: Net, name: str) -> None:
    """Ask OpenCV to run `net` on a target; `observe` shows after the first forward whether it does."""
    if name.startswith("opencl"):
        _keep_tuned_kernels()
    backend, target = _ids(name)
    net.cv.setPreferableBackend(backend)
    net.cv.setPreferableTarget(target)


def observe(net: Net, requested: str) -> Target:
    """Return what ran, after a forward in this thread.

    OpenCL ran only if all of these hold: the layers carry its mark, it is in use in this thread, and its
    default device has a name.
    """
    if requested == "cpu":
        return Target("cpu", "cpu", "CPU")
    if requested in SELF_BUILT:
        return _observe_marks(net, requested)
    device = opencl_device()
    dump = net.cv.dump() if device and cv2.ocl.useOpenCL() else ""
    ran = next((name for name in ("opencl-fp16", "opencl") if _CALLED[name][2] in dump), "cpu")
    if ran == "cpu":
        return Target(requested, "cpu", "CPU", _why_no_opencl(device))
    why = "" if ran == requested else f"OpenCV does not run half precision on {device}"
    return Target(requested, ran, device, why)


def opencl_device() -> str:
    """Return the name of the device that OpenCL would run on; empty if there is none."""
    # haveOpenCL() is not enough: it is true for a platform without devices.
    return str(cv2.ocl.Device.getDefault().name()) if cv2.ocl.haveOpenCL() else ""


def switched_off() -> str:
    """Return which environment variable keeps OpenCV from an OpenCL device; empty if none does."""
    name = "OPENCV_OPENCL_DEVICE" if cv2.ocl.haveOpenCL() else "OPENCV_OPENCL_RUNTIME"
    value = os.environ.get(name)
    return f"{name}={value} is set: OpenCV finds no OpenCL device with it; change or unset it" if value else ""


def _observe_marks(net: Net, requested: str) -> Target:
    if _CALLED[requested][2] in net.cv.dump():
        return Target(requested, requested, SELF_BUILT[requested])
    return Target(requested, "cpu", "CPU", f"OpenCV {cv2.__version__} ran no layer there")


def _why_no_opencl(device: str) -> str:
    if not device:
        return switched_off() or (
            "OpenCV accepts no OpenCL device here: install the driver of your GPU (`clinfo -l` lists devices); "
            f"to run on a CPU device, {TAKE_CPU}"
        )
    if not cv2.ocl.useOpenCL():
        return "OpenCL is switched off in this thread (cv2.ocl.setUseOpenCL)"
    why = f"OpenCV refuses {device}: it accepts only GPUs, and half precision only on Intel's"
    return f"{why}; OPENCV_DNN_OPENCL_ALLOW_ALL_DEVICES=1 lets it use any"


def _ids(name: str) -> tuple[int, int]:
    backend, target, _ = _CALLED[name]
    return getattr(cv2.dnn, f"DNN_BACKEND_{backend}"), getattr(cv2.dnn, f"DNN_TARGET_{target}")


def _keep_tuned_kernels() -> None:
    """Give OpenCV a folder for its tuned convolution kernels, unless one is set."""
    if "OPENCV_OCL4DNN_CONFIG_PATH" in os.environ:
        return
    try:
        folder = cache_home() / "opencl"
        make_private(folder)
    except (OSError, CvmaskError):  # the folder is optional
        return
    os.environ["OPENCV_OCL4DNN_CONFIG_PATH"] = str(folder)
