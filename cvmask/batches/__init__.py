"""Archives of pictures and videos, on all processors of a machine or of a cluster, with Ray Data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Callable, Union

from cvmask.batches.options import Options, need_ray
from cvmask.runtime.model import MaskRCNN

if TYPE_CHECKING:
    from cvmask.batches.job import Progress

PathLike = Union[str, "os.PathLike[str]"]


def batch(
    sources: PathLike | Sequence[PathLike],
    output: PathLike,
    model: MaskRCNN,
    *,
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    soft_masks: bool = False,
    annotated: bool = False,
    stride: int = 1,
    max_failures: int | None = None,
    part_frames: int = 64,
    image_column: str | None = None,
    retry_failed: bool = False,
    add: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Find objects in an archive of pictures and videos, and write a Parquet table of them.

    The work list is numbered parts. Each is a file that appears whole or not at all; whoever calls this
    again with the same arguments goes on with what is missing, however the first run ended.

    Parameters
    ----------
    sources
        Folders (all that is below), patterns, files, and lists of files (``.txt``, one per line):
        pictures, videos, tar shards in WebDataset's layout, Parquet files with a column of picture
        bytes. Paths of this machine, or addresses that PyArrow or fsspec know: ``s3://bucket/folder``.
    output
        A folder or an address. It belongs to this call: another one is refused.
    model
        A loaded model; each worker loads a copy of it.
    address
        Of a Ray cluster: ``auto``, ``host:6379`` or ``ray://host:10001``. None: Ray is started on this
        machine, and ended afterwards. A Ray that this process has begun is used as it is.
    workers, threads
        Processes with a model each, and OpenCV threads of each. None: as many as there are processors
        for.
    soft_masks
        Keep the soft masks too.
    annotated
        Write annotated pictures and videos too.
    stride
        Of videos: every stride-th frame.
    max_failures
        Stop after more failures than this. None: never, they are rows of the table.
    part_frames
        Frames of a part, about: so much is done again at most, for each worker, after a crash.
    image_column
        Of Parquet files: the column of picture bytes. None: the only one, or one of a usual name.
    retry_failed
        Try again what failed in an earlier run into this output.
    add
        Take in files that came since the work list was made.
    on_progress
        Called in this thread after every part, and with ``waiting`` set where nothing goes forward for a minute
        and Ray says why.

    Returns
    -------
    The summary, as in ``_summary.json``: frames, objects, failed, reasons, new_files (how many are there now
    and not in the work list) and more.

    Raises
    ------
    CvmaskError
        If Ray is missing or does not start, or more inputs failed than `max_failures`; SourceError if
        there is nothing to read, SinkError if the output cannot be written or belongs to another call.
    TypeError, ValueError
        If the model is none, or a number is out of range.
    """
    if not isinstance(model, MaskRCNN):
        raise TypeError(f"model must be what cvmask.load gives, got {model!r:.60}")
    options = Options(address, workers, threads, soft_masks, annotated, stride, max_failures,
                      part_frames, image_column, retry_failed, add, on_progress)  # fmt: skip
    need_ray()
    from cvmask.batches.run import is_client, run, run_in_cluster
    from cvmask.batches.storage import storage_path

    named = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    runner = run_in_cluster if is_client(address) else run
    return runner([os.fspath(source) for source in named], storage_path(output), model, options)
