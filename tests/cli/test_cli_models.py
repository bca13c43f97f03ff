from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading

import pytest
from zoo_server import ARCHIVE, GRAPH, RESNET50, clean_home, hold, put_model, serving, wait_until

from cvmask import models as models_module
from cvmask.cli import models
from cvmask.errors import CvmaskError, ModelError
from cvmask.models import audit
from cvmask.models.zoo import GRAPH_FILE, places
from cvmask.system.files import size_text

NAME = "coco-resnet50"
MAIN = """
import argparse, sys
from cvmask.cli import models
parser = argparse.ArgumentParser()
models.add_parser(parser.add_subparsers())
args = parser.parse_args(["models", *sys.argv[1:]])
sys.exit(models.run(args))
"""


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def server(home, monkeypatch):
    with serving({RESNET50.archive: ARCHIVE}) as server:
        monkeypatch.setenv("CVMASK_MIRROR", server.url)
        yield server


def cvmask_models(*words):
    parser = argparse.ArgumentParser(prog="cvmask")
    models.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["models", *words])
    return models.run(args)


def test_list_names_every_model_and_its_state(home, capsys):
    put_model(home, "coco")
    at = places(RESNET50)
    at.part.parent.mkdir(parents=True)
    at.part.write_bytes(bytes(2_000_000))
    assert cvmask_models("list") == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert tuple(rows) == models_module.NAMES
    assert "installed (93 kB)" in rows["coco"]
    assert "to download (450 MB, 2.0 MB begun)" in rows[NAME]
    assert "to download (662 MB)" in rows["coco-resnet101"]
    assert "36" in rows["coco-inception-resnet"]


def test_download_prints_the_folder_alone_on_stdout(server, home, capsys):
    assert cvmask_models("download", NAME) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{home}/models/{NAME}\n"
    whole = size_text(len(ARCHIVE))
    assert f"{NAME}: {whole} of {whole}, 100 %\n" in captured.err
    assert "is recorded in" in captured.err


def test_download_again_says_that_it_is_here(server, home, capsys):
    put_model(home, NAME)
    assert cvmask_models("download", NAME) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{home}/models/{NAME}\n"
    assert captured.err == f"model {NAME!r} is already installed\n"
    assert server.requests == []


def test_download_of_an_unknown_model_is_an_error_of_one_line(home):
    with pytest.raises(CvmaskError, match="did you mean 'coco-resnet50'"):
        cvmask_models("download", "coco-resnet-50")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_download_interrupted_exits_130_and_goes_on_later(server, home):
    go_on = threading.Event()
    server.behaviours = [hold(go_on)]
    process = subprocess.Popen(
        [sys.executable, "-c", MAIN, "download", NAME],
        stderr=subprocess.PIPE,
        env=dict(os.environ),
        text=True,
    )
    part = places(RESNET50).part
    wait_until(lambda: part.exists() and part.stat().st_size > 50_000)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    go_on.set()
    assert process.returncode == 130
    assert error.splitlines()[-1] == "interrupted: run the same command again to resume the download"
    assert "Traceback" not in error
    kept = part.stat().st_size
    assert kept > 50_000
    assert cvmask_models("download", NAME) == 0
    assert server.ranges() == [None, f"bytes={kept}-"]
    assert (models_module.find(NAME) / GRAPH_FILE).read_bytes() == GRAPH


def test_verify_exits_by_what_it_finds(home, capsys, monkeypatch):
    monkeypatch.setattr(audit, "self_check", lambda path: [])
    folder = put_model(home, NAME)
    assert cvmask_models("verify", NAME) == 0
    assert capsys.readouterr().out.splitlines()[0] == str(folder)
    monkeypatch.setattr(audit, "self_check", lambda path: ["split differs from whole"])
    assert cvmask_models("verify", NAME) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "  WRONG split differs from whole"


def test_path_prints_the_folder(home, capsys):
    folder = put_model(home, NAME)
    assert cvmask_models("path", NAME) == 0
    assert capsys.readouterr().out == f"{folder}\n"


def test_path_of_a_missing_model_says_how_to_get_it(home):
    with pytest.raises(ModelError, match="cvmask models download coco"):
        cvmask_models("path", "coco")


def test_path_takes_names_only(home):
    with pytest.raises(ModelError, match="there is no model '/tmp'"):
        cvmask_models("path", "/tmp")


def test_remove_says_what_is_gone(home, capsys):
    folder = put_model(home, NAME)
    assert cvmask_models("remove", NAME) == 0
    assert capsys.readouterr().out == f"removed {folder}\n"
    assert not folder.exists()


def test_remove_forgets_the_record_when_asked(server, home, capsys):
    cvmask_models("download", NAME)
    assert cvmask_models("remove", NAME, "--forget") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"removed {home}/models/{NAME}.json"


def test_remove_of_nothing_is_an_error(home):
    with pytest.raises(ModelError, match="model 'coco' is not installed"):
        cvmask_models("remove", "coco")


@pytest.mark.parametrize(
    "words", [[], ["fetch"], ["download"], ["list", "coco"], ["download", "a", "--forget"]]
)
def test_wrong_usage_exits_2(words, capsys):
    with pytest.raises(SystemExit) as caught:
        cvmask_models(*words)
    assert caught.value.code == 2
    assert "usage: cvmask" in capsys.readouterr().err


def test_help_names_the_variables(capsys):
    with pytest.raises(SystemExit):
        cvmask_models("--help")
    text = capsys.readouterr().out
    for name in ("CVMASK_HOME", "CVMASK_OFFLINE", "CVMASK_MIRROR", "HTTPS_PROXY"):
        assert name in text
