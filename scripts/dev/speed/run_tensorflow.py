"""TensorFlow on the frozen graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .program import Run, picture, serve

OUTPUTS = ("detection_boxes", "detection_scores", "detection_classes", "detection_masks", "num_detections")


def make(settings: dict[str, Any]) -> Run:
    graph_def = tf.compat.v1.GraphDef()
    with open(settings["frozen"], "rb") as file:
        graph_def.ParseFromString(file.read())
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_def, name="")
    threads = settings["threads"]
    config = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    session = tf.compat.v1.Session(graph=graph, config=config)
    fetches = session.make_callable([f"{name}:0" for name in OUTPUTS], ["image_tensor:0"])
    image = picture(settings["size_wh"])[None]
    return lambda boxes: dict(zip(OUTPUTS, fetches(image)))


if __name__ == "__main__":
    serve(make)
