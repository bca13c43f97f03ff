"""A batch on three Ray nodes of which one is lost midway: no frame may be lost or doubled.

The nodes are processes on loopback, and one is killed; with --cut each has a network namespace of its own, and
one is cut off: its workers go on writing while others do the same work again. That takes Linux and root.
"""

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
import own_network
import pyarrow.parquet as pq

import cvmask
from cvmask import scenes

NODES = 3
RAY = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats",
       "--object-store-memory=268435456"]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--frames", type=int, default=600, help="of one video")
    parser.add_argument("--keep", action="store_true", help="kill nothing, for comparison")
    parser.add_argument("--cut", action="store_true", help="cut a node off its network instead of killing it")
    parser.add_argument("--verbose", action="store_true", help="tell of every part")
    args = parser.parse_args()
    if args.cut:
        own_network.enter()
    # Else the head takes a token that an earlier Ray left in the home folder, and asks everyone for it.
    os.environ["RAY_AUTH_MODE"] = "disabled"
    with tempfile.TemporaryDirectory(prefix="cvmask-cluster-") as folder, ExitStack() as undo:
        work = Path(folder)
        expected = make_archive(work / "in", args.pictures, args.frames)
        host = own_network.address(0) if args.cut else "127.0.0.1"
        head = f"{host}:{free_port(host)}"
        nodes = [start_node(undo, work, head, number, args.cut) for number in range(NODES)]
        began = time.monotonic()
        lost_at: list[float] = []

        def look(progress: Any) -> None:
            if args.verbose:
                print(f"{time.monotonic() - began:.0f} s: {progress.done} of {progress.total} units", flush=True)
            if not args.keep and not lost_at and progress.done > progress.total // 3:
                own_network.cut_off(NODES - 1) if args.cut else kill_tree(nodes[-1].pid)
                lost_at.append(time.monotonic() - began)

        summary = cvmask.batch(
            work / "in", work / "out", cvmask.load("shapes", size="160x120"),
            address=head, part_frames=16, on_progress=look,
        )  # fmt: skip
        seconds = time.monotonic() - began
        if args.cut and lost_at:
            print(f"on the node that was cut off then ran: {', '.join(workers_below(nodes[-1].pid)) or 'nothing'}")
        report(work / "out", expected, summary, lost_at, seconds)


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


def start_node(undo: ExitStack, work: Path, head: str, number: int, apart: bool) -> subprocess.Popen[bytes]:
    """Start one node; the first is the head, where this program is."""
    port = head.rpartition(":")[2]
    where = [f"--address={head}"] if number else ["--head", f"--port={port}", "--include-dashboard=false"]
    if apart:
        where.append(f"--node-ip-address={own_network.address(number)}")
    with open(work / f"node{number}.log", "wb") as log:
        if apart and number:
            node = own_network.start(number, [*RAY, *where], log.fileno())
        else:
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


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def family_of(pid: int) -> list[int]:
    """Find a process and everything that it started."""
    family = [pid]
    for one in family:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            family += [int(child) for child in task.read_text().split()]
    return family


def workers_below(pid: int) -> list[str]:
    """Name the workers among the processes that one has started."""
    titles = [Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[0].decode() for one in family_of(pid)]
    return [title for title in titles if title.startswith("ray::MapWorker")]


def kill_tree(pid: int) -> None:
    """Kill a process and everything that it started, at once and without warning."""
    for one in family_of(pid):
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue


def report(
    out: Path, expected: set[tuple[str, int]], summary: dict[str, Any], lost_at: list[float], seconds: float
) -> None:
    """Print what came of it; exit code 1 if a frame is lost, doubled or none of the archive's."""
    rows = pq.read_table(out / "parts", columns=["source", "frame", "object"]).to_pylist()
    found = Counter((row["source"], row["frame"]) for row in rows if row["object"] in (None, 0))
    doubled = sum(count - 1 for count in found.values())
    lost = len(expected - found.keys())
    print("| nodes | one gone after s | frames wanted | found | lost | doubled | failed | s |")
    print("|---|---|---|---|---|---|---|---|")
    gone = f"{lost_at[0]:.0f}" if lost_at else "none"
    cells = NODES, gone, len(expected), len(found), lost, doubled, summary["failed"], f"{seconds:.0f}"
    print("| " + " | ".join(map(str, cells)) + " |")
    if lost or doubled or found.keys() - expected or not (out / "_SUCCESS").exists():
        sys.exit(json.dumps(summary))


if __name__ == "__main__":
    main()
