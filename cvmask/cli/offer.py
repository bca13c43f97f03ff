"""A known model that is not at hand yet: ask whether to download it, where there is someone to ask."""

from __future__ import annotations

import sys
from pathlib import Path

from cvmask import models
from cvmask.cli.download_progress import DownloadProgress
from cvmask.errors import ModelError
from cvmask.models.table import KnownModel, get, is_offline
from cvmask.models.zoo import missing_text
from cvmask.system.disk import size_text


def offer_download(name: str) -> Path:
    """Find a known model, or bring it if the user at the terminal agrees.

    Raises
    ------
    ModelError
        If it is not at hand and stdin is no terminal, the answer is no, or the network is
        forbidden: one line that says how to get it.
    """
    found = models.find(name)
    if found is not None:
        return found
    model = get(name)
    if model.bundled or is_offline() or not _has_terminal() or not _agrees(model):
        raise ModelError(missing_text(model))
    return download_with_progress(name)


def download_with_progress(name: str) -> Path:
    """Download a known model and show how far it is on stderr."""
    with DownloadProgress(name) as progress:
        return models.download(name, progress.advance, progress.say)


def _has_terminal() -> bool:
    # A process without a console has no stdin at all.
    return sys.stdin is not None and sys.stdin.isatty()


def _agrees(model: KnownModel) -> bool:
    # On stderr, and not as the prompt of input(): stdout may be a pipe that somebody reads.
    question = f"model {model.name!r} is not here yet: download {size_text(model.archive_bytes)} now? [Y/n] "
    print(question, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    # The end of the input is no answer; Enter is a yes.
    return answer.strip().lower() in ("", "y", "yes") if answer else False
