"""What `cvmask doctor` says of OpenCL and the targets; a driver that crashes or hangs is a finding too."""

from __future__ import annotations

import os
from collections.abc import Iterator

from cvmask.cli.finding import NOTE, OK, PROBLEM, Finding
from cvmask.cli.target_check import try_opencl, try_target
from cvmask.runtime import targets


def check_targets() -> Iterator[Finding]:
    """The OpenCL devices of this machine, and what each target would really do: the bundled model runs on it."""
    opencl = _opencl()
    yield opencl
    for name in targets.NAMES:
        if opencl.state == PROBLEM and name != "cpu":  # OpenCV asks OpenCL before it answers for CUDA and Vulkan, too
            yield Finding(f"target {name}", NOTE, "not tried: the OpenCL driver does not work")
        else:
            yield _target(name)


def _opencl() -> Finding:
    """All devices, and the one that OpenCV takes."""
    if os.environ.get("OPENCV_OPENCL_RUNTIME") == "disabled":  # the driver is not asked either
        return Finding("OpenCL", NOTE, "switched off", "unset OPENCV_OPENCL_RUNTIME=disabled to use it")
    seen = try_opencl()
    if "error" in seen:
        listed_in = os.environ.get("OCL_ICD_VENDORS", "/etc/OpenCL/vendors")
        cure = (
            "set OPENCV_OPENCL_RUNTIME=disabled to do without OpenCL, or remove or reinstall its driver "
            f"(on Linux a file in {listed_in} names it)"
        )
        return Finding("OpenCL", PROBLEM, f"the driver does not say which devices there are: {seen['error']}", cure)
    devices, taken = seen["devices"], seen["taken"]
    if not devices:
        what = "no OpenCL library" if devices is None else "an OpenCL library without devices"
        return Finding("OpenCL", NOTE, what, "install the driver of your GPU; without one, target cpu is the way")
    listed = "; ".join(f"{device} ({platform_name})" for platform_name, device in devices)
    cure = "" if taken else seen["off"] or f"OpenCV takes GPUs only; to run on a CPU device, {targets.TAKE_CPU}"
    return Finding("OpenCL", OK if taken else NOTE, f"{listed}. OpenCV takes {taken or 'none'}", cure)


def _target(name: str) -> Finding:
    seen = try_target(name)
    topic = f"target {name}"
    if "error" in seen:
        return Finding(topic, PROBLEM if name == "cpu" else NOTE, str(seen["error"]).removeprefix(f"{topic}: "))
    if name not in ("auto", seen["effective"]):
        return Finding(topic, NOTE, f"would run on {seen['effective']}: {seen['reason']}")
    where = f"runs on {seen['device']}" if name != "auto" else f"takes {seen['effective']}"
    why = f" ({seen['reason']})" if seen["reason"] else ""
    return Finding(topic, OK, f"{where}, {seen['ms']:.0f} ms a 320x320 frame{why}")
