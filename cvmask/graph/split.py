"""Splits a text graph into the detector and the mask head.

The cut is before the CropAndResize that reads the final detections. It is found by following the data;
the names in the graph do not matter. The inputs of that node become the outputs of the detector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cvmask.errors import ModelError
from cvmask.graph.model_files import FASTER_RCNN, ONE_STAGE
from cvmask.graph.nodes import FLOAT, Attr, Graph, Node
from cvmask.graph.text import print_text


@dataclass(frozen=True)
class Split:
    """Two graphs for one `.pb`, and the names of their inputs and outputs.

    The detector reads `image` and gives `detections` (1, 1, n, 7) and `features` (1, c, h, w); the
    mask head reads those two, with any number of rows, and gives `masks` (n, classes, h, w).
    """

    detector: Graph
    mask_head: Graph
    image: str
    detections: str
    features: str
    masks: str

    @property
    def detector_text(self) -> str:
        """The detector as a text graph."""
        return print_text(self.detector)

    @property
    def mask_head_text(self) -> str:
        """The mask head as a text graph."""
        return print_text(self.mask_head)


def split(graph: Graph) -> Split:
    """Split a text graph where the final detections are cropped from the feature map.

    Raises
    ------
    ModelError
        If there is no mask head, as in a Faster R-CNN or an SSD.
    """
    final = final_detections(graph)
    crop = _mask_crop(graph, final)
    features, detections = crop.sources()[:2]
    masks = _mask_output(graph, crop)
    head = graph.ancestors([masks], stop=[features, detections])
    detector = graph.ancestors([detections, features])
    image = _placeholder(graph, detector)
    if image in head:
        raise ModelError(f"{graph.origin}: the mask head {masks!r} reads the image, so it cannot be split off")
    inputs = [_input(features, (-1, -1, -1, -1)), _input(detections, (1, 1, -1, 7))]
    rest = (node for node in graph if node.name in head - {features, detections})
    return Split(
        detector=Graph(map(_without_control, (n for n in graph if n.name in detector)), graph.origin),
        mask_head=Graph([*inputs, *map(_without_control, rest)], graph.origin),
        image=image,
        detections=detections,
        features=features,
        masks=masks,
    )


def final_detections(graph: Graph) -> Node:
    """Return the DetectionOutput of the second stage: the one that depends on the other.

    Raises
    ------
    ModelError
        If there are not two stages.
    """
    stages = _detection_outputs(graph)
    if len(stages) < 2:
        raise ModelError(f"{graph.origin}: not a Mask R-CNN: {_what_is(graph)}")
    return stages[-1]


def first_detections(graph: Graph) -> Node:
    """Return the DetectionOutput of the first stage, which makes the proposals.

    Raises
    ------
    ModelError
        If there are not two stages.
    """
    final_detections(graph)
    return _detection_outputs(graph)[0]


def _detection_outputs(graph: Graph) -> list[Node]:
    """Return the DetectionOutputs on the way to the last one, in the order of the data."""
    nodes = [node for node in graph if node.op == "DetectionOutput"]
    return graph.in_data_order(nodes)


def _mask_crop(graph: Graph, final: Node) -> Node:
    after = graph.descendants([final.name])
    crops = [node for node in graph if node.op == "CropAndResize" and len(node.sources()) > 1]
    found = [node for node in crops if node.sources()[1] in after]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ModelError(f"{graph.origin}: no mask head to split off: {_what_is(graph)}")
    names = ", ".join(node.name for node in found)
    raise ModelError(f"{graph.origin}: {len(found)} nodes crop the final detections, needed one: {names}")


def _mask_output(graph: Graph, crop: Node) -> str:
    readers = graph.consumers
    ends, seen, todo = [], set(), [crop]
    while todo:
        node = todo.pop()
        if node.name in seen:
            continue
        seen.add(node.name)
        todo.extend(readers.get(node.name, []))
        if node.name not in readers:
            ends.append(node.name)
    if len(ends) == 1:
        return ends[0]
    if "detection_masks" in ends:
        return "detection_masks"
    raise ModelError(f"{graph.origin}: which output after {crop.name} is detection_masks? {sorted(ends)}")


def _placeholder(graph: Graph, names: set[str]) -> str:
    found = [node.name for node in graph if node.op == "Placeholder" and node.name in names]
    if len(found) != 1:
        raise ModelError(f"{graph.origin}: {len(found)} inputs feed the detections, needed one: {found}")
    return found[0]


def _input(name: str, shape: tuple[int, ...]) -> Node:
    return Node(name, "Placeholder", [], {"dtype": Attr("type", FLOAT), "shape": Attr("shape", shape)})


def _without_control(node: Node) -> Node:
    return Node(node.name, node.op, [name for name in node.inputs if not name.startswith("^")], node.attrs)


def _what_is(graph: Iterable[Node]) -> str:
    """Describe the kind of network that this text graph looks like."""
    ops = Counter(node.op for node in graph)
    outputs, crops = ops["DetectionOutput"], ops["CropAndResize"]
    if outputs >= 2 and crops == 1:
        return FASTER_RCNN
    if outputs == 1 and not crops:
        return ONE_STAGE
    total = sum(ops.values())
    return f"{outputs} DetectionOutput and {crops} CropAndResize among {total} nodes, needed 2 and 2"


MAX_PROPOSALS = 1000  # ten times what exports have; far larger counts overflow sizes in OpenCV
_OF_ONE_SIZE = ("ResizeBilinear", "ResizeNearestNeighbor", "Conv2DBackpropInput")


def set_score_floor(graph: Graph, floor: float) -> Graph:
    """Return a graph whose final detections have scores above `floor`, in 0..1."""
    if not 0 <= floor <= 1:
        raise ModelError(f"score threshold: needed 0 to 1, got {floor}")
    return _with_attr(graph, final_detections(graph), "confidence_threshold", Attr("f", float(floor)))


def score_floor(graph: Graph) -> float:
    """Return the score, in 0..1, that final detections have to exceed."""
    return float(final_detections(graph).get("confidence_threshold", "f", 0.0))


def set_proposals(graph: Graph, count: int) -> Graph:
    """Return a graph whose first stage gives `count` proposals: fewer are faster, but change the results."""
    if count > MAX_PROPOSALS:
        raise ModelError(f"proposals: needed {MAX_PROPOSALS} or fewer, got {count}")
    return _with_count(graph, first_detections(graph), count, "proposals")


def proposals(graph: Graph) -> int:
    """Return the largest number of proposals that the first stage gives."""
    return int(first_detections(graph).get("keep_top_k", "i", -1))


def max_detections(graph: Graph) -> int:
    """Return the largest number of rows of final detections."""
    return int(final_detections(graph).get("keep_top_k", "i", -1))


def set_max_detections(graph: Graph, count: int | None) -> Graph:
    """Return a graph that gives at most `count` rows of final detections, None for all.

    The count is limited to one row per proposal and class, because OpenCV allocates all rows.
    """
    final = final_detections(graph)
    possible = int(first_detections(graph).get("keep_top_k", "i", 0)) * int(final.get("num_classes", "i", 0))
    if count is None:
        count = possible if possible > 0 else max(max_detections(graph), 1)
    return _with_count(graph, final, min(count, possible) if possible > 0 else count, "detections")


def has_built_in_size(graph: Graph) -> bool:
    """Return True if a layer before the proposals has a constant output size: only one picture size fits."""
    before = graph.ancestors([first_detections(graph).name])
    return any(node.op in _OF_ONE_SIZE and node.name in before for node in graph)


def _with_count(graph: Graph, node: Node, count: int, what: str) -> Graph:
    if count < 1:
        raise ModelError(f"{what}: needed 1 or more, got {count}")
    return _with_attr(graph, node, "keep_top_k", Attr("i", int(count)))


def _with_attr(graph: Graph, node: Node, key: str, attr: Attr) -> Graph:
    changed = Node(node.name, node.op, node.inputs, {**node.attrs, key: attr})
    return Graph((changed if other is node else other for other in graph), graph.origin)
