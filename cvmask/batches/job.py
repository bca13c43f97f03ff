"""One output folder belongs to one command: what the results depend on is written down and compared."""

from __future__ import annotations

import json
from typing import Any

from cvmask.batches.storage import Place, file_size, list_files, read_bytes, write_bytes
from cvmask.errors import SinkError

RUN, UNITS, SUMMARY, SUCCESS = "_run.json", "_units.parquet", "_summary.json", "_SUCCESS"


def is_begun(output: Place, command: dict[str, Any]) -> bool:
    """Tell whether this command has begun to write into a folder before.

    Raises
    ------
    SinkError
        If another command has, or the folder holds something else.
    """
    if file_size(output / RUN) is None:
        strange = [path for path, _ in list_files(output) if path.rsplit("/", 1)[-1] != UNITS]
        if strange:
            raise SinkError(f"{output.shown} is not empty and holds no batch: give a new folder with -o")
        return False
    before = json.loads(read_bytes(output / RUN))
    different = [name for name in {**before, **command} if before.get(name) != command.get(name)]
    if different:
        name = different[0]
        was, now = (_short(values.get(name)) for values in (before, command))
        raise SinkError(
            f"{output.shown} holds a batch of another command ({name} was {was}, is {now}): "
            "give a new folder with -o, or the same command to go on"
        )
    return True


def begin(output: Place, command: dict[str, Any]) -> None:
    """Write down which command a folder belongs to: from now on its work list is certain."""
    write_bytes(output / RUN, (json.dumps(command, indent=1) + "\n").encode())


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
