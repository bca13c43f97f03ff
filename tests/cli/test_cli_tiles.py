"""--tile, and the line that tells who needs it."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from cvmask import load, scenes
from cvmask.cli.main import main


@pytest.fixture
def wide(tmp_path):
    """Two scenes, far from each other: 2800x200, shrunk more than fourfold."""
    picture = np.full((200, 2800, 3), 90, np.uint8)
    picture[:, :200] = scenes.make_scene(3, (200, 200), objects=3).image
    picture[:, -200:] = scenes.make_scene(4, (200, 200), objects=3).image
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    return tmp_path / "wide.png"


def test_a_picture_that_is_shrunk_much_is_told(wide, tmp_path, capsys):
    assert main(["predict", "-m", "shapes", str(wide), "-o", str(tmp_path / "out")]) == 0
    assert f"cvmask: {wide}: shrunk 4.4-fold, small objects may be missed: try --tile auto" in capsys.readouterr().err


def test_tiles_find_more_and_workers_share_them(wide, tmp_path, capsys):
    found = []
    for flags in ((), ("--tile", "auto"), ("--tile", "320", "--overlap", "0.2", "--workers", "2")):
        out = tmp_path / str(len(found))
        assert main(["predict", "-m", "shapes", str(wide), "-o", str(out), "--save-json", *flags]) == 0
        found.append(json.loads((out / "wide.json").read_text())["objects"])
    assert len(found[1]) > len(found[0])
    assert found[1] == found[2]
    assert "no source here has a use" not in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_frame_of_a_video_is_looked_at_in_tiles(tmp_path, workers):
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (400, 100))
    for seed in (3, 5):
        writer.write(np.hstack([scenes.make_scene(seed + n, (100, 100), objects=2).image for n in range(4)]))
    writer.release()
    assert main(["predict", "-m", "shapes", str(tmp_path / "in.avi"), "-o", str(tmp_path / "out.avi"), "--save-json",
                 "--size", "128x128", "--tile", "100", "--workers", workers]) == 0  # fmt: skip
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    model, capture = load("shapes", size="128x128", tile=100), cv2.VideoCapture(str(tmp_path / "in.avi"))
    for line in lines:
        wanted = model.detect(capture.read()[1])
        assert json.loads(line)["detections"]["class_id"] == wanted.class_id.tolist()
        assert len(wanted) > 3
    capture.release()
    assert len(lines) == 2


def test_wrong_tiles_are_wrong_usage(wide, capsys):
    for flags, wanted in ((["--tile", "big"], "auto or a side in pixels"), (["--overlap", "2"], "overlap")):
        with pytest.raises(SystemExit) as end:
            main(["predict", str(wide), *flags])
        assert end.value.code == 2
        assert wanted in capsys.readouterr().err
