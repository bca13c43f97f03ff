"""Ctrl-C while the command is still importing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSOLE_SCRIPT = "import sys\nfrom cvmask.cli.main import main\nsys.exit(main())\n"

# A program that handles Ctrl-C itself. Its exit code is not looked at: Python ends by SIGINT even so where that
# came while text was executed, as dataclasses do while they are made.
CATCHING = "import sys\ntry:\n    import cvmask.cli.main\nexcept KeyboardInterrupt:\n    sys.exit('mine')\n"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals: needs a POSIX system")


def interrupted(words: list[str], after: str) -> tuple[int, list[str]]:
    """Interrupt Python as soon as it has imported that module; its exit code, and what it says then."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("import time:") and line.rpartition("|")[2].strip() == after:
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read().splitlines()
    return process.returncode, [line for line in rest if not line.startswith("import time:")]


@pytest.mark.parametrize("words", [["-m", "cvmask"], ["-mcvmask"], ["-Bm", "cvmask"]], ids=" ".join)
@pytest.mark.parametrize("after", ["numpy.version", "numpy", "cv2"])
def test_interrupt_during_the_imports_of_the_module_is_one_line(words: list[str], after: str) -> None:
    assert interrupted([*words, "doctor"], after) == (130, ["cvmask: interrupted"])


@pytest.mark.parametrize("after", ["numpy.version", "cv2"])
def test_interrupt_during_the_imports_of_the_console_script_is_one_line(tmp_path: Path, after: str) -> None:
    script = tmp_path / "cvmask"
    script.write_text(CONSOLE_SCRIPT)
    assert interrupted([str(script), "doctor"], after) == (130, ["cvmask: interrupted"])


def test_a_program_that_imports_the_package_keeps_its_keyboard_interrupt(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(CATCHING)
    # After "cv2" it is Python that imports: NumPy's own start makes other errors of an interrupt.
    assert interrupted([str(script)], "cv2")[1] == ["mine"]


def test_a_package_run_as_a_module_that_imports_the_package_keeps_its_keyboard_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text(CATCHING)
    monkeypatch.chdir(tmp_path)
    assert interrupted(["-m", "mine"], "cv2")[1] == ["mine"]


def test_an_interrupt_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    script = tmp_path / "ignoring.py"
    script.write_text(
        "import os, signal, sys\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    command = [str(script), "-X", "importtime", "-m", "cvmask", "--version"]
    assert interrupted(command, "numpy.version") == (0, [])
