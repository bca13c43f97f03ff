"""Every number of the shapes model, in one place: network, training and export read them here."""

from __future__ import annotations

from cvmask.scenes import LABELS

NUM_CLASSES = len(LABELS)

# Image resizer (keep_aspect_ratio_resizer) and input scaling: x / 127.5 - 1, as Inception's.
MIN_DIMENSION, MAX_DIMENSION = 320, 640

# Grid anchors: one square of each side, centres at multiples of the stride.
STRIDE = 8
ANCHOR_BASE = 256
ANCHOR_SIDES = (24, 40, 66, 108, 176)
ANCHOR_SCALES = tuple(side / ANCHOR_BASE for side in ANCHOR_SIDES)
ASPECT_RATIOS = (1.0,)

# Box coder: faster_rcnn_box_coder's usual scales.
SCALES_YXHW = (10.0, 10.0, 5.0, 5.0)

# First stage.
FIRST_STAGE_NMS_IOU = 0.7
MAX_PROPOSALS = 32

# Second stage.
CROP_SIZE, POOL = 20, 2
SCORE_THRESHOLD = 0.02
SECOND_STAGE_NMS_IOU = 0.5
MAX_DETECTIONS = 100
MASK_SIZE = 15
# How many samples of the truth a mask cell has in training, each way: masks are scored as they are pasted.
MASK_FINE = 4
MASK_THRESHOLD = 0.5  # TensorFlow's
# Added to the mask logits at export: what is left to bring the best threshold to MASK_THRESHOLD,
# measured with `python -m shapes.calibrate` on a model exported with 0.
MASK_LOGIT_SHIFT = 0.0

# Channels.
STEM = (24, 48)
TRUNK, BOTTLENECK = 128, 64
DILATIONS = (1, 2, 4, 2, 1)
RPN_DEPTH = 64
SECOND_DEPTH = 192
MASK_DEPTH, MASK_CONVS = 64, 3

# Scopes in the graph, as in the API's exports, and what its configuration calls the extractor.
EXTRACTOR = "faster_rcnn_shapes"
FIRST, SECOND = "FirstStageFeatureExtractor/Shapes", "SecondStageFeatureExtractor"
PREDICTOR = "SecondStageBoxPredictor"
