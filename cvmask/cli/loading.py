"""Loads the model that the flags describe, and offers to download a known model that is not installed."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from cvmask import models
from cvmask.cli.options import ModelOptions, UsageError
from cvmask.cli.progress import DownloadProgress, say
from cvmask.drawing.letters import undrawn_note
from cvmask.errors import ModelError
from cvmask.models import load
from cvmask.models.zoo import NAMES, KnownModel, get, is_offline, missing_text
from cvmask.runtime.model import MaskRCNN
from cvmask.system.files import size_text


def load_model(wanted: ModelOptions, captions: bool = False) -> MaskRCNN:
    """Load the model that the flags describe; offers to download a known one that is not installed.

    With `captions`, labels that cannot be drawn are reported.
    """
    if wanted.model in NAMES:
        find_or_download(wanted.model)
    try:
        model = load.load(**{option.name: getattr(wanted, option.name) for option in fields(wanted)})
    except ValueError as error:
        raise UsageError(str(error)) from None
    for line in (*model.notes, model.target.warning, undrawn_note(model.labels) if captions else None):
        if line:
            say(f"cvmask: {line}", error=True)
    return model


def find_or_download(name: str) -> Path:
    """Find a known model, or download it if the user at the terminal agrees.

    Raises
    ------
    ModelError
        If it is not installed, and stdin is not a terminal, the answer is no, or the network is
        forbidden. The message says how to get it.
    """
    found = models.find(name)
    if found is not None:
        return found
    model = get(name)
    if model.bundled or is_offline() or not _has_terminal() or not _agrees(model):
        raise ModelError(missing_text(model))
    return download_with_progress(name)


def download_with_progress(name: str, force: bool = False) -> Path:
    """Download a known model and show the progress on stderr."""
    with DownloadProgress(name) as progress:
        return models.download(name, progress.advance, progress.say, force=force)


def _has_terminal() -> bool:
    # A process without a console has no stdin.
    return sys.stdin is not None and sys.stdin.isatty()


def _agrees(model: KnownModel) -> bool:
    # On stderr, not as the prompt of input(): stdout may be a pipe.
    question = f"model {model.name!r} is not installed: download {size_text(model.archive_bytes)} now? [Y/n] "
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = sys.stdin.readline()
    # End of input is not an answer; Enter means yes.
    return answer.strip().lower() in ("", "y", "yes") if answer else False
