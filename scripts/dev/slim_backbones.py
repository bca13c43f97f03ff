"""The backbones of the model zoo's larger Mask R-CNNs, layer by layer, at their true depth.

ResNet v1 with 50 and 101 layers after He et al. 2015, Inception-ResNet v2 after Szegedy et al. 2016, in
the form that the Object Detection API gives them: an output every 8 pixels, holes in place of the last
strides, and the blocks after that applied to crops. Needs TensorFlow.
"""

from __future__ import annotations

import tensorflow as tf

tf1 = tf.compat.v1
UNITS = {"resnet_v1_50": (3, 4, 6, 3), "resnet_v1_101": (3, 4, 23, 3)}


class Backbone:
    """One of the backbones.

    `layer` makes a convolution with all that belongs to it, as `Layers.conv` does; `divisor` narrows every
    layer by that factor.
    """

    def __init__(self, layer, divisor=1):
        self.layer, self.divisor = layer, divisor

    def conv(self, x, name, size, depth, **options):
        return self.layer(x, name, size, max(depth // self.divisor, 2), **options)

    def features(self, x, scope):
        raise NotImplementedError

    def extract(self, x, scope):
        raise NotImplementedError


class ResNet(Backbone):
    """Residual units of three convolutions; `name` is a key of UNITS."""

    def __init__(self, name, layer, divisor=1):
        super().__init__(layer, divisor)
        self.name = name

    def features(self, x, scope):
        scope = f"{scope}/{self.name}"
        x = tf.pad(x, [[0, 0], [3, 3], [3, 3], [0, 0]], name=f"{scope}/Pad")
        x = self.conv(x, f"{scope}/conv1", 7, 64, stride=2, padding="VALID")
        x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME", name=f"{scope}/pool1/MaxPool")
        first, second, third, _ = UNITS[self.name]
        x = self.block(x, f"{scope}/block1", first, 64, last_stride=2)
        x = self.block(x, f"{scope}/block2", second, 128)
        return self.block(x, f"{scope}/block3", third, 256, rate=2)

    def extract(self, x, scope):
        return self.block(x, f"{scope}/{self.name}/block4", UNITS[self.name][3], 512)

    def block(self, x, scope, units, depth, last_stride=1, rate=1):
        for number in range(1, units + 1):
            stride = last_stride if number == units else 1
            x = self.unit(x, f"{scope}/unit_{number}/bottleneck_v1", depth, stride, rate)
        return x

    def unit(self, x, scope, depth, stride, rate):
        whole = max(depth * 4 // self.divisor, 2)
        if int(x.shape[-1]) != whole:
            short = self.conv(x, f"{scope}/shortcut", 1, depth * 4, stride=stride, act=None)
        elif stride > 1:
            steps = [1, stride, stride, 1]
            short = tf1.nn.max_pool(x, [1, 1, 1, 1], steps, "SAME", name=f"{scope}/shortcut/MaxPool")
        else:
            short = x
        y = self.conv(x, f"{scope}/conv1", 1, depth)
        if stride > 1:
            y = tf.pad(y, [[0, 0], [1, 1], [1, 1], [0, 0]], name=f"{scope}/conv2/Pad")
            y = self.conv(y, f"{scope}/conv2", 3, depth, stride=stride, padding="VALID")
        else:
            y = self.conv(y, f"{scope}/conv2", 3, depth, rate=rate)
        y = self.conv(y, f"{scope}/conv3", 1, depth * 4, act=None)
        return tf.nn.relu(tf.add(short, y, name=f"{scope}/add"), name=f"{scope}/Relu")


class InceptionResNet(Backbone):
    """Inception modules with a scaled residual; SAME padding throughout."""

    def features(self, x, scope):
        x = self.stem(x, scope := f"{scope}/InceptionResnetV2")
        for number in range(1, 11):
            x = self.block35(x, f"{scope}/Repeat/block35_{number}")
        x = self.grid(x, f"{scope}/Mixed_6a")
        for number in range(1, 21):
            x = self.block17(x, f"{scope}/Repeat_1/block17_{number}")
        return x

    def stem(self, x, scope):
        x = self.conv(x, f"{scope}/Conv2d_1a_3x3", 3, 32, stride=2)
        x = self.conv(x, f"{scope}/Conv2d_2a_3x3", 3, 32)
        x = self.conv(x, f"{scope}/Conv2d_2b_3x3", 3, 64)
        x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME", name=f"{scope}/MaxPool_3a_3x3/MaxPool")
        x = self.conv(x, f"{scope}/Conv2d_3b_1x1", 1, 80)
        x = self.conv(x, f"{scope}/Conv2d_4a_3x3", 3, 192)
        x = tf1.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME", name=f"{scope}/MaxPool_5a_3x3/MaxPool")
        scope = f"{scope}/Mixed_5b"
        pooled = tf1.nn.avg_pool(
            x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME", name=f"{scope}/Branch_3/AvgPool_0a_3x3/AvgPool"
        )
        branches = [
            self.chain(x, f"{scope}/Branch_0", (1, 96)),
            self.chain(x, f"{scope}/Branch_1", (1, 48), (5, 64)),
            self.chain(x, f"{scope}/Branch_2", (1, 64), (3, 96), (3, 96)),
            self.chain(pooled, f"{scope}/Branch_3", (1, 64)),
        ]
        return tf.concat(branches, 3, name=f"{scope}/concat")

    def chain(self, x, scope, *layers, **options):
        for number, (size, depth) in enumerate(layers):
            x = self.conv(x, f"{scope}/Conv2d_{number}", size, depth, **options)
        return x

    def residual(self, x, scope, branches, scale, rate=1, act=tf.nn.relu):
        mixed = tf.concat(branches, 3, name=f"{scope}/concat")
        depth = int(x.shape[-1]) * self.divisor
        up = self.conv(mixed, f"{scope}/Conv2d_1x1", 1, depth, rate=rate, act=None, norm="bias")
        x = tf.add(x, tf.multiply(up, scale, name=f"{scope}/mul"), name=f"{scope}/add")
        return act(x, name=f"{scope}/Relu") if act else x

    def block35(self, x, scope):
        branches = [
            self.chain(x, f"{scope}/Branch_0", (1, 32)),
            self.chain(x, f"{scope}/Branch_1", (1, 32), (3, 32)),
            self.chain(x, f"{scope}/Branch_2", (1, 32), (3, 48), (3, 64)),
        ]
        return self.residual(x, scope, branches, 0.17)

    def grid(self, x, scope):
        pooled = tf1.nn.max_pool(
            x, [1, 3, 3, 1], [1, 1, 1, 1], "SAME", name=f"{scope}/Branch_2/MaxPool_1a_3x3/MaxPool"
        )
        branches = [
            self.chain(x, f"{scope}/Branch_0", (3, 384)),
            self.chain(x, f"{scope}/Branch_1", (1, 256), (3, 256), (3, 384)),
            pooled,
        ]
        return tf.concat(branches, 3, name=f"{scope}/concat")

    def block17(self, x, scope):
        branches = [
            self.chain(x, f"{scope}/Branch_0", (1, 192), rate=2),
            self.chain(x, f"{scope}/Branch_1", (1, 128), ((1, 7), 160), ((7, 1), 192), rate=2),
        ]
        return self.residual(x, scope, branches, 0.1, rate=2)

    def extract(self, x, scope):
        scope = f"{scope}/InceptionResnetV2"
        x = self.narrowed(x, f"{scope}/Mixed_7a")
        for number in range(1, 10):
            x = self.block8(x, f"{scope}/Repeat/block8_{number}", 0.2)
        x = self.block8(x, f"{scope}/Block8", 1.0, act=None)
        return self.conv(x, f"{scope}/Conv2d_7b_1x1", 1, 1536)

    def narrowed(self, x, scope):
        half = {"stride": 2, "padding": "VALID"}
        pooled = tf1.nn.max_pool(
            x, [1, 3, 3, 1], [1, 2, 2, 1], "VALID", name=f"{scope}/Branch_3/MaxPool_1a_3x3/MaxPool"
        )
        zero, one, two = (
            self.chain(x, f"{scope}/Branch_{number}", *layers)
            for number, layers in enumerate([[(1, 256)], [(1, 256)], [(1, 256), (3, 288)]])
        )
        branches = [
            self.conv(zero, f"{scope}/Branch_0/Conv2d_1a_3x3", 3, 384, **half),
            self.conv(one, f"{scope}/Branch_1/Conv2d_1a_3x3", 3, 288, **half),
            self.conv(two, f"{scope}/Branch_2/Conv2d_1a_3x3", 3, 320, **half),
            pooled,
        ]
        return tf.concat(branches, 3, name=f"{scope}/concat")

    def block8(self, x, scope, scale, act=tf.nn.relu):
        branches = [
            self.chain(x, f"{scope}/Branch_0", (1, 192)),
            self.chain(x, f"{scope}/Branch_1", (1, 192), ((1, 3), 224), ((3, 1), 256)),
        ]
        return self.residual(x, scope, branches, scale, act=act)
