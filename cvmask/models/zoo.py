"""The models that are at hand: finding one, naming one, removing one."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from cvmask.errors import CvmaskError, ModelError
from cvmask.models.part import Part
from cvmask.models.table import GRAPH_FILE, NAMES, KnownModel, get, suggestion
from cvmask.system import bundled
from cvmask.system.disk import size_text, writing_to
from cvmask.system.folders import cache_home
from cvmask.system.lock import locked


@dataclass(frozen=True)
class Places:
    """Where the cache keeps what belongs to one model."""

    folder: Path
    record: Path
    lock: Path
    part: Path


def places(model: KnownModel) -> Places:
    """Say where the cache keeps a model, whether it is there or not."""
    models, downloads = cache_home() / "models", cache_home() / "downloads"
    return Places(
        folder=models / model.name,
        record=models / f"{model.name}.json",
        lock=downloads / f"{model.name}.lock",
        part=downloads / f"{model.archive}.part",
    )


def find(name: str) -> Path | None:
    """Find a known model's folder; None if it is not at hand.

    Raises
    ------
    ModelError
        If no model is called that.
    """
    model = get(name)
    if not model.bundled:
        folder = places(model).folder
    else:
        try:
            folder = bundled.path(f"models/{name}")
        except CvmaskError:
            return None
    return folder if (folder / GRAPH_FILE).is_file() else None


def resolve(name_or_path: str | os.PathLike[str]) -> Path:
    """Turn what a user calls a model into a path that exists: a folder or a file.

    A name of the zoo goes before a file or folder of the same name, which is ``./name`` or a Path.

    Raises
    ------
    ModelError
        If a known model is not at hand, or there is neither a model nor a file of that name.
    """
    text = os.fspath(name_or_path)
    if text in NAMES and isinstance(name_or_path, str):
        folder = find(text)
        if folder is None:
            raise ModelError(missing_text(get(text)))
        return folder
    path = Path(os.path.expanduser(text))
    if text and _exists(path):
        return path
    if os.path.islink(path):
        raise ModelError(f"the model {text!r} is a link to {os.readlink(path)}, which does not exist")
    if len(path.parts) > 1 or path.suffix:
        raise ModelError(f"the model {text!r} does not exist (looked at {path.absolute()})")
    raise ModelError(
        f"no model and no file is called {text!r}{suggestion(text)}: known are {', '.join(NAMES)}; "
        "or give a folder or a .pb file"
    )


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        raise ModelError(f"no permission to look at the model {path}") from None
    except (OSError, ValueError):
        return False
    return True


def missing_text(model: KnownModel) -> str:
    """Say in one line how to get a known model."""
    if model.bundled:
        return f"the bundled model {model.name!r} is missing from this installation: reinstall cvmask"
    other = ", or use '-m shapes', which is bundled and works now" if find("shapes") else ""
    return (
        f"model {model.name!r} is not here yet: run 'cvmask models download {model.name}' "
        f"({size_text(model.archive_bytes)}){other}"
    )


def remove(name: str, *, forget: bool = False, say: Callable[[str], None] | None = None) -> list[Path]:
    """Remove a downloaded model and what is left of a download that was broken off.

    Parameters
    ----------
    forget
        Remove the record of the first download too: the next one is then taken as it comes.
    say
        Called with a line when there is someone to wait for.

    Returns
    -------
    The paths that are gone; none if there was nothing.

    Raises
    ------
    ModelError
        If it is unknown or bundled, or cannot be removed.
    """
    model = get(name)
    if model.bundled:
        raise ModelError(f"model {name!r} is bundled with the package and is not removed")
    at = places(model)
    wanted = [at.folder, at.part, *([at.record] if forget else [])]
    gone = [path for path in wanted if path.exists() or path.is_symlink()]
    if gone:
        waiting = f"another process is downloading model {name!r}: waiting for it"
        with locked(at.lock, lambda: say(waiting) if say else None), writing_to(cache_home()):
            for path in gone:
                _remove(path)
            Part(at.part).discard()
    return gone


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # Out of the way first, so that nobody finds a model of which half is gone.
    with suppress(FileNotFoundError):
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        os.replace(path, aside / path.name)
        shutil.rmtree(aside)
