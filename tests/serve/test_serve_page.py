"""The page in a real browser, with its fake camera. Each test fails if the console says anything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_helpers import needs_chromium, opened, shown, slide
from serve_helpers import Hand, Served, jpeg, picture, served, until

from cvmask.errors import SourceError
from cvmask.runtime.model import MaskRCNN
from cvmask.serve.view import paint

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def stage(quick_model: MaskRCNN) -> Iterator[tuple[Served, Hand]]:
    hand = Hand()
    with served(quick_model, lambda: hand) as server:
        yield server, hand


@pytest.fixture
def page(browser: Any, stage: tuple[Served, Hand]) -> Iterator[Any]:
    """Give the live page, with a first picture on it and the controls at their first values."""
    server, hand = stage
    server.service.live.change(
        {"score_threshold": 0.5, "mask_threshold": 0.3, "opacity": 0.45, "classes": None, "effect": "none"}
    )
    server.service.live.pause(False)
    server.service.live.recorder._say("")
    first = picture()
    hand.give(first)
    with opened(browser, server) as page:
        page.wait_for_selector("#picture:not([hidden])")
        # What is seen may be a picture of the test before, and another one of it may wait.
        until(lambda: server.service.live._frame.image is first)
        # The buttons follow the picture.
        page.wait_for_selector("#pause:enabled")
        yield page


def wait_for_controls(server: Served, **values: Any) -> None:
    until(lambda: {**vars(server.service.live.controls), **values} == vars(server.service.live.controls))


def test_the_live_picture_and_what_is_seen(page: Any, stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    for seed in (3, 5):
        hand.give(picture(seed))

    def is_seen() -> bool:
        status, counts = server.service.live._status(), page.inner_text("#counts").replace("\n", " ")
        all_named = all(f"{count} {name}" in counts for name, count in status["counts"].items())
        return all_named and page.inner_text("#total") == f"({status['total']})"

    until(is_seen)
    assert page.inner_text("#size") == "160×128"
    assert page.inner_text("#inference").endswith(" ms")
    assert page.inner_text("#age").endswith(" ms")
    assert "hand" in page.inner_text("#state")
    assert "shapes" in page.inner_text("#model")


def test_every_control_reaches_the_next_picture(page: Any, stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    inferences = server.count("inferences_total")
    before = shown(page)
    slide(page, "opacity", 0.9)
    wait_for_controls(server, opacity=0.9)
    until(lambda: shown(page) != before)
    assert page.inner_text('output[for="opacity"]') == "0.90"
    slide(page, "mask_threshold", 0.6)
    wait_for_controls(server, mask_threshold=0.6)
    page.get_by_label("object", exact=True).check()
    wait_for_controls(server, color_by="instance")
    page.get_by_label("class", exact=True).check()
    wait_for_controls(server, color_by="class")
    for effect in page.locator("#effect option").all_inner_texts()[::-1]:
        before = shown(page)
        page.get_by_label("Effect").select_option(label=effect)
        wait_for_controls(server, effect=effect.replace(" ", "-"))
        until(lambda before=before: shown(page) != before)
    page.locator("#classes-box summary").click()
    page.get_by_role("button", name="None").click()
    wait_for_controls(server, classes=())
    until(lambda: page.inner_text("#total") == "(0)")
    page.get_by_label("star").check()
    wait_for_controls(server, classes=(3,))
    page.get_by_role("button", name="All").click()
    wait_for_controls(server, classes=None)
    slide(page, "score_threshold", 0.9)
    wait_for_controls(server, score_threshold=0.9)
    assert server.count("inferences_total") == inferences, "all of that without the network"
    slide(page, "score_threshold", 0.02)
    until(lambda: server.count("inferences_total") == inferences + 1)


def test_other_viewers_sliders_follow(page: Any, browser: Any, stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    with opened(browser, server) as other:
        other.wait_for_selector("#picture:not([hidden])")
        slide(page, "opacity", 0.7)
        until(lambda: other.locator("#opacity").input_value() == "0.7")


def test_pause_snapshot_and_go_on(page: Any, stage: tuple[Served, Hand], tmp_path: Path) -> None:
    server, hand = stage
    page.get_by_role("button", name="Pause").click()
    page.wait_for_selector("#badge:not([hidden])")
    assert page.inner_text("#badge") == "Paused"
    before = shown(page)
    hand.give(picture(9))
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename.endswith(".jpg")
    download.value.save_as(tmp_path / "snapshot.jpg")
    assert server.service.live.view.newest()[1].endswith((tmp_path / "snapshot.jpg").read_bytes())
    assert shown(page) == before
    page.keyboard.press("p")
    until(lambda: shown(page) != before)
    # The words follow the picture: they are said once it is on the screen.
    page.get_by_role("button", name="Pause").wait_for()


def test_a_key_that_is_held_down_counts_once(page: Any) -> None:
    page.evaluate("document.addEventListener('click', () => { window.clicks = (window.clicks || 0) + 1 })")
    with page.expect_download():
        for _ in range(3):
            # Down again without an up between is a key that repeats.
            page.keyboard.down("s")
    assert page.evaluate("window.clicks") == 1


def test_keys_can_be_turned_off_and_stay_off(page: Any, stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    page.get_by_label("Keys:").uncheck()
    page.locator("h1").click()
    page.reload()
    page.wait_for_selector("#pause:enabled")
    page.keyboard.press("p")
    page.wait_for_timeout(300)
    assert not server.service.live.feed.paused
    assert page.get_attribute("#pause", "aria-keyshortcuts") is None
    page.get_by_label("Keys:").check()
    page.locator("h1").click()
    page.keyboard.press("p")
    until(lambda: server.service.live.feed.paused)


def test_what_needs_the_server_is_off_while_it_is_gone(browser: Any, quick_model: MaskRCNN) -> None:
    hand = _given(picture())
    with served(quick_model, lambda: hand) as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector("#picture:not([hidden])")
        page.wait_for_selector("#pause:enabled")
    # The last picture can still be saved.
    page.wait_for_selector("#pause:disabled")
    assert page.is_disabled("#record")
    assert page.is_enabled("#snapshot")
    context.close()


def test_record_stop_and_download(page: Any, stage: tuple[Served, Hand], tmp_path: Path) -> None:
    server, hand = stage
    page.get_by_role("button", name="Record", exact=True).click()
    until(lambda: page.inner_text("#badge") == "Recording")
    frames = server.count("frames_total")
    for index in range(3):
        hand.give(picture(index))
        until(lambda index=index: server.count("frames_total") == frames + index + 1)
    page.get_by_role("button", name="Stop recording").click()
    page.wait_for_selector("#download:not([hidden])")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download recording").click()
    assert download.value.suggested_filename == "recording.mp4"
    download.value.save_as(tmp_path / "recording.mp4")
    capture = cv2.VideoCapture(str(tmp_path / "recording.mp4"))
    assert sum(capture.grab() for _ in range(10)) == 3
    capture.release()


def test_the_camera_of_the_browser(browser: Any, quick_model: MaskRCNN) -> None:
    with served(quick_model) as server, opened(browser, server, permissions=["camera"]) as page:
        page.wait_for_selector('[role="tab"][aria-selected="true"]:has-text("My camera")')
        page.get_by_role("button", name="Start camera").click()
        page.wait_for_selector("#picture:not([hidden])")
        first = server.count("frames_total")
        until(lambda: server.count("frames_total") >= first + 3)
        (session,) = server.service._cameras
        page.get_by_label("Effect").select_option("spotlight")
        until(lambda: session.controls.effect == "spotlight")
        page.get_by_role("button", name="Pause").click()
        page.wait_for_selector("#badge:not([hidden])")
        page.get_by_role("button", name="Go on").click()
        page.get_by_role("button", name="Record", exact=True).click()
        until(lambda: session.recorder._count >= 2)
        page.get_by_role("button", name="Stop recording").click()
        page.wait_for_selector("#download:not([hidden])")
        assert len(server.client.get(page.get_attribute("#download", "href")).content) > 1000
        # A picture that is still being decoded when the camera is stopped must not come up afterwards.
        page.evaluate("HTMLImageElement.prototype.decode = () => new Promise(done => setTimeout(done, 700))")
        first = server.count("frames_total")
        until(lambda: server.count("frames_total") >= first + 2)
        page.get_by_role("button", name="Stop camera").click()
        page.wait_for_timeout(1000)
        assert page.is_visible("#empty")
        assert page.is_hidden("#picture")
        until(lambda: not server.service._cameras)


def test_a_recording_that_is_paused_says_both(page: Any) -> None:
    page.get_by_role("button", name="Record", exact=True).click()
    until(lambda: page.inner_text("#badge") == "Recording")
    page.get_by_role("button", name="Pause").click()
    until(lambda: page.inner_text("#badge") == "Recording, paused")
    page.get_by_role("button", name="Stop recording").click()
    until(lambda: page.inner_text("#badge") == "Paused")


def test_a_message_has_a_subject_and_an_age_and_stays_closed(page: Any, stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    recorder = server.service.live.recorder
    recorder._say("the disk is full")
    recorder.message_s -= 200
    hand.give(picture(4))
    page.wait_for_selector("#notice:not([hidden])")
    assert page.inner_text("#note") == "Recording: the disk is full"
    assert page.inner_text("#note-age") == "3 min ago"
    page.get_by_role("button", name="Close this message").click()
    frames = server.count("frames_total")
    hand.give(picture(6))
    until(lambda: server.count("frames_total") > frames)
    page.wait_for_timeout(300)
    assert page.is_hidden("#notice")


def test_labels_are_drawn_for_the_smallest_screen_that_looks_on(browser: Any, quick_model: MaskRCNN) -> None:
    hand = _given(cv2.resize(picture(), (1280, 1024)))
    with served(quick_model, lambda: hand) as server, opened(browser, server) as page:
        page.wait_for_selector("#picture:not([hidden])")
        live = server.service.live

        def is_drawn_for(least: int, most: int) -> bool:
            found = live.controls.keep(live._model._found)
            expected = paint(live._frame.image, found, live.controls, live.labels, shown_width=live._shown_width)
            return least <= (live._shown_width or 0) <= most and np.array_equal(live.view._image, expected)

        until(lambda: is_drawn_for(500, 1000))
        with opened(browser, server, viewport={"width": 360, "height": 800}) as phone:
            phone.wait_for_selector("#picture:not([hidden])")
            until(lambda: is_drawn_for(300, 360))
        until(lambda: is_drawn_for(500, 1000))


def test_a_first_visit_is_one_tap_from_the_camera(browser: Any, stage: tuple[Served, Hand]) -> None:
    server, _ = stage
    with opened(browser, server, permissions=["camera"]) as page:
        assert "outlines each of them" in page.inner_text("#intro")
        page.get_by_role("button", name="Use my camera").click()
        page.wait_for_selector('[role="tab"][aria-selected="true"]:has-text("My camera")')
        page.wait_for_selector("#picture:not([hidden])")
        page.reload()
        page.wait_for_selector('[role="tab"][aria-selected="true"]:has-text("My camera")')
        assert page.is_hidden("#intro")


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (768, "dark"), (1440, "light"), (1440, "dark")])
def test_axe_finds_nothing(
    browser: Any, stage: tuple[Served, Hand], tmp_path: Path, width: int, scheme: str
) -> None:
    axe = pytest.importorskip("axe_core_python.sync_playwright", reason="needs cvmask[serve-test]").Axe()
    server, hand = stage
    hand.give(picture())
    (tmp_path / "scene.jpg").write_bytes(jpeg(picture()))
    (tmp_path / "notes.txt").write_text("no picture")
    size = {"width": width, "height": 800}
    with opened(browser, server, viewport=size, color_scheme=scheme) as page:
        for tab in ("Live", "My camera", "File"):
            page.get_by_role("tab", name=tab).click()
            if tab == "Live":
                page.wait_for_selector("#pause:enabled")
            if tab == "File":
                page.set_input_files("#choose", [tmp_path / "notes.txt", tmp_path / "scene.jpg"])
                page.wait_for_selector('#results li:has-text("scene.jpg")[data-state="done"]')
            found = axe.run(page)["violations"]
            assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == [], tab


def test_a_lost_source_is_said_and_comes_back(browser: Any, quick_model: MaskRCNN) -> None:
    hands = [Hand(), Hand()]
    opened_hands: list[Hand] = []
    away = [False]

    def open_source() -> Hand:
        if away[0]:
            raise SourceError("hand: still away")
        opened_hands.append(hands[len(opened_hands)])
        return opened_hands[-1]

    with served(quick_model, open_source) as server, opened(browser, server) as page:
        hands[0].give(picture(1))
        page.wait_for_selector("#picture:not([hidden])")
        away[0] = True
        hands[0].break_off("cable pulled")
        until(lambda: "Source lost" in page.inner_text("#state"))
        assert page.inner_text("#badge") == "Lost"
        assert page.is_visible("#picture"), "the last picture stays"
        away[0] = False
        until(lambda: len(opened_hands) == 2)
        hands[1].give(picture(2))
        page.wait_for_selector("#badge", state="hidden")
        assert "Live" in page.inner_text("#state")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(240, "light"), (320, "dark"), *((width, scheme) for width in (360, 768, 1440) for scheme in ("light", "dark"))],
)
def test_it_fits_every_screen_and_is_readable(
    browser: Any, stage: tuple[Served, Hand], width: int, scheme: str
) -> None:
    server, hand = stage
    hand.give(picture())
    size = {"width": width, "height": 800}
    with opened(browser, server, viewport=size, color_scheme=scheme) as page:
        page.wait_for_selector("#picture:not([hidden])")
        for tab in ("Live", "My camera", "File"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("tab", name="Live").click()
        page.wait_for_selector("#picture:not([hidden])")
        assert page.evaluate(_CONTRAST) >= 4.5
        assert page.evaluate(_STICKING_OUT) == []
        assert page.evaluate(_TOUCHING) == []
        for box in page.evaluate(_TARGETS):
            assert min(box["width"], box["height"]) >= 18, box


# The least contrast of any text with what is behind it, as WCAG counts it.
_CONTRAST = """() => {
    const light = text => { const c = text.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2]; };
    const behind = one => { for (let at = one; at; at = at.parentElement) {
        const color = getComputedStyle(at).backgroundColor; if (!/, 0\\)$/.test(color)) return color; } };
    let least = 99;
    for (const one of document.querySelectorAll("h1, h2, p, dt, dd, button, label, output, li, select")) {
        if (!one.innerText.trim() || one.closest(".screen") || one.disabled || !one.offsetParent) continue;
        const [a, b] = [getComputedStyle(one).color, behind(one)].map(light).sort((x, y) => y - x);
        least = Math.min(least, (a + 0.05) / (b + 0.05));
    }
    return least;
}"""
_STICKING_OUT = """() => { const right = document.querySelector("aside").getBoundingClientRect().right;
    return [...document.querySelectorAll("aside *")].filter(one => one.getBoundingClientRect().right > right + 0.5)
        .map(one => one.id || one.className); }"""
# Figures with less than 4 pixels between them.
_TOUCHING = """() => { const boxes = [...document.querySelectorAll(".figures :is(dt, dd)")].map(one => {
        const text = document.createRange(); text.selectNodeContents(one);
        return [one.textContent, text.getBoundingClientRect()]; });
    return boxes.flatMap(([a, one]) => boxes.filter(([b, other]) => a !== b &&
        one.left <= other.left && one.right > other.left - 4 &&
        one.top < other.bottom - 4 && other.top < one.bottom - 4).map(([b]) => [a, b])); }"""
_TARGETS = """() => [...document.querySelectorAll("button, input, select, summary")].filter(one => one.offsetParent)
    .map(one => ({ id: one.id, width: one.offsetWidth, height: one.offsetHeight }))"""


def test_everything_has_a_name_and_can_be_reached_with_the_keyboard(page: Any) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a[href], img")].filter(one =>
            !(one.textContent || one.alt || one.getAttribute("aria-label") || (one.labels || []).length)).length"""
    )
    assert nameless == 0
    page.locator("#classes-box summary").click()
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.name || ''"))
    wanted = {"tab-live", "pause", "snapshot", "record", "score_threshold", "mask_threshold", "opacity", "effect"}
    assert wanted | {"color_by", "all", "none"} <= reached
    page.focus("#tab-live")
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="My camera").get_attribute("aria-selected") == "true"
    assert page.get_attribute("#state", "aria-live") == "polite"


def test_controls_stay_in_their_place_whatever_is_seen(page: Any, stage: tuple[Served, Hand]) -> None:
    server, hand = stage
    places = []
    for objects in (0, 6, 1):
        frames = server.count("frames_total")
        hand.give(picture(4, objects) if objects else np.full((128, 160, 3), 90, np.uint8))
        until(lambda frames=frames: server.count("frames_total") > frames)
        total = server.service.live._status()["total"]
        assert total >= objects // 2
        until(lambda total=total: page.inner_text("#total") == f"({total})")
        names = [line.split(" ", 1)[1] for line in page.locator("#counts li:not(.nothing)").all_inner_texts()]
        assert names == sorted(names, key=server.service.labels.index)
        watched = ("record", "score_threshold", "classes-box")
        places.append([page.locator(f"#{name}").bounding_box() for name in watched])
    assert places[0] == places[1] == places[2]


def test_nothing_that_changes_with_every_frame_is_read_out(page: Any, stage: tuple[Served, Hand]) -> None:
    spoken = page.evaluate(
        """() => [...document.querySelectorAll("output, [role=status], [role=alert], [aria-live]")].filter(one =>
            one.getAttribute("aria-live") !== "off").map(one => one.id)"""
    )
    assert spoken == ["state", "note"]


def test_a_token_in_the_address_opens_the_page(browser: Any, quick_model: MaskRCNN) -> None:
    with served(quick_model, lambda: _given(picture()), token="right-token-right") as server:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/?token=right-token-right")
        page.wait_for_selector("#picture:not([hidden])")
        assert "token" not in page.url
        context.close()


def test_a_link_from_another_page_opens_it_and_another_token_is_told(browser: Any, quick_model: MaskRCNN) -> None:
    with served(quick_model, lambda: _given(picture()), token="right-token-right") as server:
        context = browser.new_context()
        page = context.new_page()
        page.route("http://wiki.example/", lambda route: route.fulfill(
            body=f"<a href='{server.url}/?token=right-token-right'>cvmask</a>", content_type="text/html"
        ))  # fmt: skip
        page.goto("http://wiki.example/")
        page.click("a")
        page.wait_for_selector("#picture:not([hidden])")
        context.clear_cookies()
        page.goto(server.url)
        page.fill("#token", "right-token-right")
        page.click("button")
        page.wait_for_selector("#picture:not([hidden])")
        port = server.port
    with served(quick_model.clone(), lambda: _given(picture()), token="other-token-other", port=port):
        page.wait_for_selector("text=started again with another token")
        context.close()


def _given(image: Any) -> Hand:
    hand = Hand()
    hand.give(np.asarray(image))
    return hand
