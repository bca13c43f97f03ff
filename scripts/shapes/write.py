"""Write models/shapes: the frozen graph, its text graph, labels and pipeline.config."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from cvmask.graph.convert import convert
from cvmask.graph.graph_def import read_graph
from cvmask.graph.text import print_text

from . import config as c
from .export import frozen_graph
from .network import ShapesNet


def pipeline_config() -> str:
    """The model's numbers as the Object Detection API's configuration has them."""
    scales = "".join(f"          scales: {scale}\n" for scale in c.ANCHOR_SCALES)
    ratios = "".join(f"          aspect_ratios: {ratio}\n" for ratio in c.ASPECT_RATIOS)
    return f"""\
model {{
  faster_rcnn {{
    num_classes: {c.NUM_CLASSES}
    image_resizer {{
      keep_aspect_ratio_resizer {{
        min_dimension: {c.MIN_DIMENSION}
        max_dimension: {c.MAX_DIMENSION}
      }}
    }}
    feature_extractor {{
      type: "faster_rcnn_shapes"
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="what scripts/train_shapes wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("models/shapes"))
    args = parser.parse_args()
    net = ShapesNet()
    net.load_state_dict(torch.load(args.checkpoint, weights_only=True, map_location="cpu")["net"])
    args.output.mkdir(parents=True, exist_ok=True)
    graph = args.output / "frozen_inference_graph.pb"
    graph.write_bytes(frozen_graph(net))
    (args.output / "labels.names").write_text("\n".join(c.LABELS) + "\n")
    (args.output / "pipeline.config").write_text(pipeline_config())
    (args.output / "graph.pbtxt").write_text(print_text(convert(read_graph(graph))))
    for path in sorted(args.output.iterdir()):
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
