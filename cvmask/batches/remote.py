"""A batch through Ray's client (``ray://``), over which Ray Data does not run: all of it runs in the cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayError

from cvmask import __version__
from cvmask.batches.cluster import connected, one_line_errors, same_version
from cvmask.batches.options import Options
from cvmask.batches.progress import Progress
from cvmask.batches.run import run
from cvmask.batches.storage import Place
from cvmask.runtime.model import MaskRCNN

_LOOK_S = 0.5


def is_client(address: str | None) -> bool:
    """Tell whether Ray is, or would be, reached through its client."""
    if ray.is_initialized():
        return bool(ray.util.client.ray.is_connected())
    found = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    return (found or "").startswith("ray://")


def run_in_cluster(sources: Sequence[str], output: Place, model: MaskRCNN, options: Options) -> dict[str, Any]:
    """See `cvmask.batch`; paths are those of the cluster's machines, progress comes twice a second."""
    # Of this process's folder the cluster knows nothing.
    paths = [source if "://" in source else os.path.abspath(source) for source in sources]
    with connected(options.address, None) as dashboard:
        driver = ray.remote(num_cpus=0, max_concurrency=2)(Driver).remote(__version__)
        there = replace(options, address=None, on_progress=None)
        done = driver.run.remote(paths, output, ray.put(model), there)
        try:
            for progress in _looks(driver, done):
                progress.dashboard = dashboard
                if options.on_progress is not None:
                    options.on_progress(progress)
            with one_line_errors():
                summary: dict[str, Any] = ray.get(done)
                return summary
        finally:
            with suppress(RayError, ConnectionError):
                ray.kill(driver)


def _looks(driver: Any, done: Any) -> Iterator[Progress]:
    """Give how far the batch is, now and then until it ends, one way or the other."""
    ready: list[Any] = []
    with one_line_errors():
        while not ready:
            ready, _ = ray.wait([done], timeout=_LOOK_S)
            progress = ray.get(driver.progress.remote())
            if progress is not None:
                yield progress


class Driver:
    """Runs a batch in a process of the cluster; the workers end with it."""

    def __init__(self, version: str) -> None:
        same_version(version)
        self._progress: Progress | None = None

    def run(self, sources: list[str], output: Place, model: MaskRCNN, options: Options) -> dict[str, Any]:
        """Run it and give the summary."""
        return run(sources, output, model, replace(options, on_progress=self._note))

    def progress(self) -> Progress | None:
        """How far it is; None before the work list is made."""
        return self._progress

    def _note(self, progress: Progress) -> None:
        self._progress = progress
