"""Finds the parts of a Mask R-CNN in a frozen graph by following the data back from its outputs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from cvmask.errors import ModelError
from cvmask.graph.flow import Flow, Ref
from cvmask.graph.model_files import FASTER_RCNN, ONE_STAGE
from cvmask.graph.nodes import STRING, Graph, Node

# Ops that move values without changing them; their first input is the data.
LAYOUT = (
    "Reshape",
    "Squeeze",
    "ExpandDims",
    "Transpose",
    "Tile",
    "Slice",
    "StridedSlice",
    "Unpack",
    "Gather",
    "GatherV2",
    "GatherNd",
    "Pad",
    "PadV2",
    "Cast",
)
_CASES = ("Case", "StatelessCase")
OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections", "detection_masks")


@dataclass(frozen=True)
class Stage:
    """One of the two stages: the predictors it ends in and the nodes that turn their outputs into boxes.

    `boxes` and `classes` are the last layers of the two predictors; `exps` are the exponentials of the
    box decoder; `scores` turns class predictions into scores, `suppressions` are the NMS nodes.
    """

    crop: Node | None
    boxes: Ref
    classes: Ref
    scores: Node
    decoder: Node
    exps: tuple[Node, ...]
    suppressions: tuple[Node, ...]


@dataclass(frozen=True)
class Anatomy:
    """The parts of the graph."""

    flow: Flow
    image: Node
    features: Ref
    first: Stage
    second: Stage
    mask_crop: Node
    masks: Ref

    @property
    def graph(self) -> Graph:
        """The graph itself."""
        return self.flow.graph


def dissect(graph: Graph) -> Anatomy:
    """The parts of a frozen Mask R-CNN.

    Raises
    ------
    ModelError
        If it is something else; the message says what was found.
    """
    first_crop, mask_crop = _crops(graph)
    _check_cases(graph)
    flow = Flow(graph)
    features = flow.inputs(first_crop)[0]
    if flow.inputs(mask_crop)[0] != features:
        other = flow.inputs(mask_crop)[0][0]
        raise ModelError(
            f"{graph.origin}: two feature maps are cropped, {features[0]} and {other}: not supported"
        )
    before_first = graph.ancestors([first_crop.name])
    after_first = flow.descendants([first_crop.name])
    before_masks = graph.ancestors([output_name(graph, name) for name in ("detection_masks", "detection_boxes")])
    return Anatomy(
        flow=flow,
        image=_image(graph, before_first),
        features=features,
        first=_stage(flow, None, before_first),
        second=_stage(flow, first_crop, before_masks & after_first),
        mask_crop=mask_crop,
        masks=_mask_logits(flow),
    )


def output_name(graph: Graph, name: str) -> str:
    """Return the name of an output node, with its scope if a program imported the graph into one.

    Returns `name` unchanged if there is no such node.
    """
    if name in graph:
        return name
    scoped = [node.name for node in graph if node.name.endswith(f"/{name}")]
    return scoped[0] if len(scoped) == 1 else name


def _check_cases(graph: Graph) -> None:
    """Refuse TensorFlow 2 branches, which `cvmask.graph.graph_def` does not replace."""
    before = graph.ancestors([output_name(graph, name) for name in ("detection_masks", "detection_boxes")])
    found = next((node for node in graph if node.op in _CASES and node.name in before), None)
    if found is not None:
        raise ModelError(
            f"{graph.origin}: {found.name} is a {found.op}, a TensorFlow 2 branch; "
            "export it again after tf.compat.v1.disable_v2_behavior()"
        )


def _crops(graph: Graph) -> tuple[Node, Node]:
    """Return the CropAndResize nodes of the second stage and of the mask head."""
    masks, boxes = output_name(graph, "detection_masks"), output_name(graph, "detection_boxes")
    if masks not in graph and boxes not in graph and _has_stages(graph):
        ends = [node.name for node in graph if node.name not in graph.consumers]
        raise ModelError(
            f"{graph.origin}: its outputs are {', '.join(ends[:5])}, needed {', '.join(OUTPUTS)}: they were renamed or "
            "cut off; give the graph as export_inference_graph.py wrote it"
        )
    if masks not in graph or boxes not in graph:
        raise ModelError(f"{graph.origin}: not an Object Detection API Mask R-CNN: {_what_is(graph)}")
    before = graph.ancestors([masks])
    crops = [node for node in graph if node.op == "CropAndResize" and node.name in before]
    if len(crops) < 2:
        raise ModelError(f"{graph.origin}: not a two-stage Mask R-CNN: {_what_is(graph)}")
    crops = graph.in_data_order(crops)
    return crops[0], crops[-1]


def _has_stages(graph: Graph) -> bool:
    """Return True if the graph has suppressions and both crops, whatever its outputs are called."""
    ops = Counter(node.op for node in graph)
    return ops["CropAndResize"] > 1 and any("NonMaxSuppression" in op for op in ops)


def _what_is(graph: Graph) -> str:
    """Describe the kind of network that this frozen graph looks like."""
    ops = Counter(node.op for node in graph)
    found = [name for name in OUTPUTS if output_name(graph, name) in graph]
    if "raw_detection_boxes" in graph and not found:
        found = ["raw_detection_boxes"]
    if found and ops["CropAndResize"]:
        return FASTER_RCNN
    if found:
        return ONE_STAGE
    ends = [node.name for node in graph if node.name not in graph.consumers]
    return f"a graph of {len(graph)} nodes that ends in {', '.join(ends[:3])}, needed detection_masks"


def _image(graph: Graph, before: set[str]) -> Node:
    found = [node for node in graph if node.op == "Placeholder" and node.name in before]
    texts = [node.name for node in found if node.get("dtype", "type") == STRING]
    if texts:
        raise ModelError(
            f"{graph.origin}: reads encoded pictures ({texts[0]}); export it with --input_type image_tensor"
        )
    if len(found) != 1:
        names = [node.name for node in found]
        raise ModelError(f"{graph.origin}: needed one input for the picture, got {names}")
    return found[0]


def _stage(flow: Flow, crop: Node | None, scope: set[str]) -> Stage:
    """Return the stage whose nodes are in `scope`."""
    nodes = [flow.graph[name] for name in sorted(scope)]
    suppressions = tuple(node for node in nodes if "NonMaxSuppression" in node.op)
    what = "first" if crop is None else "second"
    if not suppressions:
        raise ModelError(f"{flow.graph.origin}: {what} stage: no non-maximum suppression")
    known: dict[Ref, Ref] = {}
    codes = [(node, _code(flow, node, known)) for node in nodes if node.op == "Exp"]
    exps = tuple(node for node, code in codes if flow.node(code).op in ("Unpack", "Split", "SplitV"))
    if len(exps) != 2:
        raise ModelError(
            f"{flow.graph.origin}: needed one box decoder in the {what} stage, found {len(exps)} Exp"
        )
    decoder = flow.node(_code(flow, exps[0], known))  # its four outputs are y, x, height, width
    scores = flow.node(back(flow, flow.inputs(suppressions[0])[1]))
    if scores.op not in ("Softmax", "Sigmoid"):
        found = f"{scores.op} {scores.name}"
        raise ModelError(
            f"{flow.graph.origin}: {what} stage: scores come from {found}, needed Softmax or Sigmoid"
        )
    boxes = back(flow, flow.inputs(decoder)[0])
    classes = back(flow, flow.inputs(scores)[0], through=("RealDiv", "Mul"))
    return Stage(crop, boxes, classes, scores, decoder, exps, suppressions)


def back(flow: Flow, ref: Ref, through: tuple[str, ...] = (), known: dict[Ref, Ref] | None = None) -> Ref:
    """Follow `ref` back through changes of layout to the output it comes from; `known` as in `Flow.follow`."""
    passing = (*through, "ConcatV2", "Concat", "Pack", "Split", "SplitV")

    def step(ref: Ref) -> Ref | None:
        node = flow.node(ref)
        if node.op in LAYOUT:
            return flow.inputs(node)[0]
        inputs = [other for other in flow.inputs(node) if flow.varies(other)]
        return inputs[0] if node.op in passing and len(inputs) == 1 else None

    return flow.follow(flow.origin(ref), step, known)


def _code(flow: Flow, exp: Node, known: dict[Ref, Ref]) -> Ref:
    """Return the unscaled input of an exponential of the box decoder; `known` as in `Flow.follow`."""
    return flow.follow(flow.inputs(exp)[0], lambda ref: _unscaled(flow, ref), known)


def _unscaled(flow: Flow, ref: Ref) -> Ref | None:
    """Return the input that this node multiplies by a constant, None if it does not."""
    node = flow.node(ref)
    if node.op not in ("RealDiv", "Mul"):
        return None
    return next((other for other in flow.inputs(node) if flow.varies(other)), None)


def _mask_logits(flow: Flow) -> Ref:
    """Return the last layer of the mask head, before the sigmoid and before each box's own class is selected."""
    ref = back(flow, (output_name(flow.graph, "detection_masks"), 0), through=("Sigmoid",))
    if flow.node(ref).op not in ("BiasAdd", "Conv2D", "Add", "AddV2", "Conv2DBackpropInput"):
        node = flow.node(ref)
        raise ModelError(f"{flow.graph.origin}: masks come from {node.op} {node.name}, needed a convolution")
    return ref
