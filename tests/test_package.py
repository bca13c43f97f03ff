"""What `import cvmask` gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import cvmask
from cvmask import scenes
from cvmask.formats.saver import Saver, SaveSettings
from cvmask.runtime.model import MaskRCNN

ROOT = Path(__file__).resolve().parent.parent
FRAME = np.zeros((48, 64, 3), np.uint8)
NOTHING = cvmask.Detections.empty((48, 64))


class Finder:
    """Finds nothing."""

    def detect(self, frame: object) -> cvmask.Detections:
        return NOTHING


FINDER = Finder()


def test_everything_that_is_documented_is_there_after_the_import() -> None:
    program = (
        "import cvmask\n"
        "assert set(cvmask.__all__) <= set(dir(cvmask)), dir(cvmask)\n"
        "assert {'effects', 'formats', 'models', 'scenes'} <= set(dir(cvmask))\n"
        "cvmask.effects.blur_background, cvmask.formats.coco, cvmask.formats.yolo, cvmask.models.download\n"
        "cvmask.drawing.draw, cvmask.scenes.make_scene, cvmask.results.detections, cvmask.errors.CvmaskError\n"
        "for name in set(dir(cvmask)) - {'batch'}: getattr(cvmask, name)\n"
        "for name in dir(cvmask.formats): getattr(cvmask.formats, name)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=ROOT, check=True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        cvmask.formats.nothing  # noqa: B018


def test_what_programs_print_is_one_telling_line(quick_model: MaskRCNN, tmp_path: Path) -> None:
    frame = scenes.make_scene(5, (320, 240), objects=4).image
    cv2.imwrite(str(tmp_path / "scene.png"), frame)
    found = quick_model.detect(frame)
    assert found.labels is not None
    assert found.labels.tolist() == [quick_model.labels[i] for i in found.class_id]
    assert repr(found).startswith(f"<Detections: {len(found)} in 320x240: ")
    assert repr(quick_model).startswith("<MaskRCNN ")
    assert "8 classes" in repr(quick_model)
    run = cvmask.annotate(tmp_path / "scene.png", quick_model)
    assert "not begun" in repr(run)
    (result,) = run
    assert repr(run).endswith("ended, 1 frames>")
    assert repr(result).startswith(f"<Result: frame 0 of {tmp_path / 'scene.png'}, <Detections: ")
    with cvmask.open_source(tmp_path / "scene.png") as source:
        assert repr(source).startswith("<Images ")


def test_a_result_is_saved_and_shown_in_a_notebook(quick_model: MaskRCNN, tmp_path: Path) -> None:
    frame = scenes.make_scene(5, (320, 240), objects=4).image
    cv2.imwrite(str(tmp_path / "scene.png"), frame)
    (result,) = cvmask.annotate(tmp_path / "scene.png", quick_model)
    result.save(tmp_path / "out.png")
    assert (cv2.imread(str(tmp_path / "out.png")) == result.image).all()
    shown = cv2.imdecode(np.frombuffer(result._repr_png_() or b"", np.uint8), cv2.IMREAD_COLOR)
    assert (shown == result.image).all()


def test_names_are_drawn_without_being_given(quick_model: MaskRCNN) -> None:
    frame = scenes.make_scene(5, (320, 240), objects=4).image
    found = quick_model.detect(frame)
    assert (cvmask.draw(frame, found) == cvmask.draw(frame, found, labels=quick_model.labels)).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: cvmask.open_sink(None), "an output must be a path, got NoneType"),
        (lambda: cvmask.open_sink(0), "an output must be a path, got int"),
        (lambda: cvmask.open_source(None), "got NoneType"),
        (lambda: cvmask.open_source(["a.png"]), "got list: one at a time"),
        (lambda: cvmask.annotate("a.png", FINDER, outputs=None), "outputs must be paths or sinks, got None"),
        (lambda: cvmask.annotate("a.png", FINDER, workers="2"), "workers must be a whole number from 1 up, got '2'"),
        (lambda: cvmask.annotate(FRAME, FINDER), "got an array: give it to model.detect"),
        (lambda: cvmask.annotate("a.png", "shapes"), "model must be what cvmask.load gives"),
        (lambda: cvmask.Detections.from_dict(None), "from_dict needs a dict, .* got NoneType"),
        (lambda: cvmask.Detections.from_dict("{}"), "from_dict needs a dict, .* got str"),
        (lambda: cvmask.load(None), "model must be a name, a folder or a .pb file, got NoneType"),
        (lambda: cvmask.draw("a.png", NOTHING), "first, or give its path to cvmask.annotate"),
        (lambda: cvmask.draw(FRAME, [NOTHING]), "detections must be cvmask.Detections, .* got list"),
        (lambda: cvmask.effects.spotlight(FRAME, None), "detections must be cvmask.Detections, .* got NoneType"),
        (lambda: cvmask.effects.replace_background(FRAME, NOTHING, "sea.jpg"), "got 'sea.jpg': read a file with cv2"),
        (lambda: NOTHING.refined(None), "cv2.imread gives None where it finds no picture"),
        (lambda: Saver("coco,csv", SaveSettings(Path("out"), ())), r"use \['coco', 'csv'\]"),
    ],
)
def test_a_wrong_type_is_answered_by_what_came(call: Callable[[], object], said: str, work: Path) -> None:
    cv2.imwrite("a.png", FRAME)
    with pytest.raises(TypeError, match=said):
        call()
    assert [path.name for path in work.iterdir()] == ["a.png"]
