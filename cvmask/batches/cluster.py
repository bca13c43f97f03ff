"""Start Ray on this machine or join a cluster, and keep Ray's own messages from the terminal."""

from __future__ import annotations

import importlib
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import ray
from ray.exceptions import RayError

from cvmask import __version__, errors
from cvmask.errors import CvmaskError
from cvmask.system.process import quiet

_STORE_BYTES = 1 << 30
_REACH_S = 10.0
_END_S = 10.0


@contextmanager
def connected(address: str | None, cpus: int | None) -> Iterator[str]:
    """Use the Ray of this process if there is one, else join that at `address`, else start one here.

    Parameters
    ----------
    address
        ``auto``, ``host:6379`` or ``ray://host:10001``; None to start Ray on this machine.
    cpus
        How many processors a Ray started here may use; None: all that this process may use.

    Yields
    ------
    The address of the dashboard, "" if there is none.

    Raises
    ------
    CvmaskError
        If there is no Ray at the address, or none can be started here.
    """
    if ray.is_initialized():
        yield ""
        return
    check_reachable(address)
    debug = os.environ.get("CVMASK_DEBUG") == "1"
    with ExitStack() as undo:
        if not debug:
            _silence(undo)
        options: dict[str, Any] = {"address": address}
        if address is None:
            # Without an address Ray may take one from the environment.
            options = {"address": "local", "num_cpus": cpus or usable_cpus(), "object_store_memory": _STORE_BYTES,
                       "_node_ip_address": "127.0.0.1"}  # fmt: skip
        if not debug:
            options.update(log_to_driver=False, logging_level=logging.FATAL)
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            with quiet():
                context = ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise CvmaskError(_why_not(address, error)) from None
        undo.callback(ray.shutdown)
        undo.callback(_end_hanging_threads)
        # Ray would end this process at once; instead the command ends as on Ctrl-C.
        if callable(on_terminate) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)
        link = str(getattr(context, "dashboard_url", "") or "")
        yield f"http://{link}" if link and "://" not in link else link


def _end_hanging_threads() -> None:
    """End the threads of Ray Data that wait for an actor which Ray restarts again and again for lack of memory.

    While they wait, a shutdown of Ray ends the process; after it they would start Ray again.
    """
    if not _hanging_threads():
        return
    for named in ray.util.list_named_actors(all_namespaces=True):
        with suppress(ValueError, RayError):
            ray.kill(ray.get_actor(named["name"], named["namespace"]))
    end = time.monotonic() + _END_S
    while _hanging_threads() and time.monotonic() < end:
        time.sleep(0.1)
    if _hanging_threads():
        with suppress(ImportError, AttributeError):
            hook: Any = importlib.import_module("ray._private.auto_init_hook")
            hook.enable_auto_connect = False


def _hanging_threads() -> bool:
    return any(thread.name.startswith("StreamingExecutor") for thread in threading.enumerate())


def check_reachable(address: str | None) -> None:
    """CvmaskError if nothing listens at an address, for which Ray itself would wait for minutes."""
    if address is None:
        return
    found = address
    if address == "auto":
        with suppress(AttributeError, TypeError, ConnectionError):
            services = importlib.import_module("ray._private.services")
            found = services.get_ray_address_from_environment("auto", None) or address
    try:
        parts = urlsplit(found if "://" in found else f"ray://{found}")
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), _REACH_S).close()
    except (OSError, ValueError) as error:
        shown = address if found == address else f"{address} ({found})"
        raise CvmaskError(
            f"no Ray at {shown}: {getattr(error, 'strerror', None) or error}: `ray start --head` there begins one"
        ) from None


def _why_not(address: str | None, error: BaseException) -> str:
    """Return in one line why Ray is not available."""
    text = " ".join(str(error).split())[:200]
    if address is None:
        return f"Ray does not start here: {text}"
    if "AuthenticationError" in str(error.__cause__):
        return f"the Ray at {address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
    cure = " (does it want a token? RAY_AUTH_MODE=token RAY_AUTH_TOKEN=...)" if "connection timeout" in text else ""
    return f"no Ray at {address}: {text}{cure}"


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Raise an error from a process of Ray as it was raised there, and Ray's own errors in one line."""
    try:
        yield
    except (RayError, RuntimeError) as error:
        # Only the text of an exception in another process is sure to arrive.
        own = re.search(r"^cvmask\.errors\.(\w+): (.+)$", str(error), re.MULTILINE)
        if own:
            raise getattr(errors, own[1], CvmaskError)(own[2]) from None
        first = re.search(r"^\s*(?!ray\.)[\w.]*(?:Error|Exception): .+$", str(error), re.MULTILINE)
        text = first[0] if first else str(error)
        raise CvmaskError(f"Ray gave up: {' '.join(text.split())[-300:]}") from error


def same_version(version: str) -> None:
    """Raise CvmaskError in a process of Ray whose cvmask version differs from that of the batch."""
    if version != __version__:
        raise CvmaskError(f"a worker has cvmask {__version__}, the batch was started with {version}")


def usable_cpus() -> int:
    """Count the processors that this process may use."""
    if sys.platform == "linux":
        with suppress(OSError):
            return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _silence(undo: ExitStack) -> None:
    """Keep Ray's log lines, its usage report and its messages about workers that died from the terminal."""
    _set_environment(undo, RAY_BACKEND_LOG_LEVEL="fatal", RAY_USAGE_STATS_ENABLED="0", RAY_DEDUP_LOGS="0")
    for name in ("ray", "ray.data"):
        logger = logging.getLogger(name)
        # Permanent, because threads of Ray Data outlive the shutdown and would warn that Ray is gone.
        logger.setLevel(logging.CRITICAL)
    worker = ray._private.worker
    with suppress(AttributeError):
        # Ray prints these whatever its log level.
        undo.callback(setattr, worker, "print_to_stdstream", worker.print_to_stdstream)
        worker.print_to_stdstream = lambda *args, **kwargs: None


def _set_environment(undo: ExitStack, **values: str) -> None:
    for name, value in values.items():
        before = os.environ.get(name)
        if before is None:
            os.environ[name] = value
            undo.callback(os.environ.pop, name, None)
