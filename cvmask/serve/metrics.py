"""Counters for Prometheus, in its text format."""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_HELP = {
    "requests_total": "Answers, by path and status.",
    "inferences_total": "Pictures that went through the network, by who asked.",
    "inference_seconds": "How long a picture took in the network.",
    "encodings_total": "Pictures encoded for the live page.",
    "frames_total": "New frames shown on the live page.",
    "frames_lost_total": "Live frames that were not shown, by cause: a newer one, damage, or the end.",
    "refused_total": "Requests refused before they were looked at, by reason.",
    "failed_total": "Errors inside the server.",
}


class Metrics:
    """Counters that any thread may add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self._buckets = [0] * len(_BOUNDS_S)
        self._seconds, self._timed = 0.0, 0
        self.gauges: dict[str, Callable[[], int]] = {}

    def count(self, name: str, labels: Mapping[str, str] | None = None, times: int = 1) -> None:
        """Add one, or `times`; `labels` must come from a fixed short list, never from a client."""
        text = ",".join(f'{key}="{value}"' for key, value in (labels or {}).items())
        with self._lock:
            self._counts[name][text] += times

    def time(self, seconds: float) -> None:
        """Count one inference."""
        with self._lock:
            self._timed += 1
            self._seconds += seconds
            for index, bound in enumerate(_BOUNDS_S):
                self._buckets[index] += seconds <= bound

    def total(self, name: str) -> int:
        """Sum a counter over its labels."""
        with self._lock:
            return sum(self._counts[name].values())

    @property
    def mean_s(self) -> float:
        """Seconds of the mean inference; 0 before the first."""
        return self._seconds / self._timed if self._timed else 0.0

    def text(self) -> str:
        """Return all metrics in the format of Prometheus."""
        lines = []
        with self._lock:
            for name, help_text in _HELP.items():
                kind = "counter" if name.endswith("_total") else "histogram"
                lines += [f"# HELP cvmask_{name} {help_text}", f"# TYPE cvmask_{name} {kind}"]
                if kind == "histogram":
                    lines += self._histogram(name)
                for labels, value in sorted(self._counts[name].items()):
                    lines.append(f"cvmask_{name}{{{labels}}} {value}" if labels else f"cvmask_{name} {value}")
        for name, read in self.gauges.items():
            lines += [f"# TYPE cvmask_{name} gauge", f"cvmask_{name} {read()}"]
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        pairs = [(f"{bound:g}", count) for bound, count in zip(_BOUNDS_S, self._buckets)]
        buckets = [f'cvmask_{name}_bucket{{le="{le}"}} {count}' for le, count in [*pairs, ("+Inf", self._timed)]]
        return [*buckets, f"cvmask_{name}_sum {self._seconds:.6f}", f"cvmask_{name}_count {self._timed}"]


def resident_bytes() -> int:
    """Return the memory of this process; 0 if the system does not state it."""
    if sys.platform != "linux":
        return 0
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
