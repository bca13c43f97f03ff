"""Find, class by class, the mask threshold that scores best on scenes of their own (seeds from 5000).

Prints what config.MASK_LOGIT_SHIFT should grow by, so that the best threshold becomes MASK_THRESHOLD.
"""

from __future__ import annotations

import argparse

import numpy as np

import cvmask
from cvmask import scenes

from . import config as c
from .evaluate import result_rows, score, to_coco, truth_rows

THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)


def logit(p: float) -> float:
    return float(np.log(p / (1 - p)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default="shapes")
    parser.add_argument("--scenes", type=int, default=300)
    args = parser.parse_args()
    model = cvmask.load(args.model, score_threshold=0.02)
    made = [scenes.make_scene(5000 + i) for i in range(args.scenes)]
    found = [model.detect(scene.image) for scene in made]
    truth = to_coco([row for i, scene in enumerate(made) for row in truth_rows(i, scene)], len(made))
    table = []
    for threshold in THRESHOLDS:
        rows = [row for i, d in enumerate(found) for row in result_rows(i, d, threshold)]
        figures = score(truth, rows, "segm")
        table.append([figures[name] for name in c.LABELS])
        print(threshold, f"{figures['AP']:.4f}", " ".join(f"{v:.3f}" for v in table[-1]))
    best = np.argmax(table, axis=0)
    print("sum of the best:", f"{np.max(table, axis=0).mean():.4f}")
    shifts = [logit(c.MASK_THRESHOLD) - logit(THRESHOLDS[i]) for i in best]
    print("grow by:", ", ".join(f"{shift:.2f}" for shift in shifts))


if __name__ == "__main__":
    main()
