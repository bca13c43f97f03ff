"""Take pictures of the page in a browser: 0, 1, 32 objects, 25 classes, a lost source, one that came back, files."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page, sync_playwright

import cvmask
from cvmask import Detections, scenes
from cvmask.errors import SourceError
from cvmask.models.labels import read_labels
from cvmask.runtime.model import MaskRCNN
from cvmask.serve.app import make_app
from cvmask.serve.server import listen, make_server
from cvmask.serve.service import Service
from cvmask.serve.view import Controls
from cvmask.streams.sources import Frame, Source

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (360, 768, 1440)
SIZE_WH = (1280, 720)
MANY_CLASSES = 25


class Stage(Source):
    """A live source that shows one scene, or is gone."""

    live = True
    name = "rtsp://camera.example/yard"
    image: NDArray[np.uint8] | None = None

    def __init__(self) -> None:
        if self.image is None:
            raise SourceError(f"{self.name}: no connection: attempt 3 of 10")
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def _frames(self) -> Iterator[Frame]:
        index = 0
        while not self._closed:
            if self.image is None:
                raise SourceError(f"{self.name}: the connection was closed by the other side")
            yield Frame(self.image.copy(), index, None, self.name, taken_at_s=time.monotonic())
            index += 1
            time.sleep(0.1)


class Renamed:
    """The bundled model with the 90 names of COCO; each object of a class of its own, if told so."""

    spread = False

    def __init__(self, model: MaskRCNN) -> None:
        self._model, self.target, self.settings = model, model.target, model.settings
        self.labels = tuple(read_labels(ROOT / "mscoco_labels.names"))

    def detect(self, frame: NDArray[np.uint8]) -> Detections:
        self._model.settings = self.settings
        found = self._model.detect(frame)
        spread = np.arange(len(found), dtype=np.int32) % MANY_CLASSES
        return dataclasses.replace(found, class_id=spread) if self.spread else found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/page"), metavar="FOLDER")
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    with served() as address, sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                Stage.image = scene(0)
                context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
                page = context.new_page()
                page.goto(address)
                for name in take(page):
                    path = folder / f"{name}_{width}_{scheme}.png"
                    page.screenshot(path=path, full_page=True)
                    print(path, flush=True)
                context.close()
        browser.close()


def take(page: Page) -> Iterator[str]:
    """Bring the page into one state after the other; give the name of each."""
    for objects in (0, 1, 40):
        Stage.image = scene(objects)
        found = {40: 32}.get(objects, objects)
        page.wait_for_selector(f"#total:has-text('({found})')")
        yield f"objects{found}"
    page.locator("#classes-box summary").click()
    yield "open"
    page.locator("#classes-box summary").click()
    Renamed.spread = True
    page.wait_for_selector(f"#counts li >> nth={MANY_CLASSES - 1}")
    yield "classes25"
    Renamed.spread = False
    Stage.image = None
    page.wait_for_selector("#state:has-text('attempt')")
    yield "lost"
    Stage.image = scene(1)
    page.wait_for_selector("#total:has-text('(1)')")
    yield "back"
    page.click("#record")
    page.wait_for_selector("#badge:not([hidden])")
    page.wait_for_timeout(500)
    page.click("#pause")
    yield "paused"
    page.click("#pause")
    page.click("#record")
    page.wait_for_selector("#download:not([hidden])")
    yield "recorded"
    page.click("#tab-file")
    with tempfile.TemporaryDirectory() as place:
        good, bad = Path(place) / "a scene.jpg", Path(place) / "holiday_in_a_very_long_name_without_spaces_2024.jpg"
        cv2.imwrite(str(good), scene(40))
        bad.write_bytes(good.read_bytes()[:300])
        page.set_input_files("#choose", [good, bad])
        page.wait_for_selector("#results [data-state] >> nth=1")
    yield "files"
    page.click("#tab-camera")
    yield "camera"


def scene(objects: int) -> NDArray[np.uint8]:
    return scenes.make_scene(1, SIZE_WH, objects).image if objects else np.full((720, 1280, 3), 90, np.uint8)


@contextmanager
def served() -> Iterator[str]:
    """Serve the stage while the block runs."""
    model: Any = Renamed(cvmask.load("shapes", score_threshold=0.0, size="native"))
    Stage.image = scene(0)
    service = Service(model, Stage, name="shapes", controls=Controls())
    socket = listen("127.0.0.1", 0)
    server = make_server(make_app(service), service.limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        service.close()
        socket.close()


if __name__ == "__main__":
    main()
