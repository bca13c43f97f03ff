"""Small Mask R-CNNs with what a pipeline.config may choose and the zoo's do not. Needs TensorFlow."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2
from tiny_models import CLASSES, DETECTIONS, PLAIN, Tiny, clip, decode, tf1


class Variant(Tiny):
    """One mask for whatever class, and second stages that score or suppress in other ways."""

    masks_per_class, boxes_per_class = 1, 1

    def masks(self, crops):
        x = self.extract(crops, "SecondStageFeatureExtractor_1")
        x = tf.compat.v1.image.resize_bilinear(x, [14, 14], align_corners=True)
        x = self.head(x, "SecondStageBoxPredictor_1/Conv", self.masks_per_class, 0.5)
        x = tf.transpose(x, [0, 3, 1, 2])
        return x if self.masks_per_class > 1 else tf.tile(x, [1, CLASSES, 1, 1])

    def second_stage(self, crops, proposals, window):
        x = tf.reduce_mean(self.extract(crops, "SecondStageFeatureExtractor"), [1, 2], keepdims=True)
        x = tf.reshape(x, [-1, int(x.shape[-1])])
        count = self.boxes_per_class
        codes = self.dense(x, "SecondStageBoxPredictor/BoxEncodingPredictor", 4 * count, 0.05)
        logits = self.dense(x, "SecondStageBoxPredictor/ClassPredictor", CLASSES + 1, 0.5)
        anchors = tf.reshape(tf.tile(proposals[:, None], [1, count, 1]), [-1, 4])
        boxes = clip(decode(tf.reshape(codes, [-1, 4]), anchors), window)
        boxes = tf.reshape(boxes, [-1, count, 4]) / tf.stack([window[2], window[3]] * 2)
        return self.chosen(boxes, logits)

    def chosen(self, boxes, logits):
        raise NotImplementedError


class Sigmoid(Variant):
    """`score_converter: SIGMOID`: a background that is cut off; and `share_box_across_classes`."""

    def chosen(self, boxes, logits):
        scores = tf.slice(tf.sigmoid(logits), [0, 1], [-1, -1])
        window, found = tf.constant([0.0, 0.0, 1.0, 1.0]), []
        for number in range(CLASSES):
            kept, values = self.suppress(boxes[:, 0], scores[:, number], window, DETECTIONS, 0.6)
            found.append((kept, values, tf.zeros_like(values) + float(number)))
        boxes, scores, classes = (tf.concat(parts, 0) for parts in zip(*found))
        order = tf.nn.top_k(scores, tf.shape(scores)[0]).indices
        order = order[: tf.minimum(DETECTIONS, tf.shape(scores)[0])]
        return tf.gather(boxes, order), tf.gather(scores, order), tf.gather(classes, order)


class Combined(Variant):
    """`use_combined_nms`: one op for all classes."""

    masks_per_class = boxes_per_class = CLASSES

    def chosen(self, boxes, logits):
        scores = tf.nn.softmax(logits)[:, 1:]
        found = tf.image.combined_non_max_suppression(
            boxes[None], scores[None], DETECTIONS, DETECTIONS, 0.6, score_threshold=0.0, clip_boxes=False
        )
        return found[0][0], found[1][0], found[2][0]


class Loops(Sigmoid):
    """Loops and branches of TensorFlow 2, over the pictures of a batch: resizer and both suppressions."""

    def build(self):
        tf1.enable_control_flow_v2()
        try:
            super().build()
        finally:
            tf1.disable_control_flow_v2()

    def suppress(self, boxes, scores, window, count, iou):
        def one(parts):
            return super(Loops, self).suppress(*parts, window, count, iou)

        found = tf1.map_fn(one, (boxes[None], scores[None]), dtype=(tf.float32, tf.float32))
        return found[0][0], found[1][0]


def lowered(graph_def, outputs):
    """As `convert_variables_to_constants_v2` freezes: loops of TensorFlow 1 again, and tensor lists in them."""
    import_all = tf1.wrap_function(lambda: tf1.import_graph_def(graph_def, name=""), [])
    pruned = import_all.prune(["image_tensor:0"], [f"{name}:0" for name in outputs])
    return convert_variables_to_constants_v2(pruned).graph.as_graph_def()


_SMALL = {**PLAIN, "resizer": "fixed", "stride": 4, "backbone": "shapes"}
_LOOPS = {**PLAIN, "loops": True, "resizer": "keep", "nms": 5, "stride": 4, "backbone": "shapes"}
MODELS = {
    "tiny_sigmoid": Sigmoid(21, **_SMALL),
    "tiny_combined": Combined(24, **_SMALL),
    "tiny_loops": Loops(25, **_LOOPS),
    "tiny_lowered": Loops(26, **_LOOPS),
}
