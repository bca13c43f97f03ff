"""Runs a frozen graph as ONNX networks, for an OpenCV without a TensorFlow importer, and for ONNX Runtime.

Either runs the networks on the CPU. The steps between them follow TensorFlow's rules, see `cvmask.runtime.boxes`, so
rows that OpenCV's own layer would drop or reorder are as in TensorFlow.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import ModelError
from cvmask.graph import split
from cvmask.graph.facts import GraphFacts
from cvmask.graph.graph_def import parse_graph
from cvmask.graph.nodes import Graph
from cvmask.graph.onnx_networks import Parts, box_head_network, features_network, mask_head_network, parts_of
from cvmask.runtime import boxes as rules
from cvmask.runtime.net import OnnxNet, OnnxRuntimeNet
from cvmask.runtime.pair import ROWS_AT_A_TIME, WARM_UP_WH

Floats = NDArray[np.float32]
_FEATURES = ("features", "proposal_codes", "proposal_scores")
_BOX_HEAD = ("box_codes", "class_scores")


@dataclass(frozen=True)
class _Texts:
    """Identifies a pair, for fingerprints."""

    detector_text: str
    mask_head_text: str


class OnnxPair:
    """Like `pair.Pair`, with networks written from the frozen graph. Not thread-safe.

    Parameters
    ----------
    graph
        The bytes of the binary GraphDef, shape (n,).
    text
        A text graph, of which only the score floor and the numbers of proposals and detections are used.
    origin
        Name of the model in messages.
    warm_up_wh
        Width and height of the picture that `warm_up` takes.
    network
        What runs each network.

    Raises
    ------
    ModelError
        If the graph is not understood, has an unsupported op, or cannot be loaded.
    """

    def __init__(
        self,
        graph: NDArray[np.uint8],
        text: Graph,
        origin: str,
        warm_up_wh: tuple[int, int] = WARM_UP_WH,
        network: type[OnnxNet | OnnxRuntimeNet] = OnnxNet,
    ) -> None:
        self._warm_up_wh = warm_up_wh
        parts = parts_of(parse_graph(graph, origin))
        self.facts = as_asked(parts.facts, text)
        networks = networks_of(parts, text)
        self.parts = _Texts(hashlib.sha256(b"".join(networks)).hexdigest(), repr(self.facts))
        self.detector = network(networks[0], _FEATURES, origin)
        self._box_head = network(networks[1], _BOX_HEAD, origin)
        self.mask_head = network(networks[2], ("masks",), origin)
        self._origin = origin
        self.mask_shape: tuple[int, ...] = ()  # shape of one object's masks, known after the first run

    def detect(self, blob: Floats) -> tuple[Floats, Floats]:
        """Rows (1, 1, n, 7) and the feature map (1, c, h, w) of a blob (1, 3, H, W)."""
        size = blob.shape[2], blob.shape[3]
        features, codes, scores = self.detector.forward({"image": blob})
        self._check(codes, scores)
        cells = features.shape[2], features.shape[3]
        boxes = rules.proposals(codes.reshape(-1, 4), scores.reshape(-1), cells, size, self.facts)
        if not len(boxes):
            return np.zeros((1, 1, 0, 7), np.float32), features
        codes, scores = self._box_head.forward({"features": features, "boxes": boxes})
        self._check(codes, scores)
        return rules.detections(codes, scores, boxes, size, self.facts), features

    def _check(self, *arrays: Floats) -> None:
        if not all(np.isfinite(array).all() for array in arrays):
            raise ModelError(f"{self._origin}: the network gives boxes or scores that are NaN")

    def masks(self, features: Floats, rows: Floats) -> Floats:
        """Masks (n, classes, h, w), range 0 to 1, of n rows (1, 1, n, 7)."""
        boxes = np.ascontiguousarray(rows.reshape(-1, 7)[:, [4, 3, 6, 5]])
        if not len(boxes):
            return np.zeros((0, *self.mask_shape), np.float32)
        chunks = [boxes[i : i + ROWS_AT_A_TIME] for i in range(0, len(boxes), ROWS_AT_A_TIME)]
        found = [self.mask_head.forward({"features": features, "boxes": chunk})[0] for chunk in chunks]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def warm_up(self, size_wh: tuple[int, int] | None = None, boxes: int = 1) -> None:
        """Run all networks once, on a black picture and boxes that cover it."""
        width, height = size_wh or self._warm_up_wh
        _, features = self.detect(np.zeros((1, 3, height, width), np.float32))
        row = np.array([0, 0, 1, 0, 0, 1, 1], np.float32)
        self.mask_shape = self.masks(features, np.tile(row, (1, 1, boxes, 1))).shape[1:]


def networks_of(parts: Parts, text: Graph) -> tuple[bytes, bytes, bytes]:
    """Write the networks `features`, `box_head` and `mask_head`. ModelError if one has an unsupported op."""
    width, height = parts.facts.resizer.fixed_wh
    size = (height, width) if split.has_built_in_size(text) else None
    return features_network(parts, size), box_head_network(parts), mask_head_network(parts)


def as_asked(facts: GraphFacts, text: Graph) -> GraphFacts:
    """Return the facts of a frozen graph, with the score floor and the counts of its text graph."""
    first, second = facts.first_stage, replace(facts.second_stage, score_threshold=split.score_floor(text))
    proposals, most = split.proposals(text), split.max_detections(text)
    if 0 < proposals != facts.proposals:
        first = replace(first, max_per_class=proposals, max_total=proposals)
    if 0 < most != facts.max_detections:
        limit = second.max_per_class if facts.max_of_a_class is not None else max(second.max_per_class, most)
        second = replace(second, max_total=most, max_per_class=limit)
    return replace(facts, first_stage=first, second_stage=second)
