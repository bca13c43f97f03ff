"""Exports Mask R-CNNs with seeded weights, by the Object Detection API's own exporter.

    python scripts/export_models.py pipeline.config OUT [--backbone NAME] [--control-flow-v2]

For an environment of its own, without cvmask: Python 3.7, `pip install tensorflow==1.15.5 "protobuf<3.21"
matplotlib pillow`, and `pip install --no-deps tf-object-detection==0.0.3`, which is the API of early 2020.
OUT/frozen_inference_graph.pb is then for `scripts/compare_graphs.py`.
"""

from __future__ import annotations

import argparse
import os
import zlib

import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from object_detection import exporter
from object_detection.builders import model_builder
from object_detection.protos import pipeline_pb2

# How far the weights of the last classifier spread, so that no score is 1: features differ in size.
SPREADS = {"inception_v2": 0.25, "resnet50": 0.25, "resnet101": 0.25, "inception_resnet_v2": 0.01}


def config_of(path, backbone):
    """The pipeline of a file, with another backbone where one is named."""
    config = pipeline_pb2.TrainEvalPipelineConfig()
    with open(path) as file:
        text_format.Merge(file.read(), config)
    model = config.model.faster_rcnn
    if backbone:
        model.feature_extractor.type = f"faster_rcnn_{backbone}"
    if backbone == "inception_resnet_v2":  # as in the zoo: crops of 17, not pooled
        model.initial_crop_size, model.maxpool_kernel_size, model.maxpool_stride = 17, 1, 1
    return config


def seeded(name, shape, spread):
    """Weights under which neither features nor scores leave their usual range."""
    rng, leaf = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition("/")[2]
    if leaf == "gamma":
        first, last = name.endswith("conv1/BatchNorm/gamma") and name.count("/") == 4, "/conv3/" in name
        return np.full(shape, 0.0025 if first else 0.2 if last else 1)  # ResNets: raw pixels; sums of many units
    if leaf == "moving_variance":
        return np.ones(shape)
    if "weights" not in leaf:
        return np.zeros(shape)
    if leaf == "depthwise_weights":
        return rng.normal(0, 0.2, shape)
    for part, own in (("SecondStageBoxPredictor/Class", spread), ("SecondStageBoxPredictor/BoxEnc", 0.02),
                      ("FirstStageBoxPredictor/BoxEnc", 0.01)):  # fmt: skip
        if name.startswith(part):
            return rng.normal(0, own, shape)
    return rng.normal(0, np.sqrt((1 if "Predictor" in name else 2) / np.prod(shape[:-1])), shape)


def write_checkpoint(config, prefix):
    spread = SPREADS[config.model.faster_rcnn.feature_extractor.type.replace("faster_rcnn_", "")]
    with tf.Graph().as_default():
        model = model_builder.build(config.model, is_training=False)
        image, sizes = model.preprocess(tf.cast(tf.placeholder(tf.uint8, [None, None, None, 3]), tf.float32))
        model.postprocess(model.predict(image, sizes), sizes)
        tf.train.get_or_create_global_step()
        variables = [v for v in tf.global_variables() if v.dtype.base_dtype == tf.float32]
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            values = {v.initializer.inputs[1]: seeded(v.op.name, v.shape.as_list(), spread) for v in variables}
            session.run([v.initializer for v in variables], values)
            tf.train.Saver().save(session, prefix)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config")
    parser.add_argument("out")
    parser.add_argument("--backbone", choices=sorted(SPREADS), help="instead of the config's")
    parser.add_argument("--control-flow-v2", action="store_true", help="loops and branches of TensorFlow 2")
    args = parser.parse_args()
    if args.control_flow_v2:
        tf.enable_control_flow_v2()
    config, prefix = config_of(args.config, args.backbone), os.path.join(args.out, "seeded.ckpt")
    os.makedirs(args.out, exist_ok=True)
    write_checkpoint(config, prefix)
    exporter.profile_inference_graph = lambda graph: None  # minutes of counting
    with tf.Graph().as_default():
        exporter.export_inference_graph("image_tensor", config, prefix, args.out)


if __name__ == "__main__":
    main()
