"""One line of what `cvmask doctor` reports."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """One line of the report. `state` is OK, NOTE or PROBLEM; `cure` says what to do, if anything."""

    topic: str
    state: str
    text: str
    cure: str = ""
