"""Hold an exported people model in cvmask against TensorFlow's answers on the same pictures."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
from shapes.compare import Judge, differences

import cvmask

from . import config as c


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("-m", "--model", type=Path, default=Path("models/people"))
    parser.add_argument("--score-threshold", type=float, default=0.1)
    parser.add_argument("--golden", type=Path, help="write TensorFlow's answer for the first picture, for the tests")
    args = parser.parse_args()
    model = cvmask.load(args.model, score_threshold=args.score_threshold)
    judge = Judge(args.model / "frozen_inference_graph.pb")
    worst: dict[str, float] = {}
    persons = 0
    for path in args.pictures:
        # In the model's own size: how OpenCV resizes is another question.
        frame = cv2.resize(cv2.imread(str(path)), (c.SIZE, c.SIZE), interpolation=cv2.INTER_AREA)
        ours, theirs = model.detect(frame), judge.detect(frame, args.score_threshold)
        if len(ours) != len(theirs):
            raise SystemExit(f"{path}: {len(ours)} persons here, {len(theirs)} in TensorFlow")
        persons += len(ours)
        if args.golden and path == args.pictures[0]:
            rows = {"xyxy": theirs.xyxy, "confidence": theirs.confidence, "soft_masks": theirs.soft_masks}
            np.savez_compressed(args.golden, **rows)
        for key, value in differences(ours, theirs).items():
            pick = min if key == "mask_iou" else max
            worst[key] = pick(worst.get(key, value), value)
    print(json.dumps({"pictures": len(args.pictures), "persons": persons, **worst}, indent=2))


if __name__ == "__main__":
    main()
