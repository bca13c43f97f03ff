"""Asks for OpenCL's devices and runs the bundled model, in a process each: a driver may take the process with it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

TIMEOUT_S = 300
OPENCL_TIMEOUT_S = 60

_CODE = """
import json, sys, time
from cvmask import loading, scenes
from cvmask.errors import CvmaskError
try:
    model = loading.load("shapes", target=sys.argv[1])
except CvmaskError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
frame = scenes.make_scene(7, (320, 320)).image
model.detect(frame)
began = time.perf_counter()
model.detect(frame)
spent_ms = 1000 * (time.perf_counter() - began)
seen = model.target
print(json.dumps({"effective": seen.effective, "device": seen.device, "reason": seen.reason, "ms": spent_ms}))
"""

_OPENCL_CODE = """
import json
from cvmask.cli.opencl_devices import opencl_devices
from cvmask.runtime import targets
from cvmask.system.quiet import quiet
with quiet():
    seen = {"devices": opencl_devices(), "taken": targets.opencl_device()}
    seen["off"] = "" if seen["taken"] else targets.switched_off()
print(json.dumps(seen))
"""


def try_opencl(timeout_s: float = OPENCL_TIMEOUT_S) -> dict[str, Any]:
    """What OpenCL there is.

    Returns
    -------
    ``devices``, as `opencl_devices` gives them, ``taken``, the name of the one that OpenCV takes, and ``off``,
    which variable keeps it from taking one; or else ``error``.
    """
    return _ask([_OPENCL_CODE], timeout_s)


def try_target(name: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
    """What happens on a target.

    Returns
    -------
    ``effective``, ``device``, ``reason`` and ``ms`` (of one 320x320 frame), or else ``error``.
    """
    return _ask([_CODE, name], timeout_s)


def _ask(code_and_arguments: list[str], timeout_s: float) -> dict[str, Any]:
    """What Python code prints as JSON in its last line, or why it did not, as ``error``."""
    command = [sys.executable, "-c", *code_and_arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {timeout_s:.0f} seconds"}
    if done.returncode == 0:
        try:
            return dict(json.loads(done.stdout.splitlines()[-1]))
        except (ValueError, IndexError):
            return {"error": f"answered {done.stdout[-80:]!r}"}
    if done.returncode < 0:
        return {"error": f"the process crashed (signal {-done.returncode})"}
    return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
