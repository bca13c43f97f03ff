"""Every Python snippet of README and docs runs as pasted, beside what `cvmask demo` makes."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from cvmask import scenes
from cvmask.cli.main import main
from cvmask.streams.sinks import VideoFile
from cvmask.system import folders

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "models" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS = {
    f"{page.relative_to(ROOT)}:{number}": text
    for page in PAGES
    for number, text in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
}
ELSEWHERE = {
    "docs/serve.md:0": "needs a server: tests/serve/test_serve_http.py runs it",
    "docs/batch.md:0": "starts Ray: tests/batches/test_batch.py runs batches",
    "docs/batch.md:1": "needs a batch: tests/batches/test_batch.py reads one so",
    "docs/streams.md:2": "needs a clip: tests/streams/test_counting_example.py runs it",
    "docs/models.md:0": "needs a model of one's own: tests/models/test_loading.py loads such folders",
}
# What some need that the core does not; PySide6 has no extra, and takes 80 MB.
NEEDED = (
    *("cvat_sdk", "duckdb", "fastapi", "fiftyone", "flask", "httpx", "label_studio_ml", "label_studio_sdk", "pandas"),
    *("onnxruntime", "openvino", "PySide6", "supervision", "tkinter"),
)
_TRIES = {
    "Flask(__name__)": """
data = open("cvmask_demo/people/portrait.png", "rb").read()
answer = app.test_client().post("/annotate", data=data)
assert answer.status_code == 200 and answer.data[:2] == b"\\xff\\xd8", answer
assert app.test_client().post("/annotate", data=b"text").status_code == 400
""",
    "exported/": """
import cvmask
expected = cvmask.load("people").detect(picture[:, :, ::-1])
assert len(scores) == len(expected) == 1
assert abs(scores - expected.confidence).max() < 0.01
assert abs(boxes[:, [1, 0, 3, 2]] * 512 - expected.xyxy).max() < 2
assert masks.shape == expected.soft_masks.shape and abs(masks - expected.soft_masks).max() < 0.1
""",
    "FastAPI()": """
from fastapi.testclient import TestClient
data, client = open("cvmask_demo/people/portrait.png", "rb").read(), TestClient(app)
assert [one["label"] for one in client.post("/detect", content=data).json()] == ["person"]
assert client.post("/detect", content=b"text").status_code == 400
""",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what `cvmask demo` makes, as far as snippets read it."""
    work = tmp_path_factory.mktemp("snippets")
    demo = work / "cvmask_demo"
    (demo / "people").mkdir(parents=True)
    cv2.imwrite(str(demo / "scene.png"), scenes.make_scene(5, (320, 240), objects=4).image)
    cv2.imwrite(str(demo / "people" / "portrait.png"), cv2.imread(str(folders.path("docs/pictures/astronaut.jpg"))))
    assert main(["models", "export", "people", "-o", str(work / "exported"), "--score-threshold", "0.5"]) == 0
    with VideoFile(demo / "clip.mp4", frame_rate=25) as video:
        for scene in scenes.moving_scene(5, 4, (160, 128), objects=2):
            video.write(scene.image)
    return work


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """A screen of its own."""
    if shutil.which("Xvfb") is None:
        pytest.skip("needs Xvfb")
    read, write = os.pipe()
    with subprocess.Popen(
        ["Xvfb", "-displayfd", str(write), "-screen", "0", "800x600x24"], pass_fds=[write], stderr=subprocess.DEVNULL
    ) as server:
        os.close(write)
        with os.fdopen(read) as said:
            number = said.readline().strip()
        yield f":{number}"
        server.terminate()


def missing(text: str) -> list[str]:
    imports = set(re.findall(r"^(?:import|from) (\w+)", text, re.M))
    return [name for name in NEEDED if name in imports and importlib.util.find_spec(name) is None]


def run(text: str) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of other libraries
        exec(compile(text, "snippet", "exec"), names)
    return names


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name not in ELSEWHERE])
def test_a_snippet_runs_as_pasted(
    name: str, shown: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    text = SNIPPETS[name]
    if missing(text):
        pytest.skip(f"needs {', '.join(missing(text))}")
    if "FastAPI()" in text:
        pytest.importorskip("httpx")
    monkeypatch.chdir(shown)
    if "out/detections" in text:
        ending = "csv" if "csv" in name else "jsonl"
        assert main(f"predict -m shapes cvmask_demo/scene.png -o out --save {ending}".split()) == 0
    if "import tkinter" in text:
        import tkinter

        monkeypatch.setenv("DISPLAY", request.getfixturevalue("display"))
        monkeypatch.setattr(tkinter.Tk, "mainloop", tkinter.Tk.update)
        names = run(text)
        assert names["window"].winfo_width() >= 512
        names["window"].destroy()
        return
    if "PySide6" in text:
        monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
        text = text.replace("sys.exit(application.exec())", "application.processEvents()")
    names = run(text + "".join(tried for known, tried in _TRIES.items() if known in text))
    assert "PySide6" not in text or names["label"].width() >= 512


def test_what_is_not_run_here_is_there() -> None:
    assert ELSEWHERE.keys() <= SNIPPETS.keys()
