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

    The work list consists of numbered parts. Each is a file that appears whole or not at all. A second call with the
    same arguments does the parts that are missing, however the first run ended.

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
        machine, and stopped afterwards. If this process has already started Ray, that one is used.
    workers, threads
        Processes with a model each, and OpenCV threads of each. None: by the number of processors.
    soft_masks
        Keep the soft masks too.
    annotated
        Write annotated pictures and videos too.
    stride
        Read every stride-th frame of videos.
    max_failures
        Stop after more failures than this. None: never; failures are rows of the table.
    part_frames
        Approximate frames of a part: after a crash, each worker repeats at most this many.
    image_column
        The column of picture bytes in Parquet files. None: the only one, or one with a usual name.
    retry_failed
        Retry the inputs that failed in an earlier run into this output.
    add
        Add files that are newer than the work list.
    on_progress
        Called in this thread after every part, and with ``waiting`` set if there was no progress for a minute
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
