"""How much does the way over HTTP cost, and what do viewers cost? Prints two tables, in Markdown."""

from __future__ import annotations

import argparse
import http.client
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Callable

import cv2
import numpy as np
from websockets.sync.client import connect

import cvmask
from cvmask import scenes
from cvmask.streams.sinks import VideoFile
from cvmask.streams.sources.image_source import decode_image

SIZE_WH = (640, 480)
WARM_S = 3.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=5.0, help="of each of the three parts (default: 5)")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    print(f"OpenCV {cv2.__version__}, {cv2.getNumberOfCPUs()} cores, {args.minutes:g} min a part, shapes model,")
    print(f"{SIZE_WH[0]}x{SIZE_WH[1]} JPEG, {args.workers} workers\n", flush=True)
    pictures = [
        cv2.imencode(".jpg", scenes.make_scene(seed, SIZE_WH, objects=6).image)[1].tobytes() for seed in range(16)
    ]
    seconds = 60 * args.minutes
    direct = in_process(pictures, args.workers, seconds)
    compare(direct, pictures, args, seconds)
    view(args, seconds)


def in_process(pictures: list[bytes], workers: int, seconds: float) -> float:
    """Decode and find in this process, with as many networks as the server has; pictures a second."""
    cv2.setNumThreads(max(1, cv2.getNumberOfCPUs() // workers))
    model = cvmask.load("shapes")
    models = [model, *(model.clone() for _ in range(workers - 1))]

    def work(number: int) -> None:
        models[number % workers].detect(decode_image(pictures[number % len(pictures)], "picture")[0])

    times, errors = repeat([work] * workers, seconds)
    assert not errors, errors
    return len(times) / seconds


def compare(direct: float, pictures: list[bytes], args: argparse.Namespace, seconds: float) -> None:
    """Ask the server for the same, and print the table."""
    with server(args.workers) as (process, address):
        local = threading.local()

        def ask(number: int) -> None:
            if not hasattr(local, "connection"):
                local.connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
            headers = {"Content-Type": "image/jpeg"}
            local.connection.request("POST", "/v1/detect", pictures[number % len(pictures)], headers)
            answer = local.connection.getresponse()
            body = answer.read()
            if answer.status != 200 or not body.endswith(b"]}"):
                raise ValueError(f"{answer.status}: {body[:200]!r}")

        repeat([ask] * args.clients, WARM_S)
        before = resident_mb(process)
        times, errors = repeat([ask] * args.clients, seconds)
        after = resident_mb(process)
    rate = len(times) / seconds
    p50, p95 = np.percentile(times, [50, 95]) * 1000 if times else (0, 0)
    print("| | |\n|---|---|")
    print(f"| in one process | {direct:.1f} pictures/s |")
    print(f"| `POST /v1/detect`, {args.clients} clients | {rate:.1f} pictures/s, {rate / direct:.0%} of it |")
    print(f"| requests, errors | {len(times)}, {len(errors)} {errors[:1] or ''} |")
    print(f"| answer: median, 95% below | {p50:.0f} ms, {p95:.0f} ms |")
    print(f"| memory of the server: start, end | {before:.0f} MB, {after:.0f} MB |\n", flush=True)


def view(args: argparse.Namespace, seconds: float) -> None:
    """Look on with many viewers, and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with VideoFile(clip, frame_rate=Fraction(25)) as video:
            for scene in scenes.moving_scene(5, 100, SIZE_WH, objects=6):
                video.write(scene.image)
        with server(args.workers, str(clip)) as (process, address):
            ending = threading.Event()
            counts = [0] * args.viewers

            def look_on(number: int) -> None:
                place = f"ws://{address.netloc}/v1/live"
                with connect(place, proxy=None, max_size=None, compression=None) as socket:
                    while not ending.is_set():
                        socket.recv(timeout=30)
                        counts[number] += 1
                        socket.send('{"do":"seen"}')

            threads = [threading.Thread(target=look_on, args=(number,)) for number in range(args.viewers)]
            for thread in threads:
                thread.start()
            time.sleep(WARM_S)
            first, seen, memory = metrics(address), list(counts), resident_mb(process)
            time.sleep(seconds)
            last, now, after = metrics(address), list(counts), resident_mb(process)
            ending.set()
            for thread in threads:
                thread.join()
    frames, inferences, encodings = (
        last[name] - first[name] for name in ("frames_total", "inferences_total", "encodings_total")
    )
    got = [late - early for late, early in zip(now, seen)]
    print("| | |\n|---|---|")
    print(f"| viewers | {args.viewers} |")
    print(f"| frames | {frames:.0f}, {frames / seconds:.1f} a second |")
    print(f"| inferences a frame | {inferences / frames:.3f} |")
    print(f"| encodings a frame | {encodings / frames:.3f} |")
    print(f"| pictures a viewer got: least, most | {min(got)}, {max(got)} |")
    print(f"| memory of the server: start, end | {memory:.0f} MB, {after:.0f} MB |")


def repeat(works: list[Callable[[int], None]], seconds: float) -> tuple[list[float], list[str]]:
    """Do each work again and again, in a thread of its own; how long each time took, and the errors."""
    times: list[float] = []
    errors: list[str] = []
    until_s = time.perf_counter() + seconds

    def go(first: int, work: Callable[[int], None]) -> None:
        number = first
        while (began_s := time.perf_counter()) < until_s:
            try:
                work(number)
            except Exception as error:
                errors.append(repr(error))
                continue
            times.append(time.perf_counter() - began_s)
            number += len(works)

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, errors


@contextmanager
def server(workers: int, *source: str) -> Iterator[tuple[subprocess.Popen[str], urllib.parse.SplitResult]]:
    """Run `cvmask serve` while the block runs."""
    command = [sys.executable, "-m", "cvmask", "serve", "-m", "shapes", "--port", "0"]
    command += ["--workers", str(workers), *source]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, urllib.parse.urlsplit(process.stdout.readline().split()[1])
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0, f"the server ended with {code}"


def metrics(address: urllib.parse.SplitResult) -> dict[str, float]:
    """Read the counters of the server, summed over their labels."""
    found: dict[str, float] = {}
    for line in urllib.request.urlopen(f"http://{address.netloc}/metrics").read().decode().splitlines():
        if not line.startswith("#"):
            name = line.split("{")[0].split(" ")[0].removeprefix("cvmask_")
            found[name] = found.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def resident_mb(process: subprocess.Popen[str]) -> float:
    """Tell the memory of a process."""
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
