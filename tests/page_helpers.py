"""The page in a real browser, with its fake camera."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from serve_helpers import Served

playwright = pytest.importorskip("playwright.sync_api", reason="needs cvmask[serve-test]")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (on Debian: apt install chromium)")
SWITCHES = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
    *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
)
PATIENCE_MS = 30_000


@contextmanager
def opened(browser: Any, server: Served, **options: Any) -> Iterator[Any]:
    """Open the page; at the end the console must be empty, and nothing may have come from elsewhere."""
    options = {"viewport": {"width": 1000, "height": 900}, "accept_downloads": True, **options}
    context = browser.new_context(**options)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.url)
    try:
        yield page
    finally:
        context.close()
    # Chromium itself says when a request was refused; the page says it in its own words.
    refused = re.compile("the server responded with a status of (404|415|422|504)")
    assert [line for line in said if not refused.search(line)] == []
    assert [url for url in asked if not url.startswith((server.url, "blob:"))] == []


def shown(page: Any) -> str:
    """Give the pixels on the screen; that they may be looked at only so is the policy's doing."""
    return str(
        page.evaluate(
            """async () => {
                await picture.decode().catch(() => {}); // replaced by a newer one meanwhile
                const canvas = document.createElement("canvas");
                [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
                canvas.getContext("2d").drawImage(picture, 0, 0);
                return canvas.toDataURL();
            }"""
        )
    )


def slide(page: Any, name: str, value: float) -> None:
    page.locator(f"#{name}").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})) }", value
    )
