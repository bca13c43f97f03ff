"""A batch from its beginning to its end."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from typing import Any

import ray
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError

from cvmask import __version__
from cvmask.batches import job as commands
from cvmask.batches.again import Retry, new_items, remove_strangers, reopen, with_added
from cvmask.batches.annotated import join_videos, need_av
from cvmask.batches.chunks import Archive
from cvmask.batches.cluster import connected, one_line_errors, same_version
from cvmask.batches.job import Progress
from cvmask.batches.listing import find_items, plan
from cvmask.batches.options import Options
from cvmask.batches.patience import Patience, patience
from cvmask.batches.quarantine import DEATHS
from cvmask.batches.storage import StoragePath, read_bytes, storage_path, write_bytes
from cvmask.batches.table import Counts
from cvmask.batches.work_items import (
    VIDEO,
    Finished,
    Item,
    WorkItem,
    missing,
    read_units,
    remove_leftovers,
    write_units,
)
from cvmask.batches.worker import Job, Worker
from cvmask.errors import CvmaskError, SourceError
from cvmask.runtime.model import MaskRCNN


def run(sources: Sequence[str], output: StoragePath, model: MaskRCNN, options: Options) -> dict[str, Any]:
    """See `cvmask.batch`."""
    command = command_of(sources, model, options)
    begun = commands.is_begun(output, command)
    if begun and not options.add and not options.retry_failed:
        with suppress(FileNotFoundError):
            read_bytes(output / commands.SUCCESS)
            summary: dict[str, Any] = json.loads(read_bytes(output / commands.SUMMARY))
            with suppress(SourceError):  # what is finished may be gone
                items = _items(sources, output)
                units = read_units(output / commands.UNITS, {item.place.root for item in items})
                summary["new_files"] = len(new_items(units, items))
            return summary
    items = _items(sources, output)
    cpus = None if options.workers is None else options.workers * options.threads
    with connected(options.address, cpus) as dashboard, _own_context():
        batch = _Batch(output, model, options, dashboard)
        with patience(batch.waits, batch.workers) as watch:
            units = batch.units(items, begun, command)
            if options.annotated and any(unit.kind == VIDEO for unit in units):
                need_av()
            batch.work(units, watch)
            return batch.finish(units)


def _items(sources: Sequence[str], output: StoragePath) -> list[Item]:
    """Find the files of an archive, without the files that a batch has written among them."""
    inside = output.path.rstrip("/") + "/"
    return [
        item
        for item in find_items(sources)
        if item.place.root != output.root or not item.place.path.startswith(inside)
    ]


class _Batch:
    """The state that the steps of one run share."""

    def __init__(self, output: StoragePath, model: MaskRCNN, options: Options, dashboard: str) -> None:
        self._output, self._model, self._options = output, model, options
        self._run = uuid.uuid4().hex[:12]
        self._began = time.monotonic()
        self._new_files, self._again = 0, set[int]()
        self._progress = Progress(dashboard=dashboard)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        self.workers = options.workers or max(1, cpus // options.threads)
        if self.workers * options.threads > cpus:
            raise CvmaskError(
                f"{self.workers} workers of {options.threads} threads need more than the {cpus} CPUs of this Ray"
            )

    def units(self, items: list[Item], begun: bool, command: dict[str, Any]) -> list[WorkItem]:
        """Read the work list of an earlier run, or make and store it."""
        place = self._output / commands.UNITS
        if begun:
            return self._taken_up(read_units(place, {item.place.root for item in items}), items)
        units = plan(items, self._options.part_frames, self._run)
        write_units(place, units)
        commands.begin(self._output, command)
        return units

    def _taken_up(self, before: list[WorkItem], items: list[Item]) -> list[WorkItem]:
        """Add new files and plan failed ones again, if the options say so."""
        options, units = self._options, before
        new = new_items(units, items)
        if options.add and new:
            units = with_added(units, new, options.part_frames, self._run)
        else:
            self._new_files = len(new)
        finished = Finished(self._output)
        retry = Retry(units, finished, options.annotated) if options.retry_failed else None
        if retry is not None:
            units, self._again = retry.apply(units, options.part_frames, self._run), retry.pictures
        if retry is not None or units is not before:
            reopen(self._output)
        if units is not before:
            write_units(self._output / commands.UNITS, units)
        if retry is not None:
            retry.remove(self._output)
        remove_strangers(units, finished)
        return units

    def waits(self, why: str) -> None:
        """Report why there is no progress."""
        self._progress.waiting = why
        self._tell()
        self._progress.waiting = ""

    def work(self, units: list[WorkItem], watch: Patience) -> None:
        """Run everything that is not finished."""
        options = self._options
        finished = Finished(self._output)
        todo = [unit for unit in units if unit.number in self._again or not finished.has_all(unit.number)]
        self._progress.begin(units, finished, todo, self._again)
        self._tell()
        watch.renew()
        if not todo:
            return
        job = Job(self._output, self._run, __version__, options.threads, options.part_frames, options.stride,
                  options.soft_masks, options.annotated, options.image_column)  # fmt: skip
        begun = [(unit, finished.chunks(unit.number)) for unit in todo]
        archive = Archive(begun, options.part_frames, options.image_column)
        workers = min(self.workers, len(todo))
        # Reading waits for disks and networks: it takes no processor away from the workers.
        chunks = ray.data.read_datasource(archive, num_cpus=0, concurrency=workers, override_num_blocks=len(todo))
        parts = chunks.map_batches(
            Worker,
            fn_constructor_args=(job, ray.put(self._model)),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers),
            num_cpus=options.threads,
        )
        for part in _results(parts, watch):
            watch.renew()
            self._progress.add(part)
            self._tell()
            self._check_failures()

    def finish(self, units: list[WorkItem]) -> dict[str, Any]:
        """Check that nothing is missing, join videos, and write the summary."""
        finished = Finished(self._output)
        lost = missing((unit.number for unit in units), finished)
        if lost:
            cure = "give a folder that all machines of the cluster share, or an address like s3://"
            raise CvmaskError(f"{self._output.shown}: {len(lost)} of {len(units)} units are not there: {cure}")
        if self._options.annotated:
            join_videos(self._output, units, finished, self._run, self._options.stride == 1)
        remove_leftovers(self._output)
        with suppress(OSError):
            self._output.filesystem.delete_dir((self._output / DEATHS).path)
        summary = self._summary(units, finished.counts(), len(finished))
        write_bytes(self._output / commands.SUMMARY, (json.dumps(summary, indent=1) + "\n").encode())
        if summary["frames"] or not summary["failed"]:
            write_bytes(self._output / commands.SUCCESS, b"")
        return summary

    def _summary(self, units: list[WorkItem], counts: Counts, parts: int) -> dict[str, Any]:
        elapsed_s = time.monotonic() - self._began
        return {
            **asdict(counts),
            "sources": len({item.place for unit in units for item in unit.items}),
            "units": len(units),
            "parts": parts,
            "new_files": self._new_files,
            "last_run": {
                "frames": self._progress.frames,
                "elapsed_s": round(elapsed_s, 3),
                "frames_per_second": round(self._progress.frames / max(elapsed_s, 1e-9), 3),
                "workers": self.workers,
                "threads": self._options.threads,
            },
        }

    def _tell(self) -> None:
        if self._options.on_progress is not None:
            self._options.on_progress(self._progress)

    def _check_failures(self) -> None:
        most, failed = self._options.max_failures, self._progress.failed
        if most is not None and failed > most:
            reasons = self._progress.reasons
            often = max(reasons, key=lambda reason: reasons[reason])
            raise CvmaskError(f"{failed} inputs failed, more than the {most} allowed; most often: {often}")


def command_of(sources: Sequence[str], model: MaskRCNN, options: Options) -> dict[str, Any]:
    """Return all settings that affect the results."""
    settings = asdict(model.settings)
    return {
        "cvmask": __version__,
        "sources": [storage_path(source).shown for source in sources],
        "model": model.origin,
        "model_sha256": model.fingerprint(),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()},
        "size": str(model.resizer),
        "target": model.target.requested,
        "stride": options.stride,
        "soft_masks": options.soft_masks,
        "annotated": options.annotated,
        "part_frames": options.part_frames,
        "image_column": options.image_column,
    }


@contextmanager
def _own_context() -> Iterator[None]:
    """Set Ray Data up for this run only."""
    context = DataContext.get_current()
    # Every chunk is a block of its own, and so a task of its own: blocks end at the first byte beyond.
    wanted = {"enable_progress_bars": False, "target_max_block_size": 1}
    before = {name: getattr(context, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def _results(parts: Any, watch: Patience) -> Iterator[dict[str, Any]]:
    """Yield the workers' reports, one for each part."""
    with one_line_errors():
        yield from watch.rows(parts)


_LOOK_S = 0.5


def is_client(address: str | None) -> bool:
    """Tell whether Ray is, or would be, reached through its client."""
    if ray.is_initialized():
        return bool(ray.util.client.ray.is_connected())
    found = os.environ.get("RAY_ADDRESS") if address == "auto" else address
    return (found or "").startswith("ray://")


def run_in_cluster(sources: Sequence[str], output: StoragePath, model: MaskRCNN, options: Options) -> dict[str, Any]:
    """See `cvmask.batch`; paths are those of the cluster's machines, progress comes twice a second."""
    # The cluster does not know this process's working folder.
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
    """Yield the progress now and then, until the batch ends or fails."""
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

    def run(self, sources: list[str], output: StoragePath, model: MaskRCNN, options: Options) -> dict[str, Any]:
        """Run it and give the summary."""
        return run(sources, output, model, replace(options, on_progress=self._note))

    def progress(self) -> Progress | None:
        """How far it is; None before the work list is made."""
        return self._progress

    def _note(self, progress: Progress) -> None:
        self._progress = progress
