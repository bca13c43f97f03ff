"""How far are the answers from TensorFlow's, on the same pixels?

Needs TensorFlow. For frozen graphs that are given, with weights, or made here: `resnet101` and
`inception_resnet` are Mask R-CNNs around those backbones at their full depth and width, with seeded weights.
Pictures have a size that the graph's own resizer leaves as it is. Rows are TensorFlow's best, 100 at the most,
above the floor. One without a partner of its class within 1e-4 counts as missing; in brackets is how far off its
closest one is at the most: where a proposal reaches the picture's border, TensorFlow's crop reads zeros beyond
the last cell.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "dev"), str(ROOT / "tests")]
from deep_models import Deep  # noqa: E402
from graph_builder import fill, partners, picture  # noqa: E402

from cvmask.graph.convert import convert_with_facts  # noqa: E402
from cvmask.graph.facts import Resizer  # noqa: E402
from cvmask.graph.graph_def import read_graph  # noqa: E402
from cvmask.graph.split import split  # noqa: E402
from cvmask.runtime.net import Net  # noqa: E402

tf1 = tf.compat.v1


class Wide(Deep):
    """Full width; `gain` keeps the predictors' outputs where scores and masks are neither 0 nor 1."""

    def __init__(self, gain, *args, **options):
        super().__init__(*args, divisor=1, **options)
        self.gain = gain

    def head(self, x, name, depth, scale):
        return super().head(x, name, depth, self.gain * scale)

    def dense(self, x, name, depth, scale):
        return super().dense(x, name, depth, self.gain * scale)


FULL = {
    "resnet101": lambda: Wide(0.1, 31, "resnet_v1_101", 2020),
    "inception_resnet": lambda: Wide(0.03, 32, "InceptionResnetV2", 2018, crop=17, pool_step=1),
}
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "detection_masks")
MASKS = 8  # rows whose masks are compared


def size_of(resizer: Resizer) -> tuple[int, int]:
    """Height and width of a picture that stays as it is."""
    if resizer.kind == "keep_aspect_ratio":
        return resizer.min_dimension, min(resizer.min_dimension * 5 // 4, resizer.max_dimension)
    return resizer.fixed_wh[::-1] if resizer.kind == "fixed" else (480, 640)


def tensorflow(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    graph_def = tf1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    with tf.Graph().as_default():
        tf1.import_graph_def(graph_def, name="")
        with tf1.Session() as session:
            found = session.run([f"{name}:0" for name in OUTPUTS], {"image_tensor:0": image[None]})
    return {name: array[0] for name, array in zip(OUTPUTS, found)}


def nearest(rows: np.ndarray, golden: dict[str, np.ndarray], row: int) -> float:
    """How far the closest row of its class is from one of TensorFlow's, in box or score."""
    same = rows[rows[:, 1] == golden["detection_classes"][row] - 1]
    boxes = np.abs(same[:, [4, 3, 6, 5]] - golden["detection_boxes"][row]).max(1, initial=0)
    return float(np.maximum(boxes, np.abs(same[:, 2] - golden["detection_scores"][row])).min(initial=1))


def compare(path: Path, name: str, floor: float) -> None:
    text, facts = convert_with_facts(read_graph(path))
    parts, graph = split(text), np.fromfile(path, np.uint8)
    image = picture(*size_of(facts.resizer))
    golden = tensorflow(path, image)
    count = int((golden["detection_scores"][:100] > floor).sum())
    golden = {key: array[:count] for key, array in golden.items()}

    blob = np.ascontiguousarray(image[None].transpose(0, 3, 1, 2), np.float32)
    detector = Net(graph, parts.detector_text, [parts.detections, parts.features], name)
    rows, features = detector.forward({parts.image: blob})
    found = partners(rows[0, 0], golden)
    there = np.flatnonzero(found >= 0)
    own = rows[0, 0, found[there]]
    boxes = np.abs(own[:, [4, 3, 6, 5]] - golden["detection_boxes"][there]).max(initial=0)
    scores = np.abs(own[:, 2] - golden["detection_scores"][there]).max(initial=0)

    head = Net(graph, parts.mask_head_text, [parts.masks], name)
    best = rows[:, :, found[there[:MASKS]]]
    masks = head.forward({parts.features: features, parts.detections: np.ascontiguousarray(best)})[0]
    index = best[0, 0, :, 1].astype(int) if masks.shape[1] > 1 else 0
    gap = np.abs(masks[np.arange(len(masks)), index] - golden["detection_masks"][there[:MASKS]]).max(initial=0)

    missing = [nearest(rows[0, 0], golden, row) for row in np.flatnonzero(found < 0)]
    order = "same" if np.all(np.diff(found[there]) > 0) else "differs"
    far = f"{len(missing)} ({max(missing):.0e})" if missing else "0"
    cells = [f"{image.shape[1]}x{image.shape[0]}", count, far, order]
    cells += [f"{value:.0e}" for value in (boxes, scores, gap)]
    print(f"| {name} | " + " | ".join(map(str, cells)) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("graphs", nargs="*", default=list(FULL), help=f"files, or of {', '.join(FULL)} (default: both)")
    parser.add_argument("--floor", type=float, default=0.05, help="lowest score (default: 0.05)")
    args = parser.parse_args()
    print("| graph | picture | rows | missing | order | boxes | scores | masks |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.graphs:
            path = Path(name)
            if name in FULL:
                path = Path(folder) / f"{name}.pb"
                path.write_bytes(fill(FULL[name]().graph_def().SerializeToString()))
            compare(path, name if name in FULL else f"{path.parent.name}/{path.name}", args.floor)


if __name__ == "__main__":
    main()
