"""Whether a model works, without a picture: it converts, it splits, and split equals whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cvmask.errors import CvmaskError
from cvmask.graph.check import check
from cvmask.graph.convert import convert
from cvmask.graph.folder import model_files
from cvmask.graph.graph_def import read_graph
from cvmask.graph.nodes import Graph
from cvmask.graph.patch import set_max_detections, set_score_floor
from cvmask.graph.split import split
from cvmask.graph.text import print_text
from cvmask.runtime.net import Net

_NOISE_SHAPE = (1, 3, 160, 160)
# Few, because the whole graph runs its mask head on every row, found or not.
_ROWS = 8
# The two are the same to the bit where this was measured; a processor's kernels may differ by the row count.
_TOLERANCE = 1e-5


def self_check(model: Path) -> list[str]:
    """Run a model's picture-free self-check.

    Parameters
    ----------
    model
        A model's folder, or a ``.pb``.

    Returns
    -------
    One line for each problem; none if the graph converts and splits, and detector plus mask head
    give on noise what the whole graph gives.
    """
    try:
        files = model_files(model)
        check(files).raise_problem()
        graph = files.graph
        text = convert(read_graph(graph))
        problem = split_differs(np.fromfile(graph, np.uint8), text, graph.name)
    except CvmaskError as error:
        return [str(error)]
    return [] if problem is None else [problem]


def split_differs(graph: NDArray[np.uint8], text: Graph, origin: str) -> str | None:
    """Say how detector plus mask head differ from the whole graph on seeded noise; None if they do not.

    Parameters
    ----------
    graph
        The bytes of the binary GraphDef, shape (n,).
    text
        Its text graph.

    Raises
    ------
    ModelError
        If it cannot be split, loaded or run.
    """
    # Noise looks like nothing, so without a floor there are rows to compare.
    text = set_max_detections(set_score_floor(text, 0.0), _ROWS)
    parts = split(text)
    noise = np.random.default_rng(0).integers(0, 256, _NOISE_SHAPE).astype(np.float32)
    whole = Net(graph, print_text(text), [parts.detections, parts.masks], origin)
    rows, masks = whole.forward({parts.image: noise})
    detector = Net(graph, parts.detector_text, [parts.detections, parts.features], origin)
    split_rows, features = detector.forward({parts.image: noise})
    found = int(np.count_nonzero(rows[0, 0, :, 2]))
    if not found:
        return f"{origin}: the whole graph finds nothing at all in noise, so there is nothing to compare"
    # Half of them, as the mask head sees it in use: fewer rows than the whole graph's.
    kept = np.ascontiguousarray(split_rows[:, :, : (found + 1) // 2])
    head = Net(graph, parts.mask_head_text, [parts.masks], origin)
    split_masks = head.forward({parts.features: features, parts.detections: kept})[0]
    return _difference(rows, split_rows, origin, "boxes and scores") or _difference(
        masks[: len(split_masks)], split_masks, origin, "masks"
    )


def _difference(whole: NDArray[np.float32], parts: NDArray[np.float32], origin: str, what: str) -> str | None:
    if whole.shape != parts.shape:
        return f"{origin}: split gives {what} of shape {parts.shape}, whole {whole.shape}"
    # The maximum of anything with a NaN is NaN, which is not below the tolerance.
    largest = float(np.abs(whole - parts).max())
    if largest <= _TOLERANCE:
        return None
    return f"{origin}: split and whole differ by {largest:.3g} in {what}, {_TOLERANCE:g} at most was needed"
