from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from serve_helpers import PATIENCE_S, Served, avi, jpeg, picture, served, until

from cvmask.runtime.model import MaskRCNN
from cvmask.streams.sinks import read_json_lines

MP4 = {"Content-Type": "video/mp4"}


@pytest.fixture(scope="module")
def server(quick_model: MaskRCNN) -> Iterator[Served]:
    with served(quick_model, clip_bytes=1_000_000) as running:
        yield running


def finished(server: Served, posted: Any) -> dict[str, Any]:
    assert posted.status_code == 202, posted.text
    place = f"/v1/clips/{posted.json()['id']}"
    until(lambda: server.client.get(place).json()["state"] in ("done", "failed"))
    status: dict[str, Any] = server.client.get(place).json()
    return status


def test_a_clip_comes_back_annotated(server: Served, clip_mp4: Path, tmp_path: Path) -> None:
    place = "/v1/clips?score_threshold=0.2&classes=0,1,2,3"
    posted = server.client.post(place, content=clip_mp4.read_bytes(), headers=MP4)
    status = finished(server, posted)
    assert (status["state"], status["frames"], status["length"]) == ("done", 6, 6)
    (tmp_path / "out.mp4").write_bytes(server.client.get(status["video"]).content)
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert sum(capture.grab() for _ in range(20)) == 6
    capture.release()
    (tmp_path / "out.jsonl").write_bytes(server.client.get(status["detections"]).content)
    lines = list(read_json_lines(tmp_path / "out.jsonl"))
    assert [line["index"] for line, _ in lines] == list(range(6))
    assert {class_id for _, found in lines for class_id in found.class_id.tolist()} <= {0, 1, 2, 3}
    assert {line["name"] for line, _ in lines} == {"clip.mp4"}
    assert str(server.service.folder).encode() not in (tmp_path / "out.jsonl").read_bytes()
    counts = [len(found) for _, found in lines]
    assert (status["found"], status["most"]) == (sum(counts), max(counts))
    place = f"/v1/clips/{status['id']}"
    assert server.client.delete(place).status_code == 204
    assert server.client.get(place).status_code == server.client.get(status["video"]).status_code == 404
    assert not list(server.service.folder.glob(f"{status['id']}*"))


def test_without_pyav_the_video_is_one_that_browsers_play(
    server: Served, clip_mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvmask.serve.clips.has_av", lambda: False)
    status = finished(server, server.client.post("/v1/clips", content=clip_mp4.read_bytes(), headers=MP4))
    video = server.client.get(status["video"])
    assert status["video_type"] == video.headers["content-type"] == "video/webm"
    assert video.content[:4] == b"\x1a\x45\xdf\xa3"


PLAY_LISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "dash": b"<?xml version='1.0'?><MPD></MPD>",
    "picture": b"\xff\xd8\xff\xe0" + bytes(100),
    "empty": b"",
    "short": b"ft",
    # What FFmpeg looks for in text is in the first kilobytes, whatever stands in the places of a magic word.
    "hls as AVI": b"#EXTM3U\nAVI \n/etc/passwd\n",
    "sdp as AVI": b"v=0\no= - \nAVI \nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "sdp as MP4": b"v=0\nftyp\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "sdp as MKV": b"\x1a\x45\xdf\xa3\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\nmatroska\n",
    "sdp as unknown size": b"\x1a\x45\xdf\xa3\xff\nwebm\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n" + b"\n" * 300,
    "sdp after EBML": b"\x1a\x45\xdf\xa3\x84abcd\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\nwebm\n",
}


@pytest.mark.parametrize("name", PLAY_LISTS)
def test_what_could_name_other_files_never_reaches_ffmpeg(server: Served, name: str) -> None:
    before = list(server.service.folder.iterdir())
    answer = server.client.post("/v1/clips", content=PLAY_LISTS[name], headers=MP4)
    assert answer.status_code == 415
    assert "ffmpeg" in answer.json()["cure"]
    assert list(server.service.folder.iterdir()) == before


def test_a_damaged_clip_fails_and_says_why_without_a_path(server: Served, clip_mp4: Path) -> None:
    data = clip_mp4.read_bytes()
    for damaged in (data[: len(data) // 3], data[:8] + bytes(1000)):
        status = finished(server, server.client.post("/v1/clips", content=damaged, headers=MP4))
        assert status["state"] == "failed"
        assert status["message"]
        assert str(server.service.folder) not in status["message"]
        assert server.client.get(f"/v1/clips/{status['id']}/video").status_code == 404


def test_a_clip_that_is_cut_short_is_done_and_says_so(server: Served, work: Path) -> None:
    data = avi(6)
    whole = finished(server, server.client.post("/v1/clips", content=data, headers=MP4))
    assert (whole["state"], whole["frames"], whole["message"]) == ("done", 6, "")
    cut = finished(server, server.client.post("/v1/clips", content=data[: len(data) * 2 // 3], headers=MP4))
    assert cut["state"] == "done"
    assert 0 < cut["frames"] < 6
    assert f"clip.avi: states 6 frames, {cut['frames']} could be read" in cut["message"]


def test_odd_clips_have_an_answer(server: Served, shared: Path) -> None:
    states = {}
    for path in sorted((shared / "data" / "odd_video").iterdir()):
        data = path.read_bytes()
        if len(data) > 300_000:
            continue
        posted = server.client.post("/v1/clips?score_threshold=0.99", content=data, headers=MP4)
        states[path.name] = posted.status_code if posted.status_code != 202 else finished(server, posted)["state"]
    assert states["zero_bytes.mp4"] == states["text.mp4"] == 415
    assert set(states.values()) <= {415, "done", "failed"}


def test_masks_are_carried_between_frames_that_the_network_sees(server: Served, clip_mp4: Path) -> None:
    before = server.inferences("clip")

    def post(every: str) -> Any:
        return server.client.post(f"/v1/clips?detect_every={every}", content=clip_mp4.read_bytes(), headers=MP4)

    status = finished(server, post("5"))
    assert (status["state"], status["frames"]) == ("done", 6)
    assert server.inferences("clip") - before < 6
    lines = server.client.get(status["detections"]).text.splitlines()
    assert all(json.loads(line)["detections"]["xyxy"] for line in lines), "in each frame"
    assert finished(server, post("auto"))["state"] == "done"
    for every in ("0", "61", "-1", "often", "1e1", "5 "):
        assert post(every).status_code == 422, every


def test_of_large_frames_fewer_are_kept(quick_model: MaskRCNN, clip_mp4: Path) -> None:
    with served(quick_model, held_bytes=2 * 3 * 3 * 160 * 128) as server:
        posted = server.client.post("/v1/clips?detect_every=60", content=clip_mp4.read_bytes(), headers=MP4)
        status = finished(server, posted)
    assert status["state"] == "done"
    assert status["message"] == "detect_every was 3 and not 60: frames of this size need too much memory"


def test_only_the_newest_results_are_kept(quick_model: MaskRCNN, clip_mp4: Path) -> None:
    data = clip_mp4.read_bytes()
    with served(quick_model, kept_clips=2) as server:
        keys = [finished(server, server.client.post("/v1/clips", content=data, headers=MP4))["id"] for _ in range(4)]
        there = [server.client.get(f"/v1/clips/{key}/video").status_code for key in keys]
    # The fourth was not done yet when there was last looked for old ones.
    assert there == [404, 200, 200, 200]


def test_an_upload_that_the_end_of_the_server_meets_is_told_so_without_a_traceback(
    quick_model: MaskRCNN, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cvmask.serve.server._GRACE_S", 0.1)
    head = b"POST /v1/clips HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: video/mp4\r\nContent-Length: 999\r\n\r\n"
    with contextlib.ExitStack() as stack:
        with served(quick_model) as server:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S))
            client.sendall(head + b"\0\0\0 ftypisom" + bytes(300))
            until(lambda: server.service.clips._clips)
        answer = client.makefile("rb").read()
    assert b" 503 " in answer
    assert b"the server is ending" in answer
    assert not [record for record in caplog.records if record.exc_info]


def test_only_what_is_given_up_leaves_no_traceback(server: Served, caplog: pytest.LogCaptureFixture) -> None:
    for error in (asyncio.CancelledError(), ZeroDivisionError()):
        logging.getLogger("uvicorn.error").error("Exception in ASGI application", exc_info=error)
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


def test_limits_of_clips(server: Served, clip_mp4: Path) -> None:
    assert server.client.post("/v1/clips", content=bytes(1_000_001), headers=MP4).status_code == 413
    body = (clip_mp4.read_bytes()[:2000] * 100 for _ in range(20))
    before = list(server.service.folder.iterdir())
    assert server.client.post("/v1/clips", content=body, headers=MP4).status_code == 413
    assert list(server.service.folder.iterdir()) == before, "what came is removed"
    assert server.client.post("/v1/clips", content=b"x", headers={"Content-Type": "text/plain"}).status_code == 415


def test_an_upload_that_says_nothing_any_more_gives_its_place_back(quick_model: MaskRCNN) -> None:
    head = b"POST /v1/clips HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: video/mp4\r\nContent-Length: 999\r\n\r\n"
    with served(quick_model, body_s=0.3) as server, contextlib.ExitStack() as stack:
        clients = []
        for body in (b"\0\0\0 ftypisom", b"\0\0\0 ftypisom" + bytes(300)):
            place = ("127.0.0.1", server.port)
            clients.append(stack.enter_context(socket.create_connection(place, timeout=PATIENCE_S)))
            clients[-1].sendall(head + body)
        for client in clients:
            assert b"nothing came for 0.3 s" in client.makefile("rb").read()
        assert not server.service.clips._clips
        assert not list(server.service.folder.iterdir())


def test_clips_that_are_too_long_or_too_large_fail(quick_model: MaskRCNN, clip_mp4: Path) -> None:
    data = clip_mp4.read_bytes()
    with served(quick_model, clip_frames=3) as server:
        status = finished(server, server.client.post("/v1/clips", content=data, headers=MP4))
        assert "more than 3 frames" in status["message"]
    with served(quick_model, pixels=1000) as server:
        status = finished(server, server.client.post("/v1/clips", content=data, headers=MP4))
        assert "the limit is 1000" in status["message"]


def grown_avi() -> bytes:
    """Make an AVI of JPEGs, 160 x 128 but for the third, which is 1600 x 1280."""
    images = [picture(index) for index in range(4)]
    images[2] = cv2.resize(images[2], (1600, 1280))

    def chunk(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    pictures, index, at = b"movi", b"", 4
    for image in images:
        one = chunk(b"00dc", jpeg(image))
        index += b"00dc" + struct.pack("<3I", 16, at, len(one) - 8)
        pictures, at = pictures + one, at + len(one)
    head = struct.pack("<14I", 40_000, 1 << 20, 0, 16, 4, 0, 1, 1 << 20, 160, 128, 0, 0, 0, 0)
    video = struct.pack("<4s4s10I4H", b"vids", b"MJPG", 0, 0, 0, 1, 25, 0, 4, 1 << 20, 2**32 - 1, 0, 0, 0, 160, 128)
    look = struct.pack("<Iii2H4s5I", 40, 160, 128, 1, 24, b"MJPG", 160 * 128 * 3, 0, 0, 0, 0)
    track = chunk(b"LIST", b"strl" + chunk(b"strh", video) + chunk(b"strf", look))
    content = b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", head) + track)
    return chunk(b"RIFF", content + chunk(b"LIST", pictures) + chunk(b"idx1", index))


def grown_mkv(path: Path) -> bytes:
    """Make a Matroska file of H.264 that is 160 x 128 and then 1600 x 1280."""
    av = pytest.importorskip("av")
    packets = b""
    for scale in (1, 10):
        with av.open(str(path), "w", format="h264") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160 * scale, 128 * scale, "yuv420p"
            image = np.full((128 * scale, 160 * scale, 3), 90, np.uint8)
            frames = [av.VideoFrame.from_ndarray(image, format="bgr24") for _ in range(3)]
            for frame in (*frames, None):
                output.mux(stream.encode(frame))
        packets += path.read_bytes()
    path.write_bytes(packets)
    with av.open(str(path)) as source, av.open(str(path.with_suffix(".mkv")), "w") as output:
        track = output.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = 40 * index
            packet.stream = track
            output.mux(packet)
    return path.with_suffix(".mkv").read_bytes()


@pytest.mark.parametrize("kind", ["avi", "mkv"])
def test_a_frame_that_is_larger_than_the_first_is_refused(quick_model: MaskRCNN, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("av")
    data = grown_avi() if kind == "avi" else grown_mkv(tmp_path / "raw")
    for pixels, state in ((40_000_000, "done"), (1_000_000, "failed")):
        with served(quick_model.clone(), pixels=pixels) as server:
            status = finished(server, server.client.post("/v1/clips", content=data, headers=MP4))
            assert status["state"] == state, status
    assert "1000000" in status["message"]


def test_too_many_clips_are_told_to_come_again_and_old_ones_go(quick_model: MaskRCNN, clip_mp4: Path) -> None:
    data = clip_mp4.read_bytes()
    with served(quick_model, clips=4, kept_s=0.0) as server:
        hold = server.hold()
        first, second = (server.client.post("/v1/clips", content=data, headers=MP4) for _ in range(2))
        third = server.client.post("/v1/clips", content=data, headers=MP4)
        assert third.status_code == 503
        assert int(third.headers["retry-after"]) > 0
        # Another client still finds a place.
        other = server.service.clips.new(".mp4", server.service.controls, "10.0.0.7")
        assert other is not None
        server.service.clips.remove(other)
        assert server.client.delete(f"/v1/clips/{second.json()['id']}").status_code == 204
        hold.set()
        assert finished(server, first)["state"] == "done"
        fourth = server.client.post("/v1/clips", content=data, headers=MP4)
        assert server.client.get(f"/v1/clips/{first.json()['id']}").status_code == 404
        assert finished(server, fourth)["state"] == "done"


def test_what_a_killed_server_left_is_removed_and_nothing_else(
    quick_model: MaskRCNN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "import os, signal; from cvmask.serve.service import _new_folder; folder, _ = _new_folder();"
        "(folder / 'upload_in.mp4').write_bytes(bytes(1000)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = tmp_path.iterdir()
    assert (left / "upload_in.mp4").exists()
    (tmp_path / "cvmask-serve-file").write_text("somebody else's")
    (tmp_path / "cvmask-serve-link").symlink_to(Path.home())
    with served(quick_model) as first:
        assert not left.exists()
        with served(quick_model.clone()) as second:
            assert first.service.folder.exists()
            assert second.service.folder.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cvmask-serve-file", "cvmask-serve-link"]
