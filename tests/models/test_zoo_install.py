from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager

import pytest
from zoo_server import (
    ARCHIVE,
    GRAPH,
    OTHER_GRAPH,
    RESNET50,
    STEM,
    answer_with,
    break_off,
    claim_length,
    clean_home,
    hold,
    ignore_range,
    member,
    model_archive,
    put_model,
    serving,
    status,
    tar_gz,
    wait_until,
)

from cvmask import models
from cvmask.errors import CvmaskError, ModelError
from cvmask.graph.model_files import CACHED
from cvmask.models import install, zoo
from cvmask.models.zoo import CONFIG_FILE, GRAPH_FILE, places
from cvmask.system import folders

NAME = "coco-resnet50"
COCO = "mask_rcnn_inception_v2_coco_2018_01_28"
DOWNLOAD = "import sys; from cvmask import models as zoo; print(zoo.download(sys.argv[1], None, print, force=True))"


@pytest.fixture
def home(monkeypatch, tmp_path):
    return clean_home(monkeypatch, tmp_path / "home")


@pytest.fixture
def server(home, monkeypatch):
    with serving({RESNET50.archive: ARCHIVE, f"{COCO}.tar.gz": model_archive(COCO)}) as server:
        monkeypatch.setenv("CVMASK_MIRROR", server.url)
        yield server


@pytest.fixture
def lines():
    return []


def left_behind(home):
    """Everything in the cache but the locks, and the text graphs of models that were checked."""
    found = [path for path in home.rglob("*") if path.suffix != ".lock" and path.is_file()]
    return sorted(str(path.relative_to(home)) for path in found if not path.name.endswith(CACHED))


def as_known(monkeypatch, name, **fields):
    """Let a known model have other hashes."""
    model = zoo.KnownModel(**{**vars(zoo.get(name)), **fields})
    monkeypatch.setitem(zoo._BY_NAME, name, model)


def run_download(name=NAME, **variables):
    return subprocess.Popen(
        [sys.executable, "-u", "-c", DOWNLOAD, name],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_download_brings_the_graph_and_the_config_and_nothing_else(server, home, lines):
    folder = models.download(NAME, None, lines.append)
    assert folder == home / "models" / NAME == models.find(NAME) == models.resolve(NAME)
    assert (folder / GRAPH_FILE).read_bytes() == GRAPH
    assert left_behind(home) == [
        f"models/{NAME}.json",
        f"models/{NAME}/{GRAPH_FILE}",
        f"models/{NAME}/{CONFIG_FILE}",
    ]


def test_download_tells_how_far_it_is(server):
    seen = []
    models.download(NAME, lambda *now: seen.append(now))
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))


def test_download_records_an_unknown_hash_and_says_so(server, home, lines):
    models.download(NAME, None, lines.append)
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    assert lines == [
        f"checking that model {NAME!r} converts and runs",
        f"no hash of this archive was known: sha256 {sha256} is recorded in {home}/models/{NAME}.json "
        "and checked from now on",
    ]
    record = json.loads((home / "models" / f"{NAME}.json").read_text())
    assert record["archive"]["sha256"] == sha256
    assert record["source"] == f"{server.url}/{STEM}.tar.gz"
    assert record["files"][GRAPH_FILE]["sha256"] == hashlib.sha256(GRAPH).hexdigest()


def test_download_says_when_an_unknown_hash_is_the_listed_one(server, lines, monkeypatch):
    as_known(monkeypatch, NAME, listed_sha256=hashlib.sha256(ARCHIVE).hexdigest())
    models.download(NAME, None, lines.append)
    assert "the sha256 that the Open Model Zoo lists" in lines[-1]


def test_a_listed_hash_that_does_not_fit_is_refused_unless_forced(server, home, lines, monkeypatch):
    as_known(monkeypatch, NAME, listed_sha256="0" * 64)
    with pytest.raises(ModelError, match=f"the Open Model Zoo lists 0{{64}}.*download {NAME} --force"):
        models.download(NAME)
    assert left_behind(home) == []
    assert models.download(NAME, None, lines.append, force=True) == models.find(NAME)
    assert lines[-1].startswith("forced: the Open Model Zoo lists another hash; sha256")


def test_a_binding_hash_is_not_forced(server, home):
    with pytest.raises(ModelError, match="needed f8a920756744d0f7ee812b3ec2474979f74ab40c"):
        models.download("coco", force=True)
    assert left_behind(home) == []


def test_the_listed_file_overrides_a_record(server, home, monkeypatch):
    models.download(NAME)  # another file than the listed one was first
    models.remove(NAME)
    genuine = server.files[RESNET50.archive] = model_archive(STEM, graph=OTHER_GRAPH)
    sha256 = hashlib.sha256(genuine).hexdigest()
    as_known(monkeypatch, NAME, listed_sha256=sha256)
    assert (models.download(NAME) / GRAPH_FILE).read_bytes() == OTHER_GRAPH
    assert json.loads((home / "models" / f"{NAME}.json").read_text())["archive"]["sha256"] == sha256


@pytest.mark.parametrize("force", [False, True])
def test_the_hash_of_junk_is_not_recorded(server, home, force):
    server.files[RESNET50.archive] = model_archive(STEM, graph=b"hello world")
    with pytest.raises(ModelError, match=f"holds no model '{NAME}' that works here: {GRAPH_FILE}: neither a frozen"):
        models.download(NAME, force=force)
    assert left_behind(home) == []
    server.files[RESNET50.archive] = ARCHIVE
    assert models.download(NAME) == models.find(NAME)


def test_download_checks_the_recorded_hash_from_then_on(server, lines):
    models.download(NAME)
    models.remove(NAME)
    models.download(NAME, None, lines.append)
    assert "the archive has the sha256 recorded on " in lines[-1]
    models.remove(NAME)
    server.files[RESNET50.archive] = model_archive(STEM, graph=OTHER_GRAPH)
    with pytest.raises(ModelError) as caught:
        models.download(NAME)
    assert "the first download (" in str(caught.value)
    assert f"cvmask models download {NAME} --force" in str(caught.value)
    assert models.find(NAME) is None
    models.remove(NAME, forget=True)
    assert models.download(NAME) == models.find(NAME)


@pytest.mark.parametrize("record", ["{", "[" * 200_000, '{"files": ' + "9" * 5000, "0" * (2 << 20)])
def test_download_refuses_a_record_that_cannot_be_read(server, home, record):
    (home / "models").mkdir(parents=True)
    (home / "models" / f"{NAME}.json").write_text(record)
    with pytest.raises(ModelError, match=r"the record .* cannot be read") as caught:
        models.download(NAME)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_download_refuses_another_archive_than_the_known_one(server, home):
    with pytest.raises(ModelError) as caught:
        models.download("coco")
    assert "needed f8a920756744d0f7ee812b3ec2474979f74ab40c" in str(caught.value)
    assert hashlib.sha1(server.files[f"{COCO}.tar.gz"]).hexdigest() in str(caught.value)
    assert left_behind(home) == []


def test_download_takes_the_known_archive(server, lines, monkeypatch):
    sha1 = hashlib.sha1(server.files[f"{COCO}.tar.gz"]).hexdigest()
    as_known(monkeypatch, "coco", archive_sha1=sha1, graph_sha1=hashlib.sha1(GRAPH).hexdigest())
    assert models.download("coco", None, lines.append) == models.find("coco")
    assert lines == [f"the archive has the known sha1 {sha1}"]


def test_download_checks_the_graph_inside_too(server, home, monkeypatch):
    as_known(monkeypatch, "coco", archive_sha1=hashlib.sha1(server.files[f"{COCO}.tar.gz"]).hexdigest())
    with pytest.raises(ModelError, match="needed c8adff66a1e23e607f57cf1a7cfabad0faa371f9"):
        models.download("coco")
    assert left_behind(home) == []


def test_download_says_that_a_page_came(server):
    server.behaviours = [answer_with(b"<html>please log in</html>")]
    with pytest.raises(ModelError, match=r"an HTML page .from a proxy or a login page"):
        models.download("coco")


def test_download_refuses_the_archive_of_another_model(server, home):
    server.files[RESNET50.archive] = model_archive(COCO)
    with pytest.raises(ModelError, match="belongs to another model"):
        models.download(NAME)
    assert left_behind(home) == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (tar_gz(member(f"{STEM}/{GRAPH_FILE}", bytes(5 * 10**6))), "exceeds"),
        (tar_gz(member("../../evil", b"x"), member(f"{STEM}/{GRAPH_FILE}", b"x")), "would lie outside"),
        (b"\x1f\x8b not really", "is damaged"),
    ],
)
def test_download_leaves_nothing_of_a_hostile_archive(server, home, monkeypatch, bad, message):
    monkeypatch.setattr(install, "_UNPACKED_ROOM_BYTES", 10**6)
    server.files[RESNET50.archive] = bad
    with pytest.raises(ModelError, match=message):
        models.download(NAME)
    assert left_behind(home) == []
    assert not (home.parent / "evil").exists()


def test_download_with_a_length_that_is_too_small_is_damaged(server, home):
    server.behaviours = [claim_length(len(ARCHIVE) - 100)]
    with pytest.raises(ModelError, match="is damaged"):
        models.download(NAME)
    assert left_behind(home) == []


def test_download_resumes_and_gives_the_same_bytes(server):
    server.behaviours = [break_off(100_000), status(503), break_off(50_000)]
    folder = models.download(NAME)
    assert (folder / GRAPH_FILE).read_bytes() == GRAPH
    assert server.ranges() == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_download_starts_over_when_what_was_kept_is_damaged(server, home, lines, monkeypatch):
    as_known(monkeypatch, NAME, archive_sha1=hashlib.sha1(ARCHIVE).hexdigest())
    server.behaviours = [break_off(100_000), status(404)]
    with pytest.raises(ModelError):
        models.download(NAME)
    part = places(RESNET50).part
    part.write_bytes(bytes(100_000))
    assert (models.download(NAME, None, lines.append) / GRAPH_FILE).read_bytes() == GRAPH
    assert "the kept part of the last attempt does not fit: starting over" in lines
    assert server.ranges()[-2:] == ["bytes=100000-", None]


def test_download_from_a_server_that_ignores_ranges(server):
    server.behaviours = [break_off(100_000), ignore_range]
    assert (models.download(NAME) / GRAPH_FILE).read_bytes() == GRAPH


def test_download_of_a_missing_file_is_one_line(server):
    del server.files[RESNET50.archive]
    with pytest.raises(ModelError) as caught:
        models.download(NAME)
    assert str(caught.value).startswith(f"{server.url}/{STEM}.tar.gz cannot be downloaded: the server answered 404")
    assert len(server.requests) == 1


def test_download_of_a_model_at_hand_asks_nobody(server, home, monkeypatch):
    folder = put_model(home, NAME)
    monkeypatch.setenv("CVMASK_OFFLINE", "1")
    assert models.download(NAME) == folder
    assert server.requests == []


def test_download_respects_offline(server, home, monkeypatch):
    monkeypatch.setenv("CVMASK_OFFLINE", "1")
    with pytest.raises(
        ModelError, match=f"CVMASK_OFFLINE forbids .* put {GRAPH_FILE} into {home}/models/{NAME}"
    ):
        models.download(NAME)
    assert server.requests == []
    assert not home.exists()


def test_download_of_the_bundled_model_is_where_it_lies(home, monkeypatch, tmp_path):
    (tmp_path / GRAPH_FILE).write_bytes(b"graph")
    monkeypatch.setattr(folders, "path", lambda name: tmp_path)
    assert models.download("shapes") == tmp_path


def test_download_of_a_bundled_model_that_is_missing_is_no_download(home, monkeypatch):
    def missing(name):
        raise CvmaskError(name)

    monkeypatch.setattr(folders, "path", missing)
    with pytest.raises(ModelError, match="reinstall"):
        models.download("shapes")


def test_download_refuses_an_unknown_name(home):
    with pytest.raises(ModelError, match="did you mean 'coco'"):
        models.download("cocos")


def test_download_does_not_overwrite_a_folder_of_yours(server, home):
    (home / "models" / NAME).mkdir(parents=True)
    (home / "models" / NAME / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=f"exists, but has no .*cvmask models remove {NAME}"):
        models.download(NAME)
    assert server.requests == []
    assert left_behind(home) == [f"models/{NAME}/notes.txt"]


def test_download_takes_an_empty_folder_and_clears_what_a_killed_process_left(server, home):
    (home / "models" / NAME).mkdir(parents=True)
    (home / "models" / f".{NAME}.dead").mkdir()
    (home / "models" / f".{NAME}.dead" / GRAPH_FILE).write_bytes(b"half")
    (home / "models" / ".coco.alive").mkdir()
    models.download(NAME)
    assert sorted(path.name for path in (home / "models").iterdir()) == [".coco.alive", NAME, f"{NAME}.json"]


def test_download_into_a_folder_that_cannot_be_is_one_line(server, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CVMASK_HOME", str(tmp_path / "file"))
    with pytest.raises(
        ModelError, match=r"cannot write to .*: set CVMASK_HOME to a folder that can be written"
    ):
        models.download(NAME)
    assert server.requests == []


@contextmanager
def somebody_else():
    """Root may write anywhere, so root becomes somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_download_into_a_read_only_home_is_one_line(server, monkeypatch):
    # Not in tmp_path, which somebody else may not enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        monkeypatch.setenv("CVMASK_HOME", folder)
        with somebody_else(), pytest.raises(ModelError) as caught:
            models.download(NAME)
        os.chmod(folder, 0o755)
    assert str(caught.value) == (
        f"no permission to write to {folder}/downloads: set CVMASK_HOME to a folder that is yours"
    )
    assert server.requests == []


def test_download_by_two_processes_at_once_is_one_download(server, home):
    go_on = threading.Event()
    server.behaviours = [hold(go_on)]
    first = run_download()
    wait_until(lambda: server.requests)
    second = run_download()
    assert second.stdout.readline() == f"another process is downloading model '{NAME}': waiting for it\n"
    go_on.set()
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0], outputs
    assert [error for _, error in outputs] == ["", ""]
    assert [output.splitlines()[-1] for output, _ in outputs] == [str(home / "models" / NAME)] * 2
    assert len(server.requests) == 1
    assert (models.find(NAME) / GRAPH_FILE).read_bytes() == GRAPH


def test_download_after_a_killed_process_goes_on(server, home):
    go_on = threading.Event()
    server.behaviours = [hold(go_on)]
    part = places(RESNET50).part
    with run_download() as process:
        wait_until(lambda: part.exists() and part.stat().st_size > 50_000)
        process.kill()
    go_on.set()
    assert models.find(NAME) is None
    kept = part.stat().st_size
    assert (models.download(NAME) / GRAPH_FILE).read_bytes() == GRAPH
    assert server.ranges() == [None, f"bytes={kept}-"]
    assert left_behind(home) == [
        f"models/{NAME}.json",
        f"models/{NAME}/{GRAPH_FILE}",
        f"models/{NAME}/{CONFIG_FILE}",
    ]
