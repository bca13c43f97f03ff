"""A trained network as a frozen TensorFlow graph, in the form of the Object Detection API.

The same inputs and outputs, scopes and stages as the API's exporter writes for a Mask R-CNN. Batch
normalisation is folded into the convolutions. `c` is the module with the numbers of the model.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import tensorflow as tf
import torch
from torch import nn

from . import config
from .network import Bottleneck, ConvBN, ShapesNet

tf1 = tf.compat.v1
Features = Callable[[nn.Module, tf.Tensor], tf.Tensor]
tf1.disable_control_flow_v2()  # loops become Enter, Merge, Switch and Exit nodes, as in the API's exports



# Layers


def weights_of(layer: ConvBN | nn.Conv2d | nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weights (h, w, in, out) or (in, out), and biases (out,), normalisation folded in."""
    if isinstance(layer, ConvBN):
        bn = layer.bn
        scale = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).detach().numpy()
        biases = bn.bias.detach().numpy() - bn.running_mean.numpy() * scale
        return layer.conv.weight.detach().numpy().transpose(2, 3, 1, 0) * scale, biases
    weights = layer.weight.detach().numpy()
    return weights.T if isinstance(layer, nn.Linear) else weights.transpose(
        2, 3, 1, 0
    ), layer.bias.detach().numpy()


def variable(name: str, value: np.ndarray) -> tf.Tensor:
    """The frozen variable `name`; asked for twice, the same one."""
    graph = tf1.get_default_graph()
    try:
        return graph.get_tensor_by_name(f"{name}/read:0")
    except KeyError:
        with tf1.name_scope(None):
            return tf1.identity(tf1.constant(value.astype(np.float32), name=name), name=f"{name}/read")


def conv(
    x: tf.Tensor, name: str, layer: ConvBN | nn.Conv2d, relu: str = "", variables: str = ""
) -> tf.Tensor:
    """Convolution, bias and activation under `name`; the variables lie there or under `variables`."""
    weights, biases = weights_of(layer)
    inner = layer.conv if isinstance(layer, ConvBN) else layer
    stride, dilation = inner.stride[0], inner.dilation[0]
    variables = variables or name
    padding = "SAME"
    if stride > 1:  # whatever the size: see network.pad_same
        side, padding = inner.kernel_size[0] // 2, "VALID"
        sides = [side, side + layer.beyond]
        x = tf1.pad(x, [[0, 0], sides, sides, [0, 0]], name=f"{name}/Pad")
    x = tf1.nn.conv2d(
        x,
        variable(f"{variables}/weights", weights),
        [1, stride, stride, 1],
        padding,
        dilations=[1, dilation, dilation, 1],
        name=f"{name}/Conv2D",
    )
    x = tf1.nn.bias_add(x, variable(f"{variables}/biases", biases), name=f"{name}/BiasAdd")
    activation = {"Relu": tf.nn.relu, "Relu6": tf.nn.relu6, "": lambda x, name: x}[relu]
    return activation(x, name=f"{name}/{relu}")


def bottleneck(x: tf.Tensor, name: str, block: Bottleneck, variables: str) -> tf.Tensor:
    inner = conv(x, f"{name}/conv1", block.reduce, "Relu", f"{variables}/conv1")
    inner = conv(inner, f"{name}/conv2", block.conv, "Relu", f"{variables}/conv2")
    inner = conv(inner, f"{name}/conv3", block.expand, "", f"{variables}/conv3")
    return tf.nn.relu(tf1.add(x, inner, name=f"{name}/add"), name=f"{name}/Relu")


def dense(x: tf.Tensor, name: str, layer: nn.Linear) -> tf.Tensor:
    weights, biases = weights_of(layer)
    x = tf1.matmul(x, variable(f"{name}/weights", weights), name=f"{name}/MatMul")
    return tf1.nn.bias_add(x, variable(f"{name}/biases", biases), name=f"{name}/BiasAdd")


# Input


def resize(c: ModuleType, image: tf.Tensor) -> tf.Tensor:
    """To one size, or the shorter side to the minimum unless the longer one would pass the maximum."""
    if hasattr(c, "SIZE"):
        return tf1.image.resize_bilinear(image[None], [c.SIZE, c.SIZE])[0]
    size = tf1.cast(tf1.shape(image)[:2], tf.float32)
    scale = c.MIN_DIMENSION / tf1.reduce_min(size)
    longest = tf1.reduce_max(size)
    scale = tf1.where(tf1.round(longest * scale) > c.MAX_DIMENSION, c.MAX_DIMENSION / longest, scale)
    new_size = tf1.cast(tf1.round(size * scale), tf.int32)
    return tf1.image.resize_bilinear(image[None], new_size)[0]


def preprocess(c: ModuleType, images: tf.Tensor) -> tf.Tensor:
    with tf1.name_scope("Preprocessor"):
        resized = tf1.map_fn(lambda image: resize(c, image), tf1.cast(images, tf.float32), name="map")
        scaled = tf1.multiply(np.float32(2.0 / 255.0), resized, name="mul")
        return tf1.subtract(scaled, np.float32(1.0), name="sub")


# Boxes: (y1, x1, y2, x2) in pixels of the resized picture; a window is (0, 0, height, width)


def anchors(c: ModuleType, features: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Anchors (n, 4), clipped to the picture."""
    with tf1.name_scope("GridAnchorGenerator"):
        grid = tf1.shape(features)
        scales, ratios = tf1.meshgrid(tf1.constant(c.ANCHOR_SCALES), tf1.constant(c.ASPECT_RATIOS))
        scales, roots = tf1.reshape(scales, [-1]), tf1.sqrt(tf1.reshape(ratios, [-1]))
        base = tf1.constant([c.ANCHOR_BASE, c.ANCHOR_BASE], tf.float32)
        heights, widths = scales / roots * base[0], scales * roots * base[1]
        stride = tf1.constant([c.STRIDE, c.STRIDE], tf.float32)
        y = tf1.cast(tf1.range(grid[1]), tf.float32) * stride[0]
        x = tf1.cast(tf1.range(grid[2]), tf.float32) * stride[1]
        y, x = y[:, None, None], x[None, :, None]
        zeros = tf1.zeros_like(y + x + heights)
        sides = [
            y - heights / 2 + zeros,
            x - widths / 2 + zeros,
            y + heights / 2 + zeros,
            x + widths / 2 + zeros,
        ]
        boxes = tf1.reshape(tf1.stack(sides, axis=-1), [-1, 4])
    return clip(boxes, window)


def clip(boxes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Boxes (..., 4) cut to the window."""
    with tf1.name_scope("ClipToWindow"):
        y1, x1, y2, x2 = tf1.split(boxes, 4, axis=-1)
        low_y, low_x, high_y, high_x = tf1.unstack(window)
        cut = [
            tf1.maximum(tf1.minimum(value, high), low)
            for value, low, high in (
                (y1, low_y, high_y),
                (x1, low_x, high_x),
                (y2, low_y, high_y),
                (x2, low_x, high_x),
            )
        ]
        return tf1.concat(cut, axis=-1)


def normalise(boxes: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Pixels to 0..1 of the picture."""
    with tf1.name_scope("ToNormalizedCoordinates"):
        return boxes / tf1.concat([window[2:], window[2:]], axis=0)


def decode(c: ModuleType, encodings: tf.Tensor, reference: tf.Tensor) -> tf.Tensor:
    """Faster R-CNN box coder: (..., 4) encodings on (..., 4) reference boxes."""
    with tf1.name_scope("Decode"):
        ty, tx, th, tw = tf1.unstack(encodings, axis=-1)
        y1, x1, y2, x2 = tf1.unstack(reference, axis=-1)
        scale_y, scale_x, scale_h, scale_w = c.SCALES_YXHW
        height, width = y2 - y1, x2 - x1
        center_y = ty / scale_y * height + (y1 + height / 2)
        center_x = tx / scale_x * width + (x1 + width / 2)
        half_h, half_w = tf1.exp(th / scale_h) * height / 2, tf1.exp(tw / scale_w) * width / 2
        corners = [center_y - half_h, center_x - half_w, center_y + half_h, center_x + half_w]
        return tf1.stack(corners, axis=-1)


def pad_rows(x: tf.Tensor, rows: int) -> tf.Tensor:
    return tf1.pad(x, [[0, rows - tf1.shape(x)[0]]] + [[0, 0]] * (x.shape.rank - 1))


def propose(
    c: ModuleType, boxes: tf.Tensor, scores: tf.Tensor, window: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """First-stage suppression: proposals (b, MAX_PROPOSALS, 4), zero-padded, and their number (b,)."""

    def one(parts: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        clipped = clip(parts[0], window)
        keep = tf1.image.non_max_suppression(clipped, parts[1], c.MAX_PROPOSALS, c.FIRST_STAGE_NMS_IOU)
        return pad_rows(tf1.gather(clipped, keep), c.MAX_PROPOSALS), tf1.size(keep)

    with tf1.name_scope("BatchMultiClassNonMaxSuppression"):
        return tf1.map_fn(one, (boxes, scores), dtype=(tf.float32, tf.int32))


def suppress(
    c: ModuleType, boxes: tf.Tensor, scores: tf.Tensor, valid: tf.Tensor, window: tf.Tensor
) -> list[tf.Tensor]:
    """Second-stage suppression, class by class: boxes, scores, classes (from 0) and their number."""

    def one(parts: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        clipped = clip(parts[0][: parts[2]], window)
        per_class = [one_class(c, clipped[:, k], parts[1][: parts[2], k], k) for k in range(c.NUM_CLASSES)]
        found, found_scores, found_classes = (tf1.concat(items, axis=0) for items in zip(*per_class))
        count = tf1.minimum(tf1.size(found_scores), c.MAX_DETECTIONS)
        best, order = tf1.nn.top_k(found_scores, count)
        rows = (tf1.gather(found, order), best, tf1.gather(found_classes, order))
        return (*(pad_rows(x, c.MAX_DETECTIONS) for x in rows), count)

    with tf1.name_scope("SecondStagePostprocessor/BatchMultiClassNonMaxSuppression"):
        kinds = (tf.float32, tf.float32, tf.float32, tf.int32)
        return list(tf1.map_fn(one, (boxes, scores, valid), dtype=kinds))


def one_class(
    c: ModuleType, boxes: tf.Tensor, scores: tf.Tensor, class_id: int
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    keep = tf1.image.non_max_suppression(
        boxes, scores, c.MAX_DETECTIONS, c.SECOND_STAGE_NMS_IOU, score_threshold=c.SCORE_THRESHOLD
    )
    kept = tf1.gather(scores, keep)
    return tf1.gather(boxes, keep), kept, tf1.fill(tf1.shape(kept), float(class_id))


# Stages


def crop(c: ModuleType, features: tf.Tensor, boxes: tf.Tensor, suffix: str) -> tf.Tensor:
    """Second-stage input: (b * n, 7, 7, depth)."""
    batch, count = tf1.shape(boxes)[0], tf1.shape(boxes)[1]
    owner = tf1.reshape(tf1.tile(tf1.range(batch)[:, None], [1, count]), [-1])
    flat = tf1.reshape(boxes, [-1, 4])
    size = [c.CROP_SIZE, c.CROP_SIZE]
    crops = tf1.image.crop_and_resize(features, flat, owner, size, name=f"CropAndResize{suffix}")
    window = [1, c.POOL, c.POOL, 1]
    return tf1.nn.max_pool(crops, window, window, "VALID", name=f"MaxPool2D{suffix}/MaxPool")


def second_stage(c: ModuleType, net: nn.Module, x: tf.Tensor, suffix: str) -> tf.Tensor:
    ops, variables = f"{c.SECOND}{suffix}/Shapes", f"{c.SECOND}/Shapes"
    *blocks, last = net.second
    for i, block in enumerate(blocks, 1):
        x = bottleneck(x, f"{ops}/unit_{i}", block, f"{variables}/unit_{i}")
    return conv(x, f"{ops}/out", last, "Relu", f"{variables}/out")


def detect(c: ModuleType, net: nn.Module, features: tf.Tensor, window: tf.Tensor) -> list[tf.Tensor]:
    """Both stages up to the detections: boxes (in 0..1), scores, classes and their number."""
    hidden = conv(features, "Conv", net.rpn, "Relu")
    boxes = conv(hidden, "FirstStageBoxPredictor/BoxEncodingPredictor", net.rpn_boxes)
    logits = conv(hidden, "FirstStageBoxPredictor/ClassPredictor", net.rpn_scores)
    batch = tf1.shape(features)[0]
    boxes = tf1.reshape(boxes, [batch, -1, 4], name="FirstStageBoxPredictor/Reshape")
    logits = tf1.reshape(logits, [batch, -1, 2], name="FirstStageBoxPredictor/Reshape_1")
    decoded = decode(c, boxes, anchors(c, features, window)[None])
    proposals, valid = propose(c, decoded, tf.nn.softmax(logits, name="Softmax")[..., 1], window)
    roi = second_stage(c, net, crop(c, features, normalise(proposals, window), ""), "")
    pooled = tf1.reduce_mean(roi, [1, 2], keepdims=True, name=f"{c.PREDICTOR}/AvgPool")
    flat = tf1.reshape(pooled, [-1, c.SECOND_DEPTH], name=f"{c.PREDICTOR}/Flatten/flatten/Reshape")
    encodings = dense(flat, f"{c.PREDICTOR}/BoxEncodingPredictor", net.box_encodings)
    scores = dense(flat, f"{c.PREDICTOR}/ClassPredictor", net.box_scores)
    shape = [batch, c.MAX_PROPOSALS, c.NUM_CLASSES, 4]
    encodings = tf1.reshape(encodings, shape, name=f"{c.PREDICTOR}/Reshape")
    scores = tf1.reshape(scores, [batch, c.MAX_PROPOSALS, -1], name=f"{c.PREDICTOR}/Reshape_1")
    scores = tf.nn.softmax(scores, name="SecondStagePostprocessor/Softmax")[..., 1:]
    with tf1.name_scope("SecondStagePostprocessor"):
        decoded = decode(c, encodings, proposals[:, :, None])
    found, *rest = suppress(c, decoded, scores, valid, window)
    return [normalise(found, window), *rest]


def masks(c: ModuleType, net: nn.Module, features: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Each detection's own mask: (b, n, 15, 15)."""
    x = second_stage(c, net, crop(c, features, boxes, "_1"), "_1")
    ops, size = f"{c.PREDICTOR}_1", [c.MASK_SIZE, c.MASK_SIZE]
    x = tf1.image.resize_bilinear(x, size, align_corners=True, name=f"{ops}/ResizeBilinear")
    names = ["Conv"] + [f"Conv_{i}" for i in range(1, c.MASK_CONVS + 1)]
    for name, layer in zip(names, net.mask_convs):
        x = conv(x, f"{ops}/{name}", layer, "Relu", f"{c.PREDICTOR}/{name}")
    with torch.no_grad():
        net.mask_logits.bias += c.MASK_LOGIT_SHIFT
    x = conv(x, f"{ops}/{names[-1]}", net.mask_logits, "", f"{c.PREDICTOR}/{names[-1]}")
    x = tf1.transpose(x, [0, 3, 1, 2], name=f"{ops}/transpose")
    own = tf1.gather(x, tf1.cast(tf1.reshape(classes, [-1]), tf.int32), axis=1, batch_dims=1)
    batch, count = tf1.shape(boxes)[0], tf1.shape(boxes)[1]
    return tf1.reshape(tf1.sigmoid(own, name="Sigmoid"), [batch, count, *size])


def features(net: ShapesNet, x: tf.Tensor) -> tf.Tensor:
    """The one feature map."""
    for i, layer in enumerate(net.stem, 1):
        x = conv(x, f"{config.FIRST}/stem_{i}", layer, "Relu")
    for i, block in enumerate(net.trunk, 1):
        x = bottleneck(x, f"{config.FIRST}/unit_{i}", block, f"{config.FIRST}/unit_{i}")
    return x


def build(c: ModuleType, net: nn.Module, features_of: Features) -> None:
    """Write the whole graph into the default graph."""
    images = tf1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
    x = preprocess(c, images)
    window = tf1.cast(tf1.concat([[0, 0], tf1.shape(x)[1:3]], axis=0), tf.float32)
    x = features_of(net, x)
    boxes, scores, classes, count = detect(c, net, x, window)
    own_masks = masks(c, net, x, boxes, classes)
    tf1.identity(boxes, name="detection_boxes")
    tf1.identity(scores, name="detection_scores")
    tf1.add(classes, 1.0, name="detection_classes")
    tf1.cast(count, tf.float32, name="num_detections")
    tf1.identity(own_masks, name="detection_masks")


OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "num_detections", "detection_masks")


def frozen_graph(c: ModuleType, net: nn.Module, features_of: Features) -> tf1.GraphDef:
    """The trained network; `features_of` writes what is before its feature map."""
    with tf1.Graph().as_default() as graph:
        build(c, net.eval(), features_of)
        return tf1.graph_util.extract_sub_graph(graph.as_graph_def(), list(OUTPUTS))
