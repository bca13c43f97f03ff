"""The place for files on the page, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_helpers import needs_chromium, opened, slide
from serve_helpers import Served, avi, jpeg, picture, served, until

from cvmask.runtime.model import MaskRCNN

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(quick_model: MaskRCNN) -> Iterator[Served]:
    with served(quick_model) as running:
        yield running


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    """Give the place for files, empty."""
    with opened(browser, server) as page:
        page.get_by_role("tab", name="File").click()
        yield page


def test_pictures_and_clips_come_back_annotated(
    page: Any, server: Served, clip_mp4: Path, tmp_path: Path
) -> None:
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    page.get_by_role("tab", name="File").click()
    pictures = server.inferences("api")
    page.set_input_files("#choose", [tmp_path / "scene.jpg", clip_mp4, tmp_path / "broken.jpg"])
    page.wait_for_selector('#results li:has-text("scene.jpg")[data-state="done"]')
    page.wait_for_selector('#results li:has-text("clip.mp4")[data-state="done"]')
    page.wait_for_selector('#results li:has-text("broken.jpg")[data-state="failed"]')
    assert "damaged" in page.inner_text('#results li:has-text("broken.jpg")')
    assert server.inferences("api") == pictures + 1, "once, for the picture and the JSON"

    def download(card: str, link: str, name: str) -> Path:
        with page.expect_download() as waiting:
            page.locator(f'#results li:has-text("{card}")').get_by_role("link", name=link, exact=True).click()
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(tmp_path / name)
        return tmp_path / name

    found = json.loads(download("scene.jpg", "Download JSON", "scene.json").read_text())
    assert found["detections"]
    assert cv2.imread(str(download("scene.jpg", "Download Picture", "scene_annotated.png"))).shape == (128, 160, 3)
    capture = cv2.VideoCapture(str(download("clip.mp4", "Download Video", "clip_annotated.mp4")))
    assert sum(capture.grab() for _ in range(20)) == 6
    capture.release()
    assert len(download("clip.mp4", "Download JSON lines", "clip.jsonl").read_text().splitlines()) == 6
    for name in ("scene.jpg", "clip.mp4", "broken.jpg"):
        page.get_by_role("button", name=f"Remove {name}").click()
    assert page.locator("#results li").count() == 0


def test_what_is_wrong_with_a_clip_is_told_and_that_it_is_gone(
    browser: Any, quick_model: MaskRCNN, tmp_path: Path
) -> None:
    data = avi(6)
    (tmp_path / "cut.avi").write_bytes(data[: len(data) * 2 // 3])
    with served(quick_model) as server, opened(browser, server) as page:
        page.get_by_role("tab", name="File").click()
        page.set_input_files("#choose", tmp_path / "cut.avi")
        page.wait_for_selector('#results li[data-state="done"]:has-text("states 6 frames")')
        (clip,) = server.service.clips._clips.values()
        server.service.clips.remove(clip)
        page.get_by_role("link", name="Download Video").click()
        page.wait_for_selector('#results li[data-state="failed"]:has-text("any more")')
        assert page.get_by_role("link", name="Download").count() == 0


def test_a_card_that_is_removed_is_not_sent_or_worked_on(
    browser: Any, quick_model: MaskRCNN, clip_mp4: Path, tmp_path: Path
) -> None:
    names = ("sent.jpg", "waits.jpg", "last.jpg")
    for name in names:
        (tmp_path / name).write_bytes(jpeg(picture()))
    with served(quick_model) as server, opened(browser, server) as page:
        page.get_by_role("tab", name="File").click()

        def remove(name: str) -> None:
            page.get_by_role("button", name=f"Remove {name}").click()

        release = server.hold()
        page.set_input_files("#choose", [clip_mp4, *(tmp_path / name for name in names)])
        page.wait_for_selector('#results li:has-text("clip.mp4"):has-text("working")')
        remove("clip.mp4")
        until(lambda: not server.service.clips._clips)
        # The frame of the clip, which cannot be taken back, and the picture.
        until(lambda: server.service.pool.waiting == 2)
        remove("waits.jpg")
        remove("sent.jpg")
        until(lambda: 'status="499"' in server.service.metrics.text())
        release.set()
        page.wait_for_selector('#results li:has-text("last.jpg")[data-state="done"]')
        assert server.inferences("api") == 1


def test_a_dropped_file_is_taken_wherever_it_falls(page: Any) -> None:
    page.evaluate(
        """bytes => {
            const files = new DataTransfer();
            files.items.add(new File([new Uint8Array(bytes)], "dropped.jpg", { type: "image/jpeg" }));
            document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: files, bubbles: true }));
        }""",
        list(jpeg(picture())),
    )
    page.wait_for_selector('#results li:has-text("dropped.jpg")[data-state="done"]')




def test_an_error_is_for_whoever_dropped_the_file(page: Any, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "fake.mp4").write_bytes(b"no clip" * 100)
    page.set_input_files("#choose", [tmp_path / "notes.txt", tmp_path / "fake.mp4"])
    for name, words in (("notes.txt", "This is not a picture"), ("fake.mp4", "This is not a clip")):
        card = page.locator(f'#results li:has-text("{name}")[data-state="failed"]')
        card.wait_for()
        assert words in card.inner_text()
        assert "Content-Type" not in card.inner_text()
        assert "bytes" not in card.inner_text()
        card.get_by_text("Details").click()
        assert "must be" in card.inner_text()
        assert card.get_by_role("button", name="Try again").count() == 0


def test_what_may_pass_can_be_tried_again(page: Any, tmp_path: Path) -> None:
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    page.route("**/v1/detect*", lambda route: route.fulfill(status=504, body='{"detail": "slow", "cure": "wait"}'))
    page.set_input_files("#choose", tmp_path / "scene.jpg")
    page.wait_for_selector('#results li[data-state="failed"]:has-text("too much to do")')
    page.unroute("**/v1/detect*")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector('#results li[data-state="done"]')


def test_controls_act_on_what_is_done(page: Any, clip_mp4: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    page.set_input_files("#choose", [tmp_path / "scene.jpg", clip_mp4])
    page.wait_for_selector('#results li:has-text("clip.mp4")[data-state="done"]')
    picture_of = page.locator('#results li:has-text("scene.jpg")')
    before = picture_of.locator("img").get_attribute("src")
    assert " 0 found" not in " " + picture_of.inner_text()
    for value in (0.7, 0.9, 1.0):
        slide(page, "score_threshold", value)
    page.wait_for_selector('#results li:has-text("scene.jpg")[data-state="done"]:has-text("0 found")')
    assert picture_of.locator("img").count() == 1
    assert picture_of.locator("img").get_attribute("src") != before
    page.get_by_role("button", name="Annotate again: clip.mp4").click()
    page.wait_for_selector('#results li:has-text("clip.mp4")[data-state="done"]:has-text("0 found in 6 frames")')


def test_a_clip_has_a_player_and_a_count(page: Any, clip_mp4: Path) -> None:
    page.set_input_files("#choose", clip_mp4)
    page.wait_for_selector('#results li[data-state="done"]:has-text("in 6 frames, up to")')
    until(lambda: page.locator("#results video").evaluate("one => one.readyState") >= 1)
    assert page.locator("#results video").evaluate("one => [one.videoWidth, one.error]") == [160, None]


def test_results_survive_a_reload_and_go_when_removed(page: Any, clip_mp4: Path, tmp_path: Path) -> None:
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    page.set_input_files("#choose", [tmp_path / "scene.jpg", clip_mp4])
    page.wait_for_selector('#results li:has-text("clip.mp4")[data-state="done"]')
    texts = page.locator("#results li").all_inner_texts()
    page.reload()
    page.wait_for_selector('#results li:has-text("clip.mp4")[data-state="done"]')
    assert page.locator("#results li").all_inner_texts() == texts
    until(lambda: page.locator("#results img").evaluate("one => one.naturalWidth") == 160)
    slide(page, "score_threshold", 1.0)
    page.wait_for_selector('#results li:has-text("scene.jpg"):has-text("0 found")')
    for name in ("scene.jpg", "clip.mp4"):
        page.get_by_role("button", name=f"Remove {name}").click()
    page.reload()
    page.wait_for_selector('[role="tab"][aria-selected="true"]:has-text("File")')
    page.wait_for_timeout(200)
    assert page.locator("#results li").count() == 0


def test_on_a_phone_controls_come_first_and_labels_fit_the_screen(
    browser: Any, server: Served, tmp_path: Path
) -> None:
    (tmp_path / "scene.jpg").write_bytes(jpeg(np.ascontiguousarray(cv2.resize(picture(), (1280, 1024)))))
    asked = []
    with opened(browser, server, viewport={"width": 360, "height": 800}) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.get_by_role("tab", name="File").click()
        page.set_input_files("#choose", tmp_path / "scene.jpg")
        page.wait_for_selector('#results li[data-state="done"]')
        below = page.locator("#results-box").bounding_box()["y"]
        assert page.locator("#look-title").bounding_box()["y"] < below
        width = page.locator("#results img").bounding_box()["width"]
    (address,) = [url for url in asked if "/v1/detect" in url]
    assert abs(int(address.split("shown_width=")[1]) - width) < 20


def test_a_clip_can_be_looked_at_in_fewer_frames(page: Any, server: Served, clip_mp4: Path) -> None:
    before = server.inferences("clip")
    page.get_by_label("In clips, find in").select_option("every 5th frame")
    page.set_input_files("#choose", clip_mp4)
    page.wait_for_selector('#results li[data-state="done"]:has-text("in 6 frames")')
    assert server.inferences("clip") - before < 6
    assert page.get_by_role("button", name="Annotate again").count() == 0
    page.get_by_label("In clips, find in").select_option("every frame")
    page.get_by_role("button", name="Annotate again: clip.mp4").wait_for()
