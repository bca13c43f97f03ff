"""Write the folder of a model: the frozen graph, its text graph, labels and pipeline.config."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import tensorflow as tf
import torch

from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.text import print_text

from . import config
from .export import features, frozen_graph
from .network import ShapesNet


def pipeline_config(c: ModuleType) -> str:
    """The model's numbers as the Object Detection API's configuration has them."""
    resizer = ("fixed_shape", "height", "width")
    sides = (c.SIZE, c.SIZE) if hasattr(c, "SIZE") else (c.MIN_DIMENSION, c.MAX_DIMENSION)
    if not hasattr(c, "SIZE"):
        resizer = ("keep_aspect_ratio", "min_dimension", "max_dimension")
    scales = "".join(f"          scales: {scale}\n" for scale in c.ANCHOR_SCALES)
    ratios = "".join(f"          aspect_ratios: {ratio}\n" for ratio in c.ASPECT_RATIOS)
    return f"""\
model {{
  faster_rcnn {{
    num_classes: {c.NUM_CLASSES}
    image_resizer {{
      {resizer[0]}_resizer {{
        {resizer[1]}: {sides[0]}
        {resizer[2]}: {sides[1]}
      }}
    }}
    feature_extractor {{
      type: "{c.EXTRACTOR}"
      first_stage_features_stride: {c.STRIDE}
    }}
    first_stage_anchor_generator {{
      grid_anchor_generator {{
        height: {c.ANCHOR_BASE}
        width: {c.ANCHOR_BASE}
        height_stride: {c.STRIDE}
        width_stride: {c.STRIDE}
{scales}{ratios}      }}
    }}
    first_stage_box_predictor_depth: {c.RPN_DEPTH}
    first_stage_nms_score_threshold: 0.0
    first_stage_nms_iou_threshold: {c.FIRST_STAGE_NMS_IOU}
    first_stage_max_proposals: {c.MAX_PROPOSALS}
    initial_crop_size: {c.CROP_SIZE}
    maxpool_kernel_size: {c.POOL}
    maxpool_stride: {c.POOL}
    second_stage_box_predictor {{
      mask_rcnn_box_predictor {{
        predict_instance_masks: true
        mask_height: {c.MASK_SIZE}
        mask_width: {c.MASK_SIZE}
        mask_prediction_conv_depth: {c.MASK_DEPTH}
        mask_prediction_num_conv_layers: {c.MASK_CONVS + 1}
      }}
    }}
    second_stage_post_processing {{
      batch_non_max_suppression {{
        score_threshold: {c.SCORE_THRESHOLD}
        iou_threshold: {c.SECOND_STAGE_NMS_IOU}
        max_detections_per_class: {c.MAX_DETECTIONS}
        max_total_detections: {c.MAX_DETECTIONS}
      }}
      score_converter: SOFTMAX
    }}
    number_of_stages: 3
  }}
}}
"""


def write(c: ModuleType, graph: tf.compat.v1.GraphDef, folder: Path) -> None:
    """Write all four files, and print their sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "frozen_inference_graph.pb"
    path.write_bytes(graph.SerializeToString(deterministic=True))
    (folder / "labels.names").write_text("\n".join(c.LABELS) + "\n")
    (folder / "pipeline.config").write_text(pipeline_config(c))
    (folder / "graph.pbtxt").write_text(print_text(convert(read_graph(path))))
    for path in sorted(folder.iterdir()):
        print(f"{path}: {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what scripts/train_shapes wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("models/shapes"))
    args = parser.parse_args()
    net = ShapesNet()
    net.load_state_dict(torch.load(args.checkpoint, weights_only=True, map_location="cpu")["net"])
    write(config, frozen_graph(config, net, features), args.output)


if __name__ == "__main__":
    main()
