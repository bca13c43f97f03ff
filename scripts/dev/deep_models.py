"""Mask R-CNNs with the zoo's larger backbones at their true depth, narrow, and without their weights.

Needs TensorFlow. `graph_builder.fill` of the tests puts seeded weights back, so that the files stay small.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from slim_backbones import InceptionResNet, ResNet
from tiny_models import Tiny, atrous, tf1

_OLD_OPS = {"AddV2": "Add", "FusedBatchNormV3": "FusedBatchNorm"}
_NEW_ATTRS = ("U", "exponential_avg_factor", "explicit_paddings", "dilations")


class Deep(Tiny):
    """The two stages of `Tiny` around a real backbone; `release` is 2018 or 2020, as ops are spelled."""

    def __init__(self, seed, network, release, divisor=16, crop=14, pool_step=2):
        resnet = network != "InceptionResnetV2"
        super().__init__(
            seed, loops=True, resizer="keep", norm="fused", backbone=network, clip_first=release < 2019,
            stride=8, deconvolve=False, pool=True, nms=3 if release < 2019 else 5,
        )  # fmt: skip
        self.release, self.crop_size, self.pool_step = release, crop, pool_step
        self.has_gamma, self.epsilon = resnet, 1e-5 if resnet else 1e-3
        self.network = ResNet(network, self.layer, divisor) if resnet else InceptionResNet(self.layer, divisor)

    def layer(self, x, name, size, depth, stride=1, rate=1, act=tf.nn.relu, padding="SAME", norm="fused"):
        """A convolution, its normalisation or bias, and its activation, named as slim names them."""
        height, width = size if isinstance(size, tuple) else (size, size)
        own = name.replace("SecondStageFeatureExtractor_1", "SecondStageFeatureExtractor")
        kernel = self.empty(f"{own}/weights", height, width, int(x.shape[-1]), depth)
        if rate > 1:
            with tf1.name_scope(name):
                x = atrous(x, kernel, rate)
        else:
            x = tf.nn.conv2d(x, kernel, [1, stride, stride, 1], padding, name=f"{name}/Conv2D")
        if norm == "bias":
            x = tf.nn.bias_add(x, self.empty(f"{own}/biases", depth), name=f"{name}/BiasAdd")
        else:
            x = self.batch_norm(x, name, own, depth)
        return act(x, name=f"{name}/Relu") if act else x

    def batch_norm(self, x, name, own, depth):
        parts = ("beta", "moving_mean", "moving_variance")
        beta, mean, variance = (self.empty(f"{own}/BatchNorm/{part}", depth) for part in parts)
        if self.has_gamma:
            gamma = self.empty(f"{own}/BatchNorm/gamma", depth)
        else:  # slim's `scale=False`: one number that stands for all
            gamma = tf1.constant(1.0, shape=[depth], name=f"{name}/BatchNorm/Const")
        return tf1.nn.fused_batch_norm(
            x, gamma, beta, mean, variance, self.epsilon, is_training=False, name=f"{name}/BatchNorm/Fused"
        )[0]

    def empty(self, name, *shape):
        if name not in self.weights:
            with tf1.name_scope(None):
                zeros = tf1.constant(np.zeros(shape, np.float32), name=name)
                self.weights[name] = tf.identity(zeros, name=f"{name}/read")
        return self.weights[name]

    def features(self, x):
        scope = "FirstStageFeatureExtractor"
        return self.network.features(x, f"{scope}/{self.backbone}")

    def extract(self, x, name):
        return self.network.extract(x, name)

    def crop(self, features, boxes):
        image = tf.zeros_like(boxes[:, 0], tf.int32)
        x = tf.image.crop_and_resize(features, boxes, image, [self.crop_size] * 2)
        window = [1, self.pool_step, self.pool_step, 1]
        return tf1.nn.max_pool(x, window, window, "VALID")

    def graph_def(self):
        """The graph without the backbone's weights, in the spelling of its release."""
        with tf.Graph().as_default() as graph:
            self.build()
            graph_def = graph.as_graph_def()
        for node in graph_def.node:
            if node.name in self.weights and "FeatureExtractor" in node.name:
                tensor = node.attr["value"].tensor
                tensor.tensor_content = b""
                del tensor.float_val[:]
            if self.release < 2019:
                node.op = _OLD_OPS.get(node.op, node.op)
                for key in _NEW_ATTRS:
                    node.attr.pop(key, None)
        return graph_def


MODELS = {
    "deep_resnet50": Deep(11, "resnet_v1_50", 2018),
    "deep_resnet101": Deep(12, "resnet_v1_101", 2020),
    "deep_inception_resnet": Deep(13, "InceptionResnetV2", 2018, crop=17, pool_step=1),
}
