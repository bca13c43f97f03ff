#!/usr/bin/env python3
"""Feeds damaged graphs to cvmask.graph.graph_def and cvmask.graph.text: anything but a ModelError is a bug.

    scripts/run fuzz_wire [RUNS] [SEED]

RUNS inputs (default 20000): mutations of small graphs, the same for a SEED. Where atheris is installed
(`pip install atheris`), it picks the mutations by what they reach in the code.
"""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

try:
    import atheris
except ImportError:
    atheris = None

import numpy as np  # noqa: E402
from graph_builder import Builder, Func, Shape, Type  # noqa: E402

with atheris.instrument_imports(include=["cvmask"]) if atheris else contextlib.nullcontext():
    from cvmask.errors import ModelError
    from cvmask.graph.graph_def import parse_graph
    from cvmask.graph.text import parse_text, print_text

SLOW = 1.0  # seconds of processor time that no input of this size may take


def seeds() -> list[bytes]:
    """Graphs with every kind of field, binary and as text."""
    b = Builder()
    b.node("Placeholder", "image", dtype=Type(4), shape=Shape((-1, 3)), flag=True, rate=0.5)
    b.node("MaxPool", "pool", "image", padding="SAME", strides=[1, 2, 2, 1])
    b.const("w", np.arange(6, dtype=np.float32).reshape(2, 3))
    b.const("n", 7, np.int32)
    b.const("s", "name")
    b.node("Conv2D", "conv", "image:0", "w", "^n", count=-7)
    binary = b.bytes()
    return [binary, print_text(parse_graph(binary)).encode(), with_functions()]


def with_functions() -> bytes:
    """A branch in a loop, and a function that calls another one twice."""
    then, body, b = Builder(), Builder(), Builder()
    then.node("TopKV2", "best", "x", "x")
    then = b.function("then", ["x"], then, out="best:indices:0")
    body.const("yes", True)
    body.node("If", "if", "yes:output:0", "x", "^yes", then_branch=then, else_branch=then)
    body.node("PartitionedCall", "call", "if:output:0", f=then)
    b.const("x", 3.0, np.float32)
    b.node("StatelessWhile", "loop", "x", body=b.function("body", ["x"], body, out="call:output:0"), cond=Func("body"))
    return b.bytes()


def try_one(data: bytes) -> None:
    """Read everything that an input has to give, as a graph and as a text."""
    start = time.process_time()
    for read in (parse_graph, lambda raw: parse_text(raw.decode("utf-8", "surrogateescape"))):
        try:
            graph = read(data)
            for node in graph:
                for key in node.attrs:
                    _ = node.attrs[key]
            print_text(graph)
        except ModelError:
            continue
        for node in graph:
            try:
                node.array()
            except ModelError:
                continue
    if time.process_time() - start > SLOW and len(data) < 100_000:
        raise RuntimeError(f"{len(data)} bytes took {time.process_time() - start:.1f} s")


def mutate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """One to four changes: bytes set, cut out, doubled, or taken from another input."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(out) + 1)
        size = rng.choice((1, 1, 2, 8, 40))
        kind = rng.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 1:
            del out[at : at + size]
        elif kind == 2:
            out[at:at] = out[at : at + size]
        elif kind == 3:
            start = rng.randrange(len(other))
            out[at:at] = other[start : start + size]
        elif kind == 4 and rng.random() < 0.1:
            del out[at:]
    return bytes(out)


def plain(runs: int, seed: int) -> None:
    rng, known = random.Random(seed), seeds()
    start = time.process_time()
    for number in range(runs):
        data = mutate(rng, rng.choice(known), rng.choice(known))
        try:
            try_one(data)
        except BaseException:
            print(f"input {number} of seed {seed}: {data!r}", file=sys.stderr)
            raise
    print(f"{runs} inputs of seed {seed} in {time.process_time() - start:.0f} s: nothing but ModelError")


def guided(runs: int, seed: int) -> None:
    corpus = Path(tempfile.mkdtemp(prefix="fuzz_wire_"))
    for number, data in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(data)
    options = [f"-runs={runs}", f"-seed={seed}", "-max_len=2048", "-print_final_stats=1"]
    options.append(f"-artifact_prefix={corpus}/")
    atheris.Setup([sys.argv[0], *options, str(corpus)], try_one)
    atheris.Fuzz()


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    (guided if atheris else plain)(count, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
