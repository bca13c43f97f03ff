"""Take the bundled models, labels, colours and the page into a frozen app, and what is imported by name only."""

from __future__ import annotations

from collections.abc import Iterator

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

from cvmask.system import folders


def _bundled() -> Iterator[tuple[str, str]]:
    for name in folders.BUNDLED:
        place = folders.path(name)
        yield str(place), "cvmask/bundled/" + (name if place.is_dir() else name.rpartition("/")[0])


datas = [*_bundled(), *collect_data_files("cvmask", subdir="serve/page")]
# Ray starts Python programs, which a frozen app does not have: batches stay out.
hiddenimports = collect_submodules("cvmask", filter=lambda name: not name.startswith("cvmask.batches"))
