from __future__ import annotations

import asyncio
import base64
import gc
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from serve_helpers import PATIENCE_S, Hand, Served, Viewer, jpeg, picture, served, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cvmask import scenes
from cvmask.errors import SourceError
from cvmask.results.detections import Detections
from cvmask.runtime.model import MaskRCNN
from cvmask.serve.metrics import resident_bytes
from cvmask.serve.session import Recorder
from cvmask.streams.sources import Frame


@contextmanager
def showing(model: MaskRCNN, **limits: Any) -> Iterator[tuple[Served, Hand]]:
    """Serve a source that gives what the test hands it."""
    hand = Hand()
    with served(model, lambda: hand, **limits) as server:
        yield server, hand


@pytest.fixture
def stage(quick_model: MaskRCNN) -> Iterator[tuple[Served, Hand]]:
    with showing(quick_model) as both:
        yield both


def at(index: int) -> Any:
    return lambda status: status.get("index", -1) >= index


def test_twenty_viewers_cost_one_inference_and_one_encoding_a_frame(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(server.connect("/v1/live"))) for _ in range(20)]
        until(lambda: server.service.live.view.viewers == 20)
        for index in range(5):
            hand.give(picture(index))
            seen = [viewer.wait(at(index)) for viewer in viewers]
            assert all(np.array_equal(image, seen[0][1]) for _, image in seen)
    assert server.count("inferences_total") == 5
    assert server.count("encodings_total") == 5
    assert server.count("frames_total") == 5


def test_nothing_is_found_for_nobody_and_who_comes_gets_the_newest(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    feed = server.service.live.feed
    for seed in range(4):
        hand.give(picture(seed))
        until(lambda seed=seed: feed.dropped == seed)
    assert server.client.get("/readyz").status_code == 200
    assert server.count("inferences_total") == server.count("frames_total") == 0
    with Viewer(server.connect("/v1/live")) as viewer:
        _, first = viewer.wait(at(0))
    assert server.count("inferences_total") == server.count("encodings_total") == 1
    until(lambda: server.service.live.view.viewers == 0)
    with Viewer(server.connect("/v1/live")) as viewer:
        status, image = viewer.next()
        assert status["index"] == 0, "nothing newer has come: the picture stays"
        assert np.array_equal(image, first)
    until(lambda: server.service.live.view.viewers == 0)
    for seed in (7, 8):
        hand.give(picture(seed))
    until(lambda: feed.dropped == 4)
    assert server.count("inferences_total") == 1
    with Viewer(server.connect("/v1/live")) as viewer:
        status, image = viewer.next()
        assert "index" not in status, "the old one is not passed off as new"
        assert image is None
        _, image = viewer.wait(at(1))
    assert not np.array_equal(image, first)
    assert server.count("inferences_total") == server.count("frames_total") == 2


def test_a_recording_goes_on_when_nobody_looks(stage: tuple[Served, Hand], tmp_path: Path) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        hand.give(picture(0))
        viewer.wait(at(0))
        viewer.order(do="record", on=True)
        viewer.wait(lambda status: status["recording"]["state"] == "on")
    until(lambda: server.service.live.view.viewers == 0)
    for index in range(1, 5):
        hand.give(picture(index))
        until(lambda index=index: server.count("frames_total") == index + 1)
    assert server.count("encodings_total") == 1
    server.service.live.record(False)
    hand.give(picture(5))
    (tmp_path / "recording.mp4").write_bytes(server.service.live.recorder.path.read_bytes())
    assert count_frames(tmp_path / "recording.mp4") == (4, (160, 128))
    hand.give(picture(6))
    until(lambda: server.service.live.feed.dropped == 1)
    assert server.count("inferences_total") == 5


def test_each_picture_has_its_own_counts_although_the_next_is_drawn_meanwhile(
    stage: tuple[Served, Hand], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, hand = stage
    live = server.service.live
    totals: dict[int, int] = {}

    def recorded(image: Any, frame: Frame, found: Any) -> None:
        if frame.index == 0:
            until(lambda: len(live._painted) == 2)

    def shown(image: Any, status: dict[str, Any], show: Any = live.view.show) -> None:
        totals[status["index"]] = status["total"]
        show(image, status)

    monkeypatch.setattr(live.recorder, "write", recorded)
    monkeypatch.setattr(live.view, "show", shown)
    with Viewer(server.connect("/v1/live")) as viewer:
        hand.give(picture(1, objects=6))
        until(lambda: server.count("inferences_total") == 1)
        hand.give(np.full((128, 160, 3), 90, np.uint8))
        viewer.wait(at(1))
    assert totals[0] > 0
    assert totals[1] == 0


def moving(hand: Hand, stop: threading.Event) -> None:
    """A camera that pans over a picture."""
    wide = scenes.make_scene(5, (320, 128), objects=5).image
    left = 0
    while not stop.wait(1 / 30):
        left = (left + 1) % 160
        hand.give(wide[:, left : left + 160].copy())


@pytest.fixture
def slow(quick_model: MaskRCNN, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Served, Hand, list[Detections]]]:
    """Serve a camera of 30 frames a second; the network takes 0.2 s, and every third time it misses everything."""
    found: list[Detections] = []
    fast = MaskRCNN.detect

    def detect(model: MaskRCNN, image: NDArray[np.uint8]) -> Detections:
        time.sleep(0.2)
        found.append(fast(model, image)[: 0 if len(found) % 3 == 2 else None])
        return found[-1]

    monkeypatch.setattr(MaskRCNN, "detect", detect)
    stop = threading.Event()
    with showing(quick_model) as (server, hand):
        thread = threading.Thread(target=moving, args=(hand, stop))
        thread.start()
        yield server, hand, found
        stop.set()
        thread.join()


def test_the_picture_keeps_the_rate_of_the_camera(slow: tuple[Served, Hand, list[Detections]]) -> None:
    server, _, found = slow
    with Viewer(server.connect("/v1/live")) as viewer:
        viewer.wait(lambda status: status.get("carried", 0) > 0)
        first, inferences = viewer.wait(at(5))[0]["index"], len(found)
        status, _ = viewer.wait(lambda status: status.get("index", 0) > first + 40)
        # 0.2 s are six frames.
        assert len(found) - inferences < 20
        assert server.count("frames_total") >= 2 * server.count("inferences_total")
        assert status["fps"] > 8
        # Who pauses sees what the network itself says.
        viewer.order(do="pause", on=True)
        status, _ = viewer.wait(lambda status: status["paused"] and status.get("carried") == 0)


def test_what_must_stay_hidden_is_seen_by_the_network_and_does_not_blink(
    slow: tuple[Served, Hand, list[Detections]]
) -> None:
    server, _, found = slow
    with Viewer(server.connect("/v1/live")) as viewer:
        viewer.order(do="change", controls={"effect": "pixelate-objects"})
        viewer.wait(lambda status: status["controls"]["effect"] == "pixelate-objects" and status.get("total"))
        seen = [viewer.wait(lambda status: "total" in status)[0] for _ in range(5)]
        assert {status["carried"] for status in seen} == {0}
        assert min(status["total"] for status in seen) > 0
        assert 0 in [len(one) for one in found]
        viewer.wait(lambda status: status.get("filled_in", 0) > 1)


def test_only_a_lower_threshold_runs_the_network_again(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        hand.give(picture())
        first, image = viewer.wait(at(0))
        before = image
        for controls in (
            {"opacity": 1.0},
            {"mask_threshold": 0.7},
            {"color_by": "instance"},
            {"classes": [0, 1]},
            {"effect": "spotlight"},
            {"classes": None, "effect": "none"},
            {"score_threshold": 0.99},
        ):
            viewer.order(do="change", controls=controls)
            wanted = {**first["controls"], **controls}
            status, image = _redrawn(viewer, server, wanted, before)
            first, before = status, image
        assert server.count("inferences_total") == 1
        total = first["total"]
        viewer.order(do="change", controls={"score_threshold": 0.05})
        status, _ = viewer.wait(lambda status: status["total"] > total)
        assert server.count("inferences_total") == 2
        viewer.order(do="change", controls={"score_threshold": 0.5})
        viewer.wait(lambda now: now["total"] < status["total"])
        assert server.count("inferences_total") == 2
        assert server.count("frames_total") == 1, "the same frame all the time"


def _redrawn(viewer: Viewer, server: Served, controls: dict[str, Any], before: Any) -> tuple[dict[str, Any], Any]:
    while True:
        status, image = viewer.wait(lambda status: status["controls"] == controls)
        if not np.array_equal(image, before):
            return status, image


def test_the_status_says_what_is_seen(stage: tuple[Served, Hand], quick_model: MaskRCNN) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        assert viewer.next()[1] is None, "no picture yet"
        hand.give(picture())
        status, image = viewer.wait(at(0))
    assert image.shape == (128, 160, 3)
    assert status["size"] == [160, 128]
    assert status["state"] == "live"
    assert sum(status["counts"].values()) == status["total"] > 0
    assert set(status["counts"]) <= set(quick_model.labels)
    assert status["inference_ms"] > 0
    assert status["age_ms"] >= 0


def test_a_picture_too_wide_for_a_jpeg_is_scaled_and_the_next_one_comes(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        hand.give(np.full((2, 70_000, 3), 90, np.uint8))
        status, image = viewer.wait(at(0))
        assert status["size"] == [70_000, 2]
        assert image.shape == (1, 65_500, 3)
        hand.give(picture())
        assert viewer.wait(at(1))[0]["state"] == "live"


def test_a_name_that_is_no_utf8_is_shown(quick_model: MaskRCNN) -> None:
    hand = Hand()
    hand.name = "caf\udce9.jpg"
    with served(quick_model, lambda: hand) as server, Viewer(server.connect("/v1/live")) as viewer:
        hand.give(picture())
        assert viewer.wait(at(0))[0]["source"] == "caf\udce9.jpg"


def test_pause_keeps_the_picture_and_sliders_still_act(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer, Viewer(server.connect("/v1/live")) as other:
        hand.give(picture(1))
        _, before = viewer.wait(at(0))
        viewer.order(do="pause", on=True)
        viewer.wait(lambda status: status["paused"])
        assert other.wait(lambda status: status["paused"]), "all viewers see it"
        hand.give(picture(2))
        hand.give(picture(3))
        viewer.order(do="change", controls={"opacity": 1.0})
        status, image = viewer.wait(lambda status: status["controls"]["opacity"] == 1)
        while np.array_equal(image, before):
            status, image = viewer.next()
        assert status["index"] == 0
        viewer.order(do="pause", on=False)
        status, _ = viewer.wait(at(1))
        assert not status["paused"]
    until(lambda: server.count("frames_total") == 2)
    assert server.service.live.feed.dropped == 1, "the newest comes first"


def test_a_recording_holds_each_frame_once(stage: tuple[Served, Hand], tmp_path: Path) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        hand.give(picture(0))
        viewer.wait(at(0))
        viewer.order(do="record", on=True)
        viewer.wait(lambda status: status["recording"]["state"] == "on")
        for index in range(1, 5):
            hand.give(picture(index))
            viewer.wait(at(index))
            viewer.order(do="change", controls={"opacity": index / 10})
            viewer.wait(lambda status, index=index: status["controls"]["opacity"] == index / 10)
        viewer.order(do="record", on=False)
        status, _ = viewer.wait(lambda status: status["recording"]["state"] == "ready")
    answer = server.client.get(f"/v1/recordings/{status['recording']['key']}")
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "recording.mp4").write_bytes(answer.content)
    assert count_frames(tmp_path / "recording.mp4") == (4, (160, 128))
    assert server.client.get("/v1/recordings/other").status_code == 404


def record_until_full(folder: Path) -> tuple[Recorder, int]:
    recorder, noise = Recorder(folder, 100), np.random.default_rng(1)
    recorder.start()
    for index in range(400):
        image = noise.integers(0, 255, (128, 160, 3), np.uint8)
        recorder.write(image, Frame(image, index, index / 25, "noise"))
        if recorder.state != "on":
            return recorder, index
    raise AssertionError("it never was full")


def test_a_recording_that_cannot_go_on_is_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    resource = pytest.importorskip("resource", reason="needs a system with limits of file sizes")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        recorder, index = record_until_full(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert recorder.state == "ready"
    assert recorder.message == "the recording cannot be written: File too large; the part written before is kept"
    frames, size_wh = count_frames(recorder.path)
    assert size_wh == (160, 128)
    assert index - 60 < frames <= index + 1, "but for the last seconds"


def test_on_a_disk_that_is_nearly_full_the_recording_ends_whole(tmp_path: Path) -> None:
    if sys.platform != "linux" or os.geteuid() or subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=17m", "tmpfs", str(tmp_path)], stderr=subprocess.DEVNULL
    ).returncode:  # fmt: skip
        pytest.skip("needs to mount a small disk")
    try:
        recorder, index = record_until_full(tmp_path)
        assert (recorder.state, recorder.message) == ("ready", "the disk is nearly full: the recording ends here")
        assert count_frames(recorder.path) == (index, (160, 128))
        assert [path.name for path in tmp_path.iterdir()] == [recorder.path.name]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def count_frames(path: Path) -> tuple[int, tuple[int, int]]:
    capture = cv2.VideoCapture(str(path))
    size = (int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count, size


def test_a_recording_without_a_frame_says_so(stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        viewer.order(do="record", on=True)
        viewer.wait(lambda status: status["recording"]["state"] == "on")
        viewer.order(do="record", on=False)
        status, _ = viewer.wait(lambda status: status["recording"]["state"] == "off" and status["recording"]["message"])
    assert "no frame" in status["recording"]["message"]


def test_a_viewer_that_does_not_answer_gets_no_more_and_slows_nobody(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live"), answers=False) as slow, Viewer(server.connect("/v1/live")) as quick:
        until(lambda: server.service.live.view.viewers == 2)
        for index in range(8):
            hand.give(picture(index))
            quick.wait(at(index))
        with pytest.raises(TimeoutError):
            slow.wait(at(7), PATIENCE_S / 20)
        assert 1 <= slow.messages <= 2
        slow.order(do="seen")
        assert slow.next()[0]["index"] == 7, "and then the newest"


def test_a_viewer_that_goes_without_a_word_is_forgotten(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    key = base64.b64encode(bytes(16)).decode()
    head = "GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as gone:
        gone.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        until(lambda: server.service.live.view.viewers == 1)
    with Viewer(server.connect("/v1/live")) as viewer:
        for index in range(3):
            hand.give(picture(index))
            viewer.wait(at(index))
        until(lambda: server.service.live.view.viewers == 1)


def test_a_conversation_outlives_the_time_for_the_head_of_a_request(quick_model: MaskRCNN) -> None:
    with showing(quick_model, head_s=0.1) as (server, hand), Viewer(server.connect("/v1/live")) as viewer:
        time.sleep(0.3)
        hand.give(picture())
        viewer.wait(at(0))


@pytest.mark.parametrize(
    "order",
    [
        {"do": "dance"},
        {"do": "change", "controls": {"opacity": 7}},
        {"do": "change", "controls": {"opacity": "much"}},
        {"do": "change", "controls": {"classes": ["unicorn"]}},
        {"do": "change", "controls": {"classes": 3}},
        {"do": "change", "controls": {"effect": "magic"}},
        {"do": "change", "controls": {"volume": 1}},
        {"do": "change", "controls": 5},
        {"do": "pause"},
    ],
)
def test_an_order_that_cannot_be_obeyed_is_answered(stage: tuple[Served, Hand], order: dict[str, Any]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        viewer.order(**order)
        assert viewer.wait(lambda status: "error" in status)[0]["error"]
        hand.give(picture())
        viewer.wait(at(0))


def test_noise_does_not_end_a_conversation(stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    with Viewer(server.connect("/v1/live")) as viewer:
        for noise in ("", "{", "[]", "null", "[" * 10_000, b"", b"\xff\xd8"):
            viewer.push(noise)
        hand.give(picture())
        viewer.wait(at(0))


class _Loop:
    """Watches the loop of a server: the CPU time of its longest turn, whatever else this machine does."""

    def __init__(self) -> None:
        self.longest_s, self.what = 0.0, ""

    @contextmanager
    def watched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        run = asyncio.Handle._run

        def timed(handle: asyncio.Handle) -> None:
            began_s = time.thread_time()
            run(handle)
            spent_s = time.thread_time() - began_s
            if spent_s > self.longest_s:
                self.longest_s, self.what = spent_s, repr(handle)

        gc.disable()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio.Handle, "_run", timed)
            yield
        gc.enable()


def test_no_order_and_no_request_keeps_the_loop_from_everybody_else(
    stage: tuple[Served, Hand], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, hand = stage
    hand.give(np.random.default_rng(1).integers(0, 256, (2160, 3840, 3), np.uint8))
    ids, word = list(range(2_000)), "x" * 12_000
    changes = [
        {"classes": ids}, {"classes": [str(one) for one in ids]}, {"classes": [word]}, {"classes": ["0"] * 3000},
        {"classes": [{}, [], None]}, {"classes": word}, {"effect": word}, {"opacity": ids}, {word: 1},
        {"classes": ["circl" * 30]}, {"opacity": 0.3}, {"effect": "blur-background"}, {"effect": "none"},
    ]  # fmt: skip
    loop = _Loop()
    noise = jpeg(np.random.default_rng(1).integers(0, 256, (1200, 1600, 3), np.uint8))
    with Viewer(server.connect("/v1/live")) as viewer:
        viewer.wait(at(0))
        with loop.watched(monkeypatch):
            for change in changes:
                viewer.order(do="change", controls=change)
            for text in ("[" * 16_000, "9" * 16_000, '"' + "\\u0041" * 2_600 + '"', "{" * 16_000):
                viewer.push(text)
            for width in (0, -1, True, 1.5, "9" * 9_000, 10**4000, [], 49, 50):
                viewer.order(do="fit", width=width)
            viewer.order(do="pause", on=True)
            viewer.wait(lambda status: status.get("paused"))
            for headers in ({"Accept": "a," * 4000}, {"Cookie": "a=b;" * 2000}, {"X": "y" * 15_000}):
                server.client.get("/v1/model", headers=headers)
                server.client.post("/v1/detect", content=noise, headers={**headers, "Content-Type": "image/jpeg"})
            for classes in ("0," * 900, "x" * 1900, ",".join(map(str, range(400)))):
                server.client.post(
                    f"/v1/detect?classes={classes}", content=noise, headers={"Content-Type": "image/jpeg"}
                )
            server.client.post("/v1/detect", files={"image": noise + b"\r\n--" * 1_000_000})
            for odd in (b"P5 " + b" " * 1_000_000, b"P5 1 1 " + b"#\n" * 500_000, b"GIF89a" + b"!" * 1_000_000):
                server.client.post("/v1/detect", content=odd, headers={"Content-Type": "image/x-any"})
            place = ("127.0.0.1", server.port)
            with socket.create_connection(place, timeout=PATIENCE_S) as client, suppress(OSError):
                client.sendall(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 50_000 + b"\r\n")
                client.recv(100)
    assert loop.longest_s < 0.010, loop.what


def test_messages_of_a_socket_are_small_and_counted(stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    before = resident_bytes()
    with ExitStack() as stack:
        sockets = [stack.enter_context(raw_socket(server, "/v1/live")) for _ in range(40)]
        for one in sockets:
            # A frame of 30 MB that is never whole.
            with suppress(OSError):
                one.sendall(b"\x82\xff" + struct.pack(">Q", 30_000_000) + b"mask" + bytes(5_000_000))
        for one in sockets:
            assert closing_code(one) == 1009
    assert resident_bytes() - before < 60_000_000
    with Viewer(server.connect("/v1/camera")) as viewer:
        viewer.push(" " * 20_000)
        with pytest.raises(ConnectionClosed) as closed:
            viewer.wait(lambda status: False)
        assert closed.value.rcvd.code == 1009
    with served(server.service.model.clone(), held_bytes=10_000_000) as small:
        # Half of it for one client, and a camera may have three pictures of 2 MB on their way.
        with pytest.raises(InvalidStatus), small.connect("/v1/camera"):
            pass
        assert small.client.get("/v1/model").status_code == 200


def raw_socket(server: Served, path: str) -> socket.socket:
    """Open a WebSocket by hand."""
    opened = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S)
    key = base64.b64encode(bytes(16)).decode()
    opened.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert opened.recv(12).endswith(b" 101")
    return opened


def closing_code(opened: socket.socket) -> int:
    """Read to the end; the code of the frame that closes."""
    got = b""
    with suppress(ConnectionResetError):
        while piece := opened.recv(1 << 16):
            got += piece
    (code,) = struct.unpack(">H", got[got.rindex(b"\x88") + 2 :][:2])
    return int(code)


def test_health_answers_however_many_keep_silent(quick_model: MaskRCNN) -> None:
    with served(quick_model, connections=20) as server, ExitStack() as stack:
        place = ("127.0.0.1", server.port)
        silent = [stack.enter_context(socket.create_connection(place, timeout=PATIENCE_S)) for _ in range(60)]
        silent[-1].sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert b" 200 " in silent[-1].recv(100)
        assert server.client.get("/healthz").status_code == 200
        assert server.client.get("/v1/model").status_code == 200
        begun = [stack.enter_context(socket.create_connection(place, timeout=PATIENCE_S)) for _ in range(30)]
        for one in begun:
            one.sendall(b"POST /v1/detect HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
                        b"Content-Length: 9\r\n\r\n")  # fmt: skip
        assert b"this client has 10 of the 20" in begun[-1].makefile("rb").read()
        assert server.client.get("/healthz").status_code == 200


def test_a_lost_source_is_told_and_comes_back(quick_model: MaskRCNN) -> None:
    hands = [Hand(), Hand()]
    opened: list[Hand] = []
    refuse = [False]

    def open_source() -> Hand:
        if refuse[0]:
            raise SourceError("hand: still away")
        opened.append(hands[len(opened)])
        return opened[-1]

    with served(quick_model, open_source) as server, Viewer(server.connect("/v1/live")) as viewer:
        hands[0].give(picture(0))
        _, before = viewer.wait(at(0))
        refuse[0] = True
        hands[0].break_off("cable pulled")
        status, image = viewer.wait(lambda status: status["state"] == "lost")
        assert "cable pulled" in status["message"]
        assert np.array_equal(image, before), "the last picture stays"
        status, _ = viewer.wait(lambda status: "still away" in status["message"])
        refuse[0] = False
        until(lambda: len(opened) == 2)
        hands[1].give(picture(1))
        status, _ = viewer.wait(at(1))
        assert (status["state"], status["message"]) == ("live", "")
        assert server.client.get("/readyz").status_code == 200


def test_a_camera_of_the_browser_gets_its_own_pictures_back(quick_model: MaskRCNN) -> None:
    with served(quick_model, cameras=1) as server:
        with Viewer(server.connect("/v1/camera")) as viewer:
            with server.connect("/v1/camera") as second, pytest.raises(ConnectionClosed) as closed:
                second.recv()
            assert closed.value.rcvd.code == 1013
            viewer.push(jpeg(picture(1)))
            status, image = viewer.wait(at(0))
            assert image.shape == (128, 160, 3)
            assert status["total"] > 0
            viewer.push(b"no picture")
            viewer.push(jpeg(picture(1))[:500])
            viewer.order(do="change", controls={"effect": "spotlight"})
            viewer.wait(lambda status: status["controls"]["effect"] == "spotlight")
            viewer.push(jpeg(picture(2)))
            viewer.wait(at(1))
        until(lambda: not server.service._cameras)
        with Viewer(server.connect("/v1/camera")) as viewer:
            viewer.push(jpeg(picture(3)))
            assert viewer.wait(at(0))[0]["controls"]["effect"] == "none", "a session of its own"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"no picture", "must be a picture, such as a JPEG or PNG, got 10 bytes"),
        (b"v/1\x01" + bytes(60), "this server cannot read OpenEXR files"),
        (bytes(cv2.imencode(".png", np.zeros((200, 300, 3), np.uint8))[1]), "300x200 pixels, the limit is 30000"),
        (bytes(cv2.imencode(".png", picture())[1])[:300], "damaged"),
    ],
)
def test_a_picture_of_a_camera_that_cannot_be_taken_is_told(quick_model: MaskRCNN, data: bytes, words: str) -> None:
    with served(quick_model, pixels=30_000) as server, Viewer(server.connect("/v1/camera")) as viewer:
        viewer.push(data)
        assert words in viewer.wait(lambda status: status["message"])[0]["message"]
        viewer.push(jpeg(picture()))
        viewer.wait(lambda status: at(0)(status) and not status["message"])


def test_pictures_of_a_camera_that_come_too_fast_are_dropped(quick_model: MaskRCNN) -> None:
    with served(quick_model) as server, Viewer(server.connect("/v1/camera")) as viewer:
        data = jpeg(picture(1))
        for _ in range(60):
            viewer.push(data)
        last = jpeg(picture(2, objects=1))
        viewer.push(last)
        time.sleep(0.2)
        until(lambda: server.service.pool.waiting == 0)
        viewer.wait(at(0))
        assert server.count("inferences_total") < 60


def test_every_live_frame_has_a_fate(quick_model: MaskRCNN) -> None:
    hand = Hand()
    with served(quick_model, lambda: hand) as server:
        live = server.service.live
        for index in range(3):
            hand.give(picture(index))
            until(lambda index=index: live.feed.dropped == index)
        assert dict(live.feed.fates) == {"unwatched": 2}
        with Viewer(server.connect("/v1/live")) as viewer:
            viewer.wait(lambda status: status.get("index") == 0)
            release = server.hold()
            for index in range(3):
                hand.give(picture(index))
            until(lambda: live.feed.fates["passed_over"] >= 1)
            release.set()
            status, _ = viewer.wait(lambda status: status.get("index", 0) >= 1)
            assert status["fates"]["passed_over"] >= 1
        with Viewer(server.connect("/v1/camera")) as own:
            own.push(b"no picture")
            own.push(jpeg(picture()))
            status, _ = own.wait(lambda status: status.get("size") and status["fates"])
            assert status["fates"] in ({"undecodable": 1}, {"passed_over": 1})
            release = server.hold()
            own.push(jpeg(picture(2)))
            (session,) = server.service._cameras
            until(lambda: session.feed.given == 2)
        release.set()
        until(lambda: not server.service._cameras)
        text = server.service.metrics.text()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("cvmask_frames_lost_total"))
    assert lines['cvmask_frames_lost_total{of="live",why="unwatched"}'] == "2"
    assert int(lines['cvmask_frames_lost_total{of="live",why="passed_over"}']) >= 1
    assert sum('of="camera"' in name for name in lines) >= 1


def test_sockets_need_the_token_and_the_right_origin(quick_model: MaskRCNN) -> None:
    with served(quick_model, lambda: Hand(), token="right-token-right") as server:
        name = f"cvmask_token_{server.port}"
        for path in ("/v1/live", "/v1/camera"):
            for headers in ({}, {"Authorization": "Bearer wrong-token-wrong"}, {"Cookie": f"{name}=wrong"}):
                with pytest.raises(Exception, match="403"), server.connect(path, additional_headers=headers):
                    pass
            cookie = {"Cookie": f"{name}=right-token-right"}
            elsewhere = "http://elsewhere.example"
            with pytest.raises(Exception, match="403"):  # noqa: SIM117
                with server.connect(path, additional_headers=cookie, origin=elsewhere):
                    pass
            with server.connect(path, additional_headers=cookie, origin=server.url):
                pass


def test_without_a_source_the_live_picture_says_so(quick_model: MaskRCNN) -> None:
    with served(quick_model) as server, server.connect("/v1/live") as connection:
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv()
        assert closed.value.rcvd.code == 1000
        assert "no source" in closed.value.rcvd.reason
