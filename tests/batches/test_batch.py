"""A batch on a real Ray: every source, every frame once, whatever is killed."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import cvmask
from cvmask import scenes
from cvmask.cli.main import main
from cvmask.errors import CvmaskError, SinkError
from cvmask.runtime.model import MaskRCNN

ROOT = Path(__file__).resolve().parents[2]
NO_RAY = "needs Ray Data: pip install 'ray[data]'"
# Ray warns of its own code.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
Key = tuple[str, str, int]


def test_missing_extra_is_one_line(work: Path) -> None:
    code = "import sys; sys.modules['ray'] = None; from cvmask.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "batch", "in", "-o", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("cvmask: error: batch needs Ray Data and PyArrow (")
    assert done.stderr.endswith("pip install 'ray[client,data]' pyarrow\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["workers", "threads", "stride", "part_frames", "max_failures"])
def test_impossible_number_is_refused(work: Path, model: MaskRCNN, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a whole number from"):
        cvmask.batch("in", "out", model, **{name: -1})  # type: ignore[arg-type]


def test_the_name_of_a_model_is_no_model(work: Path) -> None:
    with pytest.raises(TypeError, match=r"model must be what cvmask.load gives, got 'shapes'"):
        cvmask.batch("in", "out", "shapes")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return cvmask.load("shapes", size="128x96")


@pytest.fixture(scope="module")
def ray_here() -> Iterator[str]:
    """Run one small Ray for all tests of this file, and give its address."""
    ray = pytest.importorskip("ray", reason=NO_RAY)
    pytest.importorskip("ray.data", reason=NO_RAY)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    context = ray.init(
        "local", num_cpus=2, include_dashboard=False, object_store_memory=256 << 20, log_to_driver=False,
        logging_level="FATAL", _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        yield context.address_info["gcs_address"]
    finally:
        ray.shutdown()


def write_scenes(folder: Path, count: int, first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        cv2.imwrite(str(folder / f"{seed:03d}.png"), next(scenes.moving_scene(seed, 1, (96, 64), objects=2)).image)


def write_clip(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (96, 64))
    for moving in scenes.moving_scene(5, frames, (96, 64), objects=2):
        writer.write(moving.image)
    writer.release()


def rows_of(out: str | Path) -> list[dict[str, Any]]:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(f"{out}/parts")
    return table.to_pylist()  # type: ignore[no-any-return]


def by_frame(rows: list[dict[str, Any]]) -> dict[Key, list[tuple[Any, ...]]]:
    """Objects of each frame; fails if a frame comes twice."""
    frames: dict[Key, list[tuple[Any, ...]]] = {}
    for row in rows:
        key = (row["source"], row["member"] or "", row["frame"])
        if row["object"] in (None, 0):
            assert key not in frames, f"{key} twice"
            frames[key] = []
        if row["object"] is not None:
            frames[key].append((row["class_id"], row["score"], row["x1"], row["rle"]))
    return frames


def expected_of(model: MaskRCNN, image: Any) -> list[tuple[Any, ...]]:
    found = model.detect(image)
    rle = [one["counts"] for one in found.rle(model.settings.mask_threshold)]
    return list(zip(found.class_id.tolist(), found.confidence.tolist(), found.xyxy[:, 0].tolist(), rle))


def assert_same(frames: dict[Key, list[tuple[Any, ...]]], expected: dict[Key, list[tuple[Any, ...]]]) -> None:
    assert frames.keys() == expected.keys()
    for key, objects in expected.items():
        assert [one[0::3] for one in frames[key]] == [one[0::3] for one in objects], key
        assert np.allclose([one[1:3] for one in frames[key]], [one[1:3] for one in objects], atol=1e-4), key


def test_every_kind_of_source(ray_here: str, work: Path, model: MaskRCNN) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write_scenes(work / "in" / "a", 5)
    write_scenes(work / "loose", 2, first=50)
    cv2.imwrite("in/a/nothing.png", np.full((64, 96, 3), 128, np.uint8))
    Path("in/bad.jpg").write_bytes(b"no picture")
    Path("in/empty.png").write_bytes(b"")
    write_clip(work / "in" / "clip.mp4", 30)
    Path("in/text.mp4").write_bytes(b"no video")
    expected = {
        (str(path), "", 0): expected_of(model, cv2.imread(str(path)))
        for path in [*(work / "in" / "a").iterdir(), *(work / "loose").iterdir()]
    }
    with cvmask.open_source(work / "in" / "clip.mp4") as clip:
        for frame in clip:
            expected[str(work / "in" / "clip.mp4"), "", frame.index] = expected_of(model, frame.image)
    pictures = sorted((work / "in" / "a").glob("0*.png"))
    with tarfile.open("in/s.tar", "w") as tar:
        for index, path in enumerate(pictures):
            tar.add(path, f"x\udce9/{path.name}")
            expected[str(work / "in" / "s.tar"), f"x\\xe9/{path.name}", index] = expected[str(path), "", 0]
    parquet.write_table(pa.table({"jpg": [path.read_bytes() for path in pictures]}), "in/t.parquet")
    for index, path in enumerate(pictures):
        expected[str(work / "in" / "t.parquet"), "", index] = expected[str(path), "", 0]
    Path("list.txt").write_text("loose/050.png\nloose/051.png\nloose/gone.png\n")

    seen: list[int] = []
    summary = cvmask.batch(["in", "list.txt"], "out", model, part_frames=4, soft_masks=True,
                           on_progress=lambda progress: seen.append(progress.done))  # fmt: skip

    rows = rows_of("out")
    errors = {Path(row["source"]).name: row["error"] for row in rows if row["error"]}
    assert errors == {
        "bad.jpg": "not a known kind of picture, it starts with b'no picture'",
        "empty.png": "is empty (0 bytes)",
        "gone.png": "cannot be read: no such file",
        "text.mp4": "no video that OpenCV can open (damaged, cut short, without pictures?)",
    }
    frames = by_frame([row for row in rows if not row["error"]])
    assert frames[str(work / "in" / "a" / "nothing.png"), "", 0] == []
    assert_same(frames, expected)
    assert summary["frames"] == len(expected)
    assert summary["objects"] == sum(map(len, expected.values())) == sum(row["object"] is not None for row in rows)
    assert summary["failed"] == 4
    assert sum(summary["reasons"].values()) == 4
    assert json.loads(Path("out/_summary.json").read_text()) == summary
    assert Path("out/_SUCCESS").is_file()
    assert seen == sorted(seen)
    assert seen[-1] == summary["units"]
    segments = [row for row in rows if row["source"].endswith("clip.mp4") and row["object"] in (None, 0)]
    assert [row["frame"] for row in segments] == list(range(30))
    assert [row["time_s"] for row in segments] == pytest.approx([index / 25 for index in range(30)])
    assert np.shape(next(row["soft_mask"] for row in rows if row["object"] == 0)) == (15, 15)
    assert_other_programs_agree(rows)

    # The same command finds nothing to do, another one is refused.
    again = cvmask.batch(["in", "list.txt"], "out", model, part_frames=4, soft_masks=True, workers=1)
    assert again == summary
    with pytest.raises(SinkError, match=r"another command \(part_frames was 4, is 5\)"):
        cvmask.batch(["in", "list.txt"], "out", model, part_frames=5, soft_masks=True)


def assert_other_programs_agree(rows: list[dict[str, Any]]) -> None:
    duckdb, pandas = pytest.importorskip("duckdb"), pytest.importorskip("pandas")
    query = "SELECT count(*), count(object), sum(x2 - x1), count(error) FROM 'out/parts/*.parquet'"
    total, objects, widths, errors = duckdb.sql(query).fetchall()[0]
    table = pandas.read_parquet("out/parts")
    assert (total, objects, errors) == (len(table), table["object"].notna().sum(), table["error"].notna().sum())
    assert widths == pytest.approx((table["x2"] - table["x1"]).sum(), rel=1e-5)
    assert sorted(table["rle"].dropna()) == sorted(row["rle"] for row in rows if row["rle"])


def test_too_many_failures_end_it(ray_here: str, work: Path, model: MaskRCNN) -> None:
    write_scenes(work / "in", 2)
    for number in range(6):
        Path(f"in/bad{number}.jpg").write_bytes(b"%d" % number)
    with pytest.raises(CvmaskError, match="failed, more than the 1 allowed; most often: not a known kind of picture"):
        cvmask.batch("in", "out", model, part_frames=2, workers=1, max_failures=1)
    assert not Path("out/_SUCCESS").exists()
    assert cvmask.batch("in", "out", model, part_frames=2, workers=1)["failed"] == 6
    assert Path("out/_SUCCESS").exists()


def test_a_batch_in_which_everything_failed_is_no_success(ray_here: str, work: Path, model: MaskRCNN) -> None:
    (work / "in").mkdir()
    (work / "in" / "bad.jpg").write_bytes(b"text")
    for _ in range(2):
        summary = cvmask.batch("in", "out", model, workers=1)
        assert (summary["frames"], summary["failed"]) == (0, 1)
        assert not Path("out/_SUCCESS").exists()


def test_failures_are_tried_again_and_new_files_taken_in(ray_here: str, work: Path, model: MaskRCNN) -> None:
    def write_tar(name: str, *pictures: bytes) -> None:
        with tarfile.open(name, "w") as tar:
            for number, data in enumerate(pictures):
                member = tarfile.TarInfo(f"{number}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))

    write_scenes(work / "in", 3)
    pictures = [path.read_bytes() for path in sorted((work / "in").glob("*.png"))]
    Path("in/bad.png").write_bytes(b"junk")
    Path("in/clip.mp4").write_bytes(b"junk")
    write_tar("in/half.tar", *pictures)
    whole = Path("in/half.tar").read_bytes()
    Path("in/half.tar").write_bytes(whole[: len(whole) // 2])
    write_tar("in/junk.tar", pictures[0], b"junk", pictures[1])
    before = cvmask.batch("in", "in/out", model, part_frames=2)
    assert (before["failed"], before["new_files"]) == (4, 0)
    rows = {(row["source"], row["frame"], row["object"]): row for row in rows_of("in/out") if not row["error"]}

    # Everything is mended, but one picture of a shard; what was good is not looked at again.
    expected = by_frame(list(rows.values()))
    Path("in/bad.png").write_bytes(pictures[2])
    Path("in/half.tar").write_bytes(whole)
    write_clip(work / "in" / "clip.mp4", 5)
    Path("in/000.png").write_bytes(b"junk")
    cv2.imwrite("in/new.png", cv2.imread("in/001.png"))
    again = cvmask.batch("in", "in/out", model, part_frames=2)
    assert again == {**before, "new_files": 1}
    seen: list[int] = []
    after = cvmask.batch("in", "in/out", model, part_frames=2, retry_failed=True, add=True,
                         on_progress=lambda progress: seen.append(progress.failed))  # fmt: skip
    assert (after["failed"], after["new_files"]) == (1, 0) == (seen[-1], 0)
    with cvmask.open_source("in/clip.mp4") as clip:
        for frame in clip:
            expected[str(work / "in" / "clip.mp4"), "", frame.index] = expected_of(model, frame.image)
    shard = [("half.tar", f"{number}.png", number, number) for number in range(3)]
    for name, member, index, seed in [("bad.png", "", 0, 2), ("new.png", "", 0, 1), *shard]:
        image = cv2.imdecode(np.frombuffer(pictures[seed], np.uint8), cv2.IMREAD_COLOR)
        expected[str(work / "in" / name), member, index] = expected_of(model, image)
    assert_same(by_frame([row for row in rows_of("in/out") if not row["error"]]), expected)
    assert after["frames"] == len(expected)
    assert sum(row["object"] is not None for row in rows_of("in/out")) == after["objects"]
    assert [row["error"][:11] for row in rows_of("in/out") if row["error"]] == ["not a known"]
    assert Path("in/out/_SUCCESS").exists()


def test_output_that_cannot_be_written_is_one_line(ray_here: str, work: Path, model: MaskRCNN) -> None:
    write_scenes(work / "in", 1)
    Path("out").mkdir()
    with pytest.raises(SinkError, match=r"parts.* cannot be written"):
        cvmask.batch("in", "out", model, on_progress=lambda progress: Path("out/parts").touch())


def processes(name: str) -> list[int]:
    """Workers of that name of the Ray that this process has started, and of no other on the machine."""
    found, parents = [], dict[int, int]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if title.startswith(f"ray::{name}"):
            found.append(int(folder.name))

    def is_own(number: int) -> bool:
        return number == os.getpid() or (number in parents and is_own(parents[number]))

    return [number for number in found if is_own(number)]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers through /proc")
def test_killed_worker_costs_nothing(ray_here: str, work: Path, model: MaskRCNN) -> None:
    write_scenes(work / "in", 16)
    killed: list[int] = []

    def kill(progress: Any) -> None:
        if progress.frames and not killed:
            killed.extend(processes("MapWorker(MapBatches(Worker"))
            os.kill(killed[0], signal.SIGKILL)

    summary = cvmask.batch("in", "out", model, part_frames=2, on_progress=kill)
    assert killed
    assert summary["frames"] == 16
    expected = {(str(path), "", 0): expected_of(model, cv2.imread(str(path))) for path in (work / "in").iterdir()}
    assert_same(by_frame(rows_of("out")), expected)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds workers through /proc")
def test_no_picture_is_blamed_for_kills_from_outside(ray_here: str, work: Path, model: MaskRCNN) -> None:
    (work / "in").mkdir()
    cv2.imwrite("in/slow.png", np.zeros((6000, 8000, 3), np.uint8))
    before = set(processes("MapWorker(MapBatches(Worker"))
    killed: list[int] = []
    over = threading.Event()

    def kill_whoever_tries() -> None:
        tried = 0
        while len(killed) < 4 and not over.wait(0.002):
            # The first one at once; it watches nothing. The others as soon as they have noted what they try.
            noted = max([path.stat().st_mtime_ns for path in Path("out/_deaths").glob("0*.json")], default=0)
            if killed and noted == tried:
                continue
            for worker in set(processes("MapWorker(MapBatches(Worker")) - before - set(killed):
                os.kill(worker, signal.SIGKILL)
                killed.append(worker)
                tried = noted

    killer = threading.Thread(target=kill_whoever_tries)
    killer.start()
    try:
        summary = cvmask.batch("in", "out", model, workers=1)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 4
    assert (summary["frames"], summary["failed"]) == (1, 0)
    assert not Path("out/_deaths").exists()


def test_stopped_driver_goes_on(
    ray_here: str, work: Path, model: MaskRCNN, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(work / "in", 24)
    write_clip(work / "in" / "clip.mp4", 36)
    argv = ["batch", "in", "-o", "out", "-m", "shapes", "--size", "128x96", "--part-frames", "2", "--workers", "2"]
    before: dict[Path, int] = {}
    for number, code in ((signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)):
        driver = subprocess.Popen(
            [sys.executable, "-m", "cvmask", *argv, "--address", ray_here], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        wait_for_parts(driver, len(before) + 1)
        driver.send_signal(number)
        told = driver.communicate(timeout=60)[1]
        assert driver.returncode == code, told
        assert told.endswith("interrupted\n" if code == 130 else "")
        assert before.items() <= {path: path.stat().st_mtime_ns for path in Path("out/parts").glob("part*")}.items()
        before = {path: path.stat().st_mtime_ns for path in Path("out/parts").glob("part*")}
    assert main(argv) == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in Path("out/parts").glob("part*")}.items()
    expected = {(str(path), "", 0): expected_of(model, cv2.imread(str(path))) for path in (work / "in").glob("*.png")}
    with cvmask.open_source("in/clip.mp4") as clip:
        for frame in clip:
            expected[str(work / "in" / "clip.mp4"), "", frame.index] = expected_of(model, frame.image)
    assert_same(by_frame(rows_of("out")), expected)
    assert not list(Path("out").rglob("*.part*"))
    output = capsys.readouterr()
    assert output.out.startswith("60 frames, ")
    assert all(line.startswith("cvmask: ") for line in output.err.splitlines())


IMPATIENT = """
import sys
from cvmask.batches import patience
from cvmask.cli.main import main
patience._SAY_S, patience._GIVE_UP_S, patience._LEAST_KILLS = 1, 2, 1
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Ray watches memory on Linux")
def test_want_of_memory_is_told_and_ends(work: Path) -> None:
    """To a Ray that may use a hundredth of the memory every machine is full."""
    pytest.importorskip("ray.data", reason=NO_RAY)
    write_scenes(work / "in", 2)
    few = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100", "PYTHONPATH": str(ROOT)}
    argv = ["batch", "in", "-o", "out", "-m", "shapes", "--size", "128x96", "--workers", "2"]
    command = [sys.executable, "-W", "ignore", "-c", IMPATIENT, *argv]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **few}, timeout=180)
    assert done.returncode == 1, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("cvmask: error: no part was finished for "), done.stderr
    assert "for lack of memory" in error
    assert error.endswith("give fewer --workers, now 2")


@pytest.fixture
def client_address(ray_here: str, work: Path) -> Iterator[str]:
    """Run a server for Ray's client beside the Ray of these tests, and give its address."""
    pytest.importorskip("grpc", reason="needs grpcio: pip install 'ray[client]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    where = ["--host=127.0.0.1", f"--port={port}", "--mode=specific-server", f"--address={ray_here}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "ray.util.client.server", *where], stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        yield f"ray://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


TWICE = """
import sys
import ray
from cvmask.cli.main import main
ray.init(sys.argv[1], log_to_driver=False, logging_level="FATAL")
print(*[main([*sys.argv[2:], "-o", out]) for out in ("out", "full")], file=sys.stderr)
"""


def test_client_of_ray_does_the_same(ray_here: str, client_address: str, work: Path, model: MaskRCNN) -> None:
    write_scenes(work / "in", 5)
    Path("in/bad.jpg").write_bytes(b"no picture")
    Path("full").mkdir()
    Path("full/other.txt").touch()
    wait_for_port(client_address)
    argv = ["batch", "in", "-m", "shapes", "--size", "128x96", "--part-frames", "2"]
    command = [sys.executable, "-W", "ignore", "-c", TWICE, client_address, *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout.startswith("5 frames, ")
    *told, failed, codes = done.stderr.splitlines()
    assert all(line.startswith("cvmask: ") for line in told)
    assert failed == f"cvmask: error: {work / 'full'} is not empty and holds no batch: give a new folder with -o"
    assert codes == "3 1"
    expected = {(str(path), "", 0): expected_of(model, cv2.imread(str(path))) for path in (work / "in").glob("*.png")}
    assert_same(by_frame([row for row in rows_of("out") if not row["error"]]), expected)


def wait_for_port(address: str, most_s: float = 60) -> None:
    end = time.monotonic() + most_s
    host, port = address.replace("ray://", "").split(":")
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            assert time.monotonic() < end, f"nothing listens at {address}"
            time.sleep(0.1)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_address_without_a_ray_is_one_line(scheme: str) -> None:
    pytest.importorskip("ray", reason=NO_RAY)
    from cvmask.batches.cluster import check_reachable

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(CvmaskError, match=rf"^no Ray at {address}: .*refused.*: `ray start --head`"):
            check_reachable(address)


def wait_for_parts(driver: subprocess.Popen[str], count: int, most_s: float = 120) -> None:
    end = time.monotonic() + most_s
    while len(list(Path("out/parts").glob("part*"))) < count and driver.poll() is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


GCS = """
import time
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="archive")
server.start()
print(server._api._httpd.server_address[1], flush=True)
time.sleep(600)
"""


@contextmanager
def s3_bucket() -> Iterator[str]:
    server = pytest.importorskip("moto.server", reason="needs moto[server]").ThreadedMotoServer("127.0.0.1", port=0)
    fs = pytest.importorskip("pyarrow.fs")
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = f"scheme=http&endpoint_override={host}:{port}&region=us-east-1&allow_bucket_creation=true"
        fs.FileSystem.from_uri(f"s3://archive?{options}")[0].create_dir("archive")
        yield f"s3://key:secret@archive?{options}"
    finally:
        server.stop()


@contextmanager
def gcs_bucket() -> Iterator[str]:
    pytest.importorskip("gcp_storage_emulator", reason="needs gcp-storage-emulator")
    # In a process of its own: PyArrow keeps the interpreter to itself while it reads.
    with subprocess.Popen([sys.executable, "-c", GCS], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"gs://anonymous@archive?scheme=http&endpoint_override=127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


@pytest.fixture(params=[s3_bucket, gcs_bucket], ids=["s3", "gs"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a server on loopback with an empty bucket; give its address with the options to reach it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with request.param() as address:
        yield address


def test_object_store_in_and_out(ray_here: str, work: Path, model: MaskRCNN, bucket: str) -> None:
    from cvmask.batches.storage import list_files, read_bytes, storage_path, write_bytes

    key, options = bucket.split("?")
    shown = f"{key.split('://')[0]}://archive"
    write_scenes(work / "in", 3)
    write_clip(work / "clip.mp4", 24)
    expected = {}
    for path in (work / "in").iterdir():
        write_bytes(storage_path(f"{key}/in/{path.name}?{options}"), path.read_bytes())
        expected[f"{shown}/in/{path.name}", "", 0] = expected_of(model, cv2.imread(str(path)))
    write_bytes(storage_path(f"{key}/in/clip.mp4?{options}"), Path("clip.mp4").read_bytes())
    with cvmask.open_source("clip.mp4") as clip:
        for frame in clip:
            expected[f"{shown}/in/clip.mp4", "", frame.index] = expected_of(model, frame.image)
    out = f"{key}/out?{options}"
    summary = cvmask.batch(f"{key}/in?{options}", out, model, part_frames=4)
    assert summary["frames"] == 27
    names = {path for path, _ in list_files(storage_path(out))}
    assert {"archive/out/_SUCCESS", "archive/out/_summary.json"} < names
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table("archive/out/parts", filesystem=storage_path(out).filesystem)
    assert_same(by_frame(table.to_pylist()), expected)
    assert b"secret" not in read_bytes(storage_path(out) / "_run.json")


def test_annotated_pictures_and_videos(ray_here: str, work: Path, model: MaskRCNN) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install av")
    write_scenes(work / "in", 2)
    write_clip(work / "in" / "clip.mp4", 40)
    cvmask.batch("in", "out", model, annotated=True, part_frames=4)
    for name in ("000.png", "001.png"):
        image = cv2.imread(f"in/{name}")
        drawn_here = cvmask.draw(image, model.detect(image), labels=model.labels)
        assert np.abs(cv2.imread(f"out/annotated/{name}").astype(int) - drawn_here).mean() < 0.5
    times, pictures = [], []
    with av.open("out/annotated/clip.mp4") as video:
        for frame in video.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
            pictures.append(frame.to_ndarray(format="bgr24"))
    assert times == pytest.approx([index / 25 for index in range(40)], abs=1e-4)
    drawn = []
    with cvmask.open_source("in/clip.mp4") as clip:
        for frame in clip:
            drawn.append(cvmask.draw(frame.image, model.detect(frame.image), labels=model.labels))
    far = [[np.abs(picture.astype(int) - one).mean() for one in drawn] for picture in pictures]
    assert [int(np.argmin(row)) for row in far] == list(range(40))
    assert sorted(path.name for path in Path("out/annotated").iterdir()) == ["000.png", "001.png", "clip.mp4"]


def test_annotated_pictures_of_odd_names_are_all_there(ray_here: str, work: Path, model: MaskRCNN) -> None:
    small = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    for name in ("d1/a.jpg", "d2/a.jpg", "d2/a~2.jpg", "d2/A.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(small)
    cv2.imwrite("d1/wide.webp", np.zeros((20, 300, 3), np.uint8))
    assert cv2.imwrite("d1/wide.png", np.zeros((20, 66000, 3), np.uint8))
    os.rename("d1/wide.png", "d1/wide.jpg")
    with tarfile.open("d1/t.tar", "w") as tar:
        for name in ("dir.jpg/in.jpg", "dir.jpg", "s.jpg", "./s.jpg", "s.jpg", "../" * 9 + "é" * 140 + ".jpg"):
            member = tarfile.TarInfo(name)
            member.size = len(small)
            tar.addfile(member, io.BytesIO(small))
    mine = [Path("out/.movie.mp4.part1"), Path("out/.git/x/.a.party")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    begun = Path("out/annotated") / f".{'0a' * 16}.part.jpg"
    begun.parent.mkdir()
    begun.touch()
    summary = cvmask.batch(["d1", "d2"], "out", model, annotated=True)
    assert (summary["frames"], summary["failed"]) == (12, 0)
    assert [path.exists() for path in (*mine, begun)] == [True, True, False]
    found = sorted(path.relative_to("out/annotated").as_posix() for path in Path("out/annotated").rglob("*.*g*"))
    long = f"t.tar/00000005-{'é' * 98}.jpg"
    assert found == sorted(
        [*("a.jpg", "a~2.jpg", "a~2~2.jpg", "A.png", "wide.jpg.png"), long]
        + [f"t.tar/{name}.jpg" for name in ("00000000-in", "00000001-dir", "00000002-s", "00000003-s", "00000004-s")]
    )
