"""What a type checker says to programs that use cvmask, and to the snippets of README and docs.

`scripts/check` runs it: the checkers are no dependency of the suite.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable

import pytest
from test_snippets import SNIPPETS

ROOT = Path(__file__).resolve().parent.parent
Checker = Callable[[Path], str]
PROGRAM = '''
import cv2
import cv2.typing
import numpy as np

import cvmask
from cvmask import effects
from cvmask.formats.images import cut_crops, cut_out
from cvmask.formats.record import Record
from cvmask.formats.saver import Saver

model = cvmask.load("shapes", classes=["circle"], score_threshold=0.4)
frame = cv2.imread("scene.png")
found: cvmask.Detections = model.detect(frame)
model.detect(cv2.resize(np.zeros((8, 8, 3), np.uint8), (4, 4)))
model.detect_timed(frame)
found = found[found.confidence > 0.8]
cv2.imwrite("drawn.png", cvmask.draw(frame, found, labels=model.labels))
cv2.imwrite("blurred.png", effects.blur_background(frame, found))
effects.replace_background(frame, found, cv2.imread("beach.jpg"))
effects.make_effect("spotlight")(frame, found)
cvmask.effects.EFFECTS["spotlight"](frame, found)
for crop in [*cut_crops(frame, found), *cut_out(frame, found.refined(frame))]:
    cv2.imshow("one", crop)
for one in found:
    left, top, right, bottom = one.xyxy
    name: str = one.label
    score: float = one.confidence


def paint(image: cv2.typing.MatLike, found: cvmask.Detections) -> cv2.typing.MatLike:
    return cv2.flip(image, 1)


def save(saver: Saver, record: Record) -> None:
    saver.write(record, frame)


for result in cvmask.annotate("clip.mp4", model, outputs=["out.mp4"], paint=paint):
    cv2.imshow("all", result.image)
with cvmask.open_source(0) as source, cvmask.open_sink("out.mp4", source=source) as sink:
    for each in source:
        sink.write(cv2.GaussianBlur(each.image, (5, 5), 0), each)
'''
WRONG = """
import cvmask

cvmask.load("shapes", score_treshold=0.4)


def look(model: cvmask.MaskRCNN) -> cvmask.Detections:
    return model.detect("scene.png")
"""


def checked(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [*command], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def mypy(folder: Path, *options: str) -> str:
    """What `mypy --strict` says to the files of a folder."""
    pytest.importorskip("mypy")
    files = sorted(map(str, folder.glob("*.py")))
    python = (sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent")
    return checked(*python, "--no-error-summary", f"--cache-dir={ROOT / '.mypy_cache/programs'}", *options, *files)


def pyright(folder: Path) -> str:
    """What pyright says to the files of a folder."""
    found = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None or checked(found, "--version"):
        pytest.skip("needs pyright, which fetches its program once")
    return checked(found, "--pythonpath", sys.executable, str(folder))


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_typed_program_passes(checker: Checker, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    assert checker(tmp_path) == ""


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_wrong_program_does_not_pass(checker: Checker, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(WRONG, encoding="utf-8")
    said = checker(tmp_path)
    assert "score_treshold" in said
    assert "detect" in said


def test_the_snippets_of_readme_and_docs_pass(tmp_path: Path) -> None:
    for name, text in SNIPPETS.items():
        (tmp_path / f"{name.translate(str.maketrans('/.:-', '____'))}.py").write_text(text, encoding="utf-8")
    # The readers' own functions may have no types, and libraries that are not installed have none.
    untyped = ("untyped-defs", "incomplete-defs", "untyped-calls", "untyped-decorators", "subclassing-any")
    assert mypy(tmp_path, "--ignore-missing-imports", *(f"--allow-{name}" for name in untyped)) == ""
