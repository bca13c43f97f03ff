"""Ray: started on this machine or joined, and kept from talking to the user."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import ray

from cvmask.errors import CvmaskError
from cvmask.runtime.quiet import quiet

_STORE_BYTES = 1 << 30


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[str]:
    """Use the Ray of this process if there is one, else join that at `address`, else start one here.

    Parameters
    ----------
    address
        ``auto``, ``host:6379`` or ``ray://host:10001``; None for a Ray of one's own on this machine.
    cpus
        How many processors a Ray of one's own may use; None: all that this process may use.

    Yields
    ------
    The address of the dashboard, "" where there is none.

    Raises
    ------
    CvmaskError
        If there is no Ray at the address, or none can be started here.
    """
    if ray.is_initialized():
        yield ""
        return
    debug = os.environ.get("CVMASK_DEBUG") == "1"
    with ExitStack() as undo:
        if not debug:
            _silence(undo)
        options: dict[str, Any] = {"address": address}
        if address is None:
            # Left out, the address may come from the environment.
            options = {"address": "local", "num_cpus": cpus or usable_cpus(), "object_store_memory": _STORE_BYTES,
                       "_node_ip_address": "127.0.0.1"}  # fmt: skip
        if not debug:
            options.update(log_to_driver=False, logging_level=logging.FATAL)
        try:
            with quiet():
                context = ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise CvmaskError(_why_not(address, error)) from None
        undo.callback(ray.shutdown)
        link = str(getattr(context, "dashboard_url", "") or "")
        yield f"http://{link}" if link and "://" not in link else link


def _why_not(address: str | None, error: BaseException) -> str:
    """Say in one line why there is no Ray."""
    text = " ".join(str(error).split())[:200]
    if address is None:
        return f"Ray does not start here: {text}"
    if "AuthenticationError" in str(error.__cause__):
        return f"the Ray at {address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    return f"no Ray at {address}: {text}"


def usable_cpus() -> int:
    """Count the processors that this process may use."""
    with suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _silence(undo: ExitStack) -> None:
    """Keep Ray's log lines, its usage report and its messages about workers that died from the terminal."""
    _set_environment(undo, RAY_BACKEND_LOG_LEVEL="fatal", RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL)
    worker = ray._private.worker
    with suppress(AttributeError):
        # Ray prints these whatever it was told about logging.
        undo.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
        worker.print_to_stdstream = lambda *args, **kwargs: None


def _set_environment(undo: ExitStack, **values: str) -> None:
    for name, value in values.items():
        before = os.environ.get(name)
        if before is None:
            os.environ[name] = value
            undo.callback(os.environ.pop, name, None)
