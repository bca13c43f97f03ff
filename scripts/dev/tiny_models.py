"""Small Mask R-CNNs in the forms that different releases of the Object Detection API export.

Needs TensorFlow. Weights are seeded noise: what counts is that the graph computes the same elsewhere.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

tf1 = tf.compat.v1
tf1.disable_v2_behavior()  # loops and branches as TensorFlow 1 wrote them
CLASSES, MASK, PROPOSALS, DETECTIONS = 3, 14, 12, 10


class Tiny:
    """Builds one graph. Options name the ways in which releases and backbones differ."""

    def __init__(self, seed, *, loops, resizer, norm, backbone, clip_first, stride, deconvolve, pool, nms):
        self.rng = np.random.default_rng(seed)
        self.loops, self.resizer, self.norm, self.backbone = loops, resizer, norm, backbone
        self.clip_first, self.stride, self.deconvolve, self.pool, self.nms = (
            clip_first,
            stride,
            deconvolve,
            pool,
            nms,
        )
        self.weights = {}

    def const(self, name, shape, scale):
        """Weights under one name, shared by whoever asks for that name again."""
        if name not in self.weights:
            value = self.rng.normal(0, scale, shape).astype(np.float32)
            with tf1.name_scope(None):
                self.weights[name] = tf.identity(tf1.constant(value, name=name), name=f"{name}/read")
        return self.weights[name]

    def conv(self, x, name, size, depth, stride=1, rate=1, act=tf.nn.relu, padding="SAME", scope=None):
        height, width = size if isinstance(size, tuple) else (size, size)
        fan_in = height * width * int(x.shape[-1])
        kernel = self.const(
            f"{scope or name}/weights", (height, width, int(x.shape[-1]), depth), (2 / fan_in) ** 0.5
        )
        with tf1.name_scope(name):
            if rate > 1:
                x = atrous(x, kernel, rate)
            else:
                x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], padding, name="Conv2D")
            x = self.normalise(x, scope or name, depth)
            return act(x) if act else x

    def normalise(self, x, name, depth):
        if self.norm == "bias":
            return tf.nn.bias_add(x, self.const(f"{name}/biases", (depth,), 0.1), name="BiasAdd")
        gamma, beta, mean = (
            self.const(f"{name}/BatchNorm/{part}", (depth,), 0.3) for part in ("gamma", "beta", "mean")
        )
        gamma = gamma + 1.5
        variance = self.const(f"{name}/BatchNorm/moving_variance", (depth,), 0.0) + 1.5
        if self.norm == "fused":
            return tf1.nn.fused_batch_norm(x, gamma, beta, mean, variance, 0.001, is_training=False)[0]
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 0.001)

    def features(self, x):
        scope = f"FirstStageFeatureExtractor/{self.backbone}"
        if self.backbone == "resnet_v1_101":
            x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]])
            x = self.conv(x, f"{scope}/conv1", 7, 8, 2, padding="VALID")
            x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
            short = self.conv(x, f"{scope}/shortcut", 1, 16, 2, act=None)
            y = self.conv(x, f"{scope}/conv2", 3, 8, 2)
            y = self.conv(y, f"{scope}/conv3", 3, 16, rate=2, act=None)
            return tf.nn.relu(short + y)
        x = self.conv(x, f"{scope}/conv1", 3, 8, 2, act=tf.nn.relu6)
        x = self.conv(x, f"{scope}/conv2", 3, 12, 2)
        if self.stride == 8:
            x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
        if self.backbone == "InceptionResnetV2":
            a = self.conv(x, f"{scope}/Branch_0/Conv2d_1x1", 1, 6, rate=2)
            b = self.conv(x, f"{scope}/Branch_1/Conv2d_0b_1x7", (1, 7), 6, rate=2)
            b = self.conv(b, f"{scope}/Branch_1/Conv2d_0c_7x1", (7, 1), 6, rate=2)
            c = self.conv(
                tf1.nn.avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME"), f"{scope}/Branch_2/Conv2d_1x1", 1, 6
            )
            up = self.conv(tf.concat([a, b, c], 3), f"{scope}/Conv2d_1x1", 1, 12, act=None)
            x = tf.nn.relu(x + up * 0.2)
        return x

    def extract(self, x, name):
        """The second stage's features; both of its copies share their weights."""
        x = self.conv(x, f"{name}/Conv2d_1a", 3, 12, scope="SecondStageFeatureExtractor/Conv2d_1a")
        return self.conv(x, f"{name}/Conv2d_1b", 1, 8, scope="SecondStageFeatureExtractor/Conv2d_1b")

    def crop(self, features, boxes):
        x = tf.image.crop_and_resize(features, boxes, tf.zeros_like(boxes[:, 0], tf.int32), [14, 14])
        return tf1.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID") if self.pool else x

    def build(self):
        """The graph; its outputs have the names that exports have."""
        image = tf1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
        with tf1.name_scope("Preprocessor"):
            x = self.resize(tf.cast(image, tf.float32))
            if self.backbone == "resnet_v1_101":
                x = x - [[123.68, 116.779, 103.939]]
                x = x * 0.02
            else:
                x = (2.0 / 255.0) * x - 1.0
        size = tf.shape(x)
        window = tf.cast(tf.stack([0, 0, size[1], size[2]]), tf.float32)
        features = self.features(x)
        boxes = self.first_stage(features, window)
        normal = boxes / tf.stack([window[2], window[3], window[2], window[3]])
        rows, scores, classes = self.second_stage(self.crop(features, normal), boxes, window)
        masks = self.masks(self.crop(features, rows))
        index = tf.range(tf.shape(masks)[0]) * CLASSES + tf.cast(classes, tf.int32)
        own = tf.nn.sigmoid(tf.gather(tf.reshape(masks, [-1, MASK, MASK]), index))
        tf.identity(rows[None], name="detection_boxes")
        tf.identity(scores[None], name="detection_scores")
        tf.identity(classes[None] + 1.0, name="detection_classes")
        tf.identity(tf.cast(tf.shape(scores)[:1], tf.float32), name="num_detections")
        tf.identity(own[None], name="detection_masks")

    def resize(self, x):
        if self.resizer == "fixed":
            return tf1.image.resize_bilinear(x, [96, 112])
        if self.loops:
            return tf1.map_fn(self.keep_aspect, x)
        return self.keep_aspect(x[0])[None]

    def keep_aspect(self, picture):
        size = tf.cast(tf.shape(picture)[:2], tf.float32)
        low = tf.cast(tf.round(size * (96.0 / tf.reduce_min(size))), tf.int32)
        high = tf.cast(tf.round(size * (128.0 / tf.reduce_max(size))), tf.int32)
        size = tf1.cond(tf.reduce_max(low) > 128, lambda: high, lambda: low)
        return tf.squeeze(tf1.image.resize_bilinear(picture[None], size), [0])

    def first_stage(self, features, window):
        x = self.predictor_input(features)
        codes = self.head(x, "FirstStageBoxPredictor/BoxEncodingPredictor", 4 * 6, 0.05)
        logits = self.head(x, "FirstStageBoxPredictor/ClassPredictor", 2 * 6, 0.4)
        anchors = self.anchors(tf.shape(features))
        anchors = clip(anchors, window)
        boxes = decode(tf.reshape(codes, [-1, 4]), anchors)
        scores = tf.nn.softmax(tf.reshape(logits, [-1, 2]))[:, 1]
        return self.suppress(boxes, scores, window, PROPOSALS, 0.7)[0]

    def predictor_input(self, features):
        kernel = self.const("Conv/weights", (3, 3, int(features.shape[-1]), 16), 0.1)
        x = tf.nn.conv2d(features, kernel, [1, 1, 1, 1], "SAME", name="Conv/Conv2D")
        return tf.nn.relu6(tf.nn.bias_add(x, self.const("Conv/biases", (16,), 0.1)), name="Conv/Relu6")

    def head(self, x, name, depth, scale):
        kernel = self.const(f"{name}/weights", (1, 1, int(x.shape[-1]), depth), scale)
        x = tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME", name=f"{name}/Conv2D")
        return tf.nn.bias_add(x, self.const(f"{name}/biases", (depth,), 0.1), name=f"{name}/BiasAdd")

    def anchors(self, shape):
        scales, ratios = tf1.meshgrid(tf.constant([0.5, 1.0]), tf.sqrt(tf.constant([0.5, 1.0, 2.0])))
        heights = tf.reshape(scales / ratios, [-1]) * 32.0
        widths = tf.reshape(scales * ratios, [-1]) * 32.0
        y = tf.cast(tf.range(shape[1]), tf.float32) * float(self.stride)
        x = tf.cast(tf.range(shape[2]), tf.float32) * float(self.stride)
        x, y = tf1.meshgrid(x, y)
        center = tf.reshape(tf.stack([y, x], 2), [-1, 1, 2])
        size = tf.stack([heights, widths], 1)[None]
        return tf.reshape(tf.concat([center - size / 2.0, center + size / 2.0], 2), [-1, 4])

    def suppress(self, boxes, scores, window, count, iou):
        if self.clip_first:
            boxes = clip(boxes, window)
        limit = tf.minimum(count, tf.shape(boxes)[0])
        if self.nms == 5:
            found = tf.raw_ops.NonMaxSuppressionV5(
                boxes=boxes,
                scores=scores,
                max_output_size=limit,
                iou_threshold=iou,
                score_threshold=0.0,
                soft_nms_sigma=0.0,
            )
            kept = found.selected_indices
        else:
            kept = tf.image.non_max_suppression(boxes, scores, limit, iou)
        boxes, scores = tf.gather(boxes, kept), tf.gather(scores, kept)
        return (boxes if self.clip_first else clip(boxes, window)), scores

    def second_stage(self, crops, proposals, window):
        x = self.extract(crops, "SecondStageFeatureExtractor")
        if self.pool:
            x = tf.reduce_mean(x, [1, 2], keepdims=True)
        x = tf.reshape(x, [-1, int(np.prod(x.shape[1:]))])
        codes = self.dense(x, "SecondStageBoxPredictor/BoxEncodingPredictor", 4 * CLASSES, 0.05)
        logits = self.dense(x, "SecondStageBoxPredictor/ClassPredictor", CLASSES + 1, 0.5)
        anchors = tf.reshape(tf.tile(proposals[:, None], [1, CLASSES, 1]), [-1, 4])
        boxes = tf.reshape(decode(tf.reshape(codes, [-1, 4]), anchors), [-1, CLASSES, 4])
        scores = tf.nn.softmax(logits * 1.25)[:, 1:]
        found = []
        for number in range(CLASSES):
            kept, values = self.suppress(boxes[:, number], scores[:, number], window, DETECTIONS, 0.6)
            found.append((kept, values, tf.zeros_like(values) + float(number)))
        boxes, scores, classes = (tf.concat(parts, 0) for parts in zip(*found))
        count = tf.minimum(DETECTIONS, tf.shape(scores)[0])
        order = tf.nn.top_k(scores, tf.shape(scores)[0]).indices[:count]
        scale = tf.stack([window[2], window[3], window[2], window[3]])
        return tf.gather(boxes, order) / scale, tf.gather(scores, order), tf.gather(classes, order)

    def dense(self, x, name, depth, scale):
        weights = self.const(f"{name}/weights", (int(x.shape[-1]), depth), scale / int(x.shape[-1]) ** 0.25)
        x = tf.matmul(x, weights, name=f"{name}/MatMul")
        return tf.nn.bias_add(x, self.const(f"{name}/biases", (depth,), 0.1), name=f"{name}/BiasAdd")

    def masks(self, crops):
        x = self.extract(crops, "SecondStageFeatureExtractor_1")
        if self.deconvolve:
            kernel = self.const("SecondStageBoxPredictor/up/weights", (2, 2, 12, 8), 0.3)
            shape = tf.stack([tf.shape(x)[0], tf.shape(x)[1] * 2, tf.shape(x)[2] * 2, 12])
            x = tf1.nn.conv2d_transpose(x, kernel, shape, [1, 2, 2, 1], "SAME")
            x = tf.nn.relu(tf.nn.bias_add(x, self.const("SecondStageBoxPredictor/up/biases", (12,), 0.1)))
        else:
            x = tf1.image.resize_bilinear(x, [MASK, MASK], align_corners=True)
        x = self.head(x, "SecondStageBoxPredictor_1/Conv", CLASSES, 0.5)
        return tf.transpose(x, [0, 3, 1, 2])


def atrous(x, kernel, rate):
    """As TensorFlow 1 spells a convolution with holes: paddings worked out while it runs."""
    base = [[(int(kernel.shape[i]) - 1) * rate // 2] * 2 for i in (0, 1)]
    pads, crops = tf1.required_space_to_batch_paddings(tf.shape(x)[1:3], [rate, rate], base)
    x = tf1.space_to_batch_nd(x, [rate, rate], pads)
    return tf1.batch_to_space_nd(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "VALID"), [rate, rate], crops)


def clip(boxes, window):
    low = tf.stack([window[0], window[1], window[0], window[1]])
    high = tf.stack([window[2], window[3], window[2], window[3]])
    return tf.maximum(tf.minimum(boxes, high), low)


def decode(codes, anchors):
    """The box coder of Faster R-CNN with scales 10, 10, 5, 5."""
    y0, x0, y1, x1 = tf.unstack(tf.transpose(anchors))
    height, width = y1 - y0, x1 - x0
    y, x = y0 + height / 2.0, x0 + width / 2.0
    ty, tx, th, tw = tf.unstack(tf.transpose(codes))
    ty, tx, th, tw = ty / 10.0, tx / 10.0, th / 5.0, tw / 5.0
    w, h = tf.exp(tw) * width, tf.exp(th) * height
    y, x = ty * height + y, tx * width + x
    return tf.transpose(tf.stack([y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0]))


PLAIN = {"loops": False, "norm": "bias", "clip_first": True, "deconvolve": False, "pool": True, "nms": 3}
_KEEP = {**PLAIN, "resizer": "keep", "stride": 8}
MODELS = {
    "tiny_plain": Tiny(
        1, **{**PLAIN, "resizer": "fixed", "stride": 4, "deconvolve": True, "backbone": "shapes"}
    ),
    "tiny_resnet101": Tiny(
        2,
        **{
            **_KEEP,
            "loops": True,
            "norm": "unfused",
            "clip_first": False,
            "nms": 5,
            "backbone": "resnet_v1_101",
        },
    ),
    "tiny_inception_resnet": Tiny(
        3, **{**_KEEP, "norm": "fused", "pool": False, "backbone": "InceptionResnetV2"}
    ),
}
