"""Every command line of README and docs is one that the command takes, and those that need nothing else are run."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest
from test_snippets import PAGES, ROOT

from cvmask import scenes
from cvmask.cli.main import build_parser, main
from cvmask.errors import _PACKAGES, install
from cvmask.streams.sinks import VideoFile
from cvmask.system import folders

_INSTALL = ROOT / "docs" / "install.md"
VERB = "(?:predict|edit|render|serve|batch|demo|models|doctor|benchmark|evaluate)"
# Behind four spaces or in a fence, and in the middle of a sentence, where a line may end within it.
_LINE = re.compile(rf"^ {{4}}(?:\$ |\S.* \| )?(?:\.venv/bin/)?(cvmask {VERB}\b.*)$", re.MULTILINE)
_SPAN = re.compile(rf"`(?:\.venv/bin/)?(cvmask {VERB}\s[^`]*)`")


def command_lines(page: Path) -> list[str]:
    """Give the command lines of a page without their comments."""
    text = page.read_text(encoding="utf-8")
    fences = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = _LINE.findall(text) + re.findall(rf"^(cvmask {VERB}\b.*)$", fences, re.MULTILINE)
    return [line.split(" #")[0].strip() for line in lines] + [" ".join(span.split()) for span in _SPAN.findall(text)]


LINES = list(dict.fromkeys(line for page in PAGES for line in command_lines(page)))
# Parts of lines, as sentences name them, and what makes them whole.
PARTS = {
    "cvmask edit --effect remove-background": "cvmask edit photos/ --effect remove-background",
    "cvmask models inspect": "cvmask models inspect my_model",
    "cvmask models list | download | verify | path | remove | convert | inspect": "cvmask models list",
}
NOT_RUN = {
    r"-m \S+ 0\b|(?:predict|edit) 0|demo --camera|rtsp:": "needs a camera or a stream",
    r" - --": "needs FFmpeg before it: tests/streams reads standard input",
    r"^cvmask serve": "goes on for ever: tests/serve runs it",
    r"^cvmask batch": "starts Ray: tests/batches runs it",
    r"--classes person,car|people coco|models download": "needs a model of 70 MB or more",
    r"^cvmask (demo|doctor)$": "tests/cli runs it",
    r"models inspect FILE": "FILE stands for any",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with something small under each of the names that the lines read."""
    work = tmp_path_factory.mktemp("lines")
    scene = scenes.make_scene(5, (160, 128), objects=4).image
    portrait = cv2.resize(cv2.imread(str(folders.path("docs/pictures/astronaut.jpg"))), (160, 160))
    (work / "photos").mkdir()
    (work / "cvmask_demo").mkdir()
    for name in ("photos/one.jpg", "holiday.jpg", "portrait.jpg"):
        cv2.imwrite(str(work / name), portrait)
    for name in ("picture.jpg", "large.png", "cvmask_demo/scene.png"):
        cv2.imwrite(str(work / name), scene)
    for name, rate in (("in.mp4", 25), ("clip.mp4", 25), ("film.mp4", 1)):  # the film is read from 1:20 to 1:30
        with VideoFile(work / name, frame_rate=rate) as video:
            for moving in scenes.moving_scene(5, 91 if rate == 1 else 3, (64, 64), objects=2):
                video.write(moving.image)
    shutil.copytree(folders.path("models/shapes"), work / "my_model", ignore=shutil.ignore_patterns("*.pbtxt"))
    return work


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_taken(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in re.findall(r"--on-event '(?:\./)?(\S+)", line):
        shutil.copy(shutil.which("true") or pytest.skip("needs the program true"), tmp_path / program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in re.findall(r"\w+", line.split("models ")[1]) if "|" in line else [""]:
        if name in ("download", "verify", "path", "remove", "convert", "inspect"):
            assert build_parser().parse_args(["models", name, "shapes"]).verb == "models"
    words = shlex.split(PARTS.get(line, line))
    assert build_parser().parse_args(words[1:]).verb == words[1]


@pytest.mark.parametrize("line", [line for line in LINES if not any(re.search(why, line) for why in NOT_RUN)])
def test_a_line_runs_as_pasted(
    line: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("CVMASK_HOME", str(place / "home"))
    words = shlex.split(PARTS.get(line, line))
    if words[1] in ("predict", "edit") and "-m" not in words:
        words += ["-m", "shapes"]  # without it, the line runs a model of 70 MB
    if words[1] == "render" and not Path("out.jsonl").exists():
        assert main(["predict", "-m", "shapes", "in.mp4", "-o", "out.jsonl"]) == 0
    assert main(words[1:]) == 0, capsys.readouterr().err
    if "-o" in words:
        assert Path(words[words.index("-o") + 1]).exists()


def test_what_is_not_whole_or_not_run_is_there() -> None:
    assert set(PARTS) <= set(LINES)
    assert all(any(re.search(pattern, line) for line in LINES) for pattern in NOT_RUN)


def test_every_script_that_is_named_is_there_and_has_the_flags() -> None:
    table = set(re.findall(r"^   (\w+) ", (ROOT / "scripts" / "run").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert all((ROOT / name).exists() for name in re.findall(r"\bscripts/[\w/]+(?:\.py)?", text)), page
        for name, rest in re.findall(r"\bscripts/run (\w+)([^`#\n]*)", text):
            assert name in table, (page, name)
            sources = [path for path in (ROOT / "scripts" / "dev").rglob("*.py") if name.split("_")[-1] in str(path)]
            code = "".join(path.read_text(encoding="utf-8") for path in sources)
            assert all(f'"{flag}"' in code for flag in re.findall(r"--[\w-]+", rest)), (page, name, rest)


def test_every_extra_that_is_named_is_there() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    page = _INSTALL.read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| `(\w+)` \|.*\| `(pip install .*)` \|$", page, re.MULTILINE))
    assert table == {extra: install(extra) for extra in _PACKAGES}
    others = {"test", "readers", "serve-test", "docs", "check"}
    assert table.keys() | others == set(setup["options.extras_require"])
    for page in PAGES:
        for names in re.findall(r"'?\.\[([\w,-]+)\]", page.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= set(setup["options.extras_require"]), page
