"""Every number of the people model, in one place: network, training and export read them here."""

from __future__ import annotations

import math

LABELS = ("person",)
NUM_CLASSES = len(LABELS)

# Image resizer (fixed_shape_resizer) and input scaling: x / 127.5 - 1. Sides are multiples of 32.
SIZE = 352

# Grid anchors, centres at multiples of the stride; the largest covers the whole picture.
STRIDE = 8
ANCHOR_BASE = 256
ANCHOR_SIDES = (24, 46, 90, 176, 345)
ANCHOR_SCALES = tuple(side / ANCHOR_BASE for side in ANCHOR_SIDES)
ASPECT_RATIOS = (0.4, 1.0)  # width to height
ANCHOR_SIZES_HW = tuple((s / math.sqrt(r), s * math.sqrt(r)) for r in ASPECT_RATIOS for s in ANCHOR_SIDES)

# Box coder: faster_rcnn_box_coder's usual scales.
SCALES_YXHW = (10.0, 10.0, 5.0, 5.0)

# First stage.
FIRST_STAGE_NMS_IOU = 0.7
MAX_PROPOSALS = 40

# Second stage.
CROP_SIZE, POOL = 20, 2
SCORE_THRESHOLD = 0.02
SECOND_STAGE_NMS_IOU = 0.5
MAX_DETECTIONS = 100
MASK_SIZE = 28
MASK_LOGIT_SHIFT = 0.0
# Added to a person's logit at export: of the boxes that training looks at more are persons than in pictures.
SCORE_LOGIT_SHIFT = -1.8

# Channels. The trunk's blocks of stride 8, 16 and 32 that the pyramid reads, and their depths.
LEVELS = {8: (5, 48), 16: (12, 144), 32: (14, 240)}
PYRAMID, BOTTLENECK = 96, 64
RPN_DEPTH = 96
SECOND_DEPTH = 192
MASK_DEPTH, MASK_CONVS = 48, 3

# Scopes in the graph, as in the API's exports, and what its configuration calls the extractor.
EXTRACTOR = "faster_rcnn_people"
FIRST, SECOND = "FirstStageFeatureExtractor/MobilenetV2", "SecondStageFeatureExtractor"
PREDICTOR = "SecondStageBoxPredictor"
