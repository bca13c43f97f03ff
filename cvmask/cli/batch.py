"""cvmask batch: archives of pictures and videos, on all processors of a machine or of a cluster."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from cvmask import batches
from cvmask.batches.options import Options, need_ray
from cvmask.cli import loading, options
from cvmask.cli.options import ModelOptions, take
from cvmask.cli.progress import BatchProgress, say
from cvmask.system.interrupts import raise_if_interrupted

if TYPE_CHECKING:
    from cvmask.batches.job import Progress

EPILOG = """\
examples:
  cvmask batch photos/ films/ -o found
  cvmask batch s3://bucket/shards/ -o s3://bucket/found --address auto
  cvmask batch files.txt -o found --annotated --max-failures 100

If it is stopped, run the same command again to continue.
"""


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "batch",
        EPILOG,
        help="process an archive on all processors or a cluster, into Parquet",
        description="Find objects in archives of pictures and videos and write a Parquet table of them.",
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE",
                        help="a folder, a pattern in quotes, a file, a list (.txt), a tar shard, Parquet, or an "
                             "address of one of these: s3://bucket/folder")  # fmt: skip
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="a folder, or an address")
    group = parser.add_argument_group("work")
    group.add_argument("--address", metavar="ADDRESS",
                       help="of a Ray cluster: auto, host:6379, ray://host:10001 (default: this machine)")  # fmt: skip
    group.add_argument("--workers", type=options.positive, metavar="N",
                       help="processes, each with its own model (default: by the number of processors)")  # fmt: skip
    group.add_argument("--threads", type=options.positive, default=1, metavar="N",
                       help="threads of each worker (default: 1)")  # fmt: skip
    group.add_argument("--part-frames", type=options.positive, default=64, metavar="N",
                       help="frames in a part, the most work that a crash loses per worker (default: 64)")  # fmt: skip
    group.add_argument("--max-failures", type=options.whole, metavar="N",
                       help="stop after more than N failures (default: never)")  # fmt: skip
    group.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier run")
    group.add_argument("--add", action="store_true", help="take in files that came since the first run")
    group.add_argument("--stride", type=options.positive, default=1, metavar="N", help="every N-th frame of videos")
    group.add_argument("--image-column", metavar="NAME", help="the column of picture bytes in Parquet files")
    group.add_argument("--soft-masks", action="store_true", help="keep the soft masks in the table too")
    group.add_argument("--annotated", action="store_true", help="write annotated pictures and videos too")
    options.add_model_options(parser)
    options.add_tile_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code: 1 if every input failed, 3 if some did."""
    return go_through(args.sources, args.output, take(ModelOptions, args), take(Options, args))


def go_through(sources: Sequence[str], output: str, wanted: ModelOptions, how: Options) -> int:
    """Process the archive; every option of `cvmask.batch` is a flag of the same name."""
    need_ray()
    model = loading.load_model(wanted)
    with BatchProgress() as bar:

        def on_progress(progress: Progress) -> None:
            raise_if_interrupted()
            bar.advance(progress)

        how = replace(how, on_progress=on_progress)
        settings = {option.name: getattr(how, option.name) for option in fields(how)}
        summary = batches.batch(sources, output, model, **settings)
    say(f"{summary['frames']} frames, {summary['objects']} objects, {summary['failed']} failed -> {output}")
    say(_about_last_run(summary["last_run"]) if bar.shown else "nothing left to do")
    for reason, count in sorted(summary["reasons"].items(), key=lambda one: -one[1]):
        say(f"cvmask: {count} failed: {reason}", error=True)
    if summary["failed"]:
        where = f"the rows of {output.rstrip('/')}/parts with an error"
        say(f"cvmask: see the reasons in {where}; --retry-failed tries them again", error=True)
    if summary["new_files"]:
        say(f"cvmask: {summary['new_files']} files came since and are not in the list: --add takes them in", error=True)
    return 0 if not summary["failed"] else (3 if summary["frames"] else 1)


def _about_last_run(last: dict[str, Any]) -> str:
    rate = f"{last['frames_per_second']:.1f} a second with {last['workers']} workers"
    return f"this run: {last['frames']} frames in {last['elapsed_s']:.1f} s, {rate}"
