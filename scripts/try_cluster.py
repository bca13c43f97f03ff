"""A batch on three Ray nodes on loopback of which one is killed midway: nothing may be lost or doubled."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq

import cvmask
from cvmask import scenes

NODES = 3
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats",
       "--object-store-memory=268435456"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--frames", type=int, default=600, help="of one video")
    parser.add_argument("--keep", action="store_true", help="kill nothing, for comparison")
    parser.add_argument("--verbose", action="store_true", help="tell of every part")
    args = parser.parse_args()
    # Else the head takes a token that an earlier Ray left in the home folder, and asks everyone for it.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory(prefix="cvmask-cluster-") as folder, ExitStack() as undo:
        work = Path(folder)
        expected = make_archive(work / "in", args.pictures, args.frames)
        port = free_port()
        nodes = [start_node(undo, work, port, number) for number in range(NODES)]
        began = time.monotonic()
        killed_at: list[float] = []

        def look(progress: Any) -> None:
            if args.verbose:
                print(f"{time.monotonic() - began:.0f} s: {progress.done} of {progress.total} units", flush=True)
            if not args.keep and not killed_at and progress.done > progress.total // 3:
                kill_tree(nodes[-1].pid)
                killed_at.append(time.monotonic() - began)

        summary = cvmask.batch(
            work / "in", work / "out", cvmask.load("shapes", size="160x120"),
            address=f"127.0.0.1:{port}", part_frames=16, on_progress=look,
        )  # fmt: skip
        report(work / "out", expected, summary, killed_at, time.monotonic() - began)


def make_archive(folder: Path, pictures: int, frames: int) -> set[tuple[str, int]]:
    """Write pictures and a video; give every frame that must come out."""
    folder.mkdir()
    for seed in range(pictures):
        image = next(scenes.moving_scene(seed, 1, (160, 120), objects=3)).image
        cv2.imwrite(str(folder / f"{seed:05d}.png"), image)
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (160, 120))
    for moving in scenes.moving_scene(1, frames, (160, 120), objects=3):
        writer.write(moving.image)
    writer.release()
    stills = {(str(path), 0) for path in folder.glob("*.png")}
    return stills | {(str(folder / "clip.mp4"), index) for index in range(frames)}


def start_node(undo: ExitStack, work: Path, port: int, number: int) -> subprocess.Popen[bytes]:
    """Start one node; the first is the head, where this program is."""
    where = ["--head", f"--port={port}", "--include-dashboard=false"] if not number else [f"--address=127.0.0.1:{port}"]
    with open(work / f"node{number}.log", "wb") as log:
        node = subprocess.Popen([*RAY, *where], stdout=log, stderr=log)
    undo.callback(node.wait)
    undo.callback(kill_tree, node.pid)
    wait_for_start(work / f"node{number}.log", node)
    return node


def wait_for_start(log: Path, node: subprocess.Popen[bytes], most_s: float = 90) -> None:
    """Wait until a node says that it runs: two that start at once get into each other's way."""
    end = time.monotonic() + most_s
    while b"Ray runtime started" not in log.read_bytes():
        if time.monotonic() > end or node.poll() is not None:
            sys.exit(f"a node of the cluster does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_tree(pid: int) -> None:
    """Kill a process and everything that it started, at once and without warning."""
    family = [pid]
    for one in family:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            family += [int(child) for child in task.read_text().split()]
    for one in family:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue


def report(
    out: Path, expected: set[tuple[str, int]], summary: dict[str, Any], killed_at: list[float], seconds: float
) -> None:
    rows = pq.read_table(out / "parts", columns=["source", "frame", "object"]).to_pylist()
    found = Counter((row["source"], row["frame"]) for row in rows if row["object"] in (None, 0))
    doubled = sum(count - 1 for count in found.values())
    lost = len(expected - found.keys())
    print("| nodes | killed after s | frames wanted | found | lost | doubled | failed | s |")
    print("|---|---|---|---|---|---|---|---|")
    killed = f"{killed_at[0]:.0f}" if killed_at else "none"
    cells = NODES, killed, len(expected), len(found), lost, doubled, summary["failed"], f"{seconds:.0f}"
    print("| " + " | ".join(map(str, cells)) + " |")
    if lost or doubled or found.keys() - expected or not (out / "_SUCCESS").exists():
        sys.exit(json.dumps(summary))


if __name__ == "__main__":
    main()
