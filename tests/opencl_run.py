"""Runs a model on OpenCL and on the CPU, in a process of its own, and prints how they differ.

    opencl_run.py MODEL TARGET WIDTH HEIGHT
"""

from __future__ import annotations

import json
import sys

import numpy as np

import cvmask
from cvmask import scenes
from cvmask.results.detections import Detections


def difference(ours: Detections, other: Detections) -> float:
    """The largest one, of scores, masks and boxes as shares of the frame."""
    assert len(ours) == len(other)
    assert np.array_equal(ours.class_id, other.class_id)
    height, width = ours.frame_size
    size = np.array([width, height, width, height])
    pairs = (
        (ours.xyxy / size, other.xyxy / size),
        (ours.confidence, other.confidence),
        (ours.soft_masks, other.soft_masks),
    )
    return max(float(np.abs(a - b).max(initial=0)) for a, b in pairs)


def main(model: str, target: str, width: str, height: str) -> None:
    settings = {"score_threshold": 0.3, "size": f"{width}x{height}", "max_detections": 5}
    ours = cvmask.load(model, target=target, **settings)
    cpu = cvmask.load(model, **settings)
    frame = scenes.make_scene(7, (int(width), int(height)), objects=4).image
    found = [ours.detect(frame) for _ in range(2)]
    expected = cpu.detect(frame)
    report = {
        "requested": ours.target.requested,
        "effective": ours.target.effective,
        "device": ours.target.device,
        "reason": ours.target.reason,
        "boxes": len(expected),
        "difference": max(difference(one, expected) for one in found),
        "exact": all(one == expected for one in found),
    }
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
