"""cvmask serve: a live page and an HTTP interface."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import secrets
from typing import Callable

import cv2

from cvmask.cli import options
from cvmask.cli.options import UsageError, add_stream_options, check_part, source_options
from cvmask.cli.progress import say
from cvmask.errors import CvmaskError, SourceError, install
from cvmask.results.masks import threshold_of
from cvmask.streams.sources import Source, open_source
from cvmask.system.process import opencv_silent

EPILOG = """\
examples:
  cvmask serve -m shapes clip.mp4                    a video, over and over, at http://127.0.0.1:8000
  cvmask serve 0                                     a camera
  cvmask serve                                       no source: the browser's own camera, dropped files, HTTP
  cvmask serve rtsp://camera/live --host 0.0.0.0     for other machines; prints an address with a token

The token can be given in CVMASK_TOKEN instead of --token, where other users cannot see it.
"""
NEEDED = ("fastapi", "uvicorn", "websockets", "python_multipart")
WILDCARDS = ("0.0.0.0", "::", "")
TOKEN_LENGTH = 16


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "serve",
        help="a live page and an HTTP interface (needs FastAPI and uvicorn)",
        description="Show a source, annotated, on a web page, and answer requests over HTTP.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="a camera (0, 1), an address, a video, a picture, or a folder"
    )
    group = parser.add_argument_group("server")
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    group.add_argument("--port", type=_port, default=8000, help="0 for any that is free (default: 8000)")
    group.add_argument(
        "--token", metavar="TOKEN", help="what clients must bring (default: none on 127.0.0.1, elsewhere a new one)"
    )
    group.add_argument(
        "--name", type=_name, action="append", default=[], metavar="NAME",
        help="a further name of this server, as behind a proxy",
    )
    options.add_model_options(parser)
    # Requests and pages share the workers; nothing here is a long video, for which the loop chooses.
    add_stream_options(parser, track=False, workers=1)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    token = _token(args)
    check_part(args)
    _check_extra()
    from cvmask.serve import server
    from cvmask.serve.app import make_app
    from cvmask.serve.guard import name_of
    from cvmask.serve.service import Service
    from cvmask.serve.view import Controls

    if token is None and not server.is_loopback(args.host):
        token = secrets.token_urlsafe(24)
    # What is wrong with the address is said before a large model is loaded.
    with server.listen(args.host, args.port) as socket, opencv_silent():
        wanted = args.score_threshold
        args.score_threshold = 0.0
        model = options.load_model(args)
        # One network for each worker is faster on cores of its own than all of them on all cores.
        cv2.setNumThreads(max(1, cv2.getNumberOfCPUs() // args.workers))
        controls = Controls(
            wanted, threshold_of(args.mask_paste, args.mask_threshold), classes=model.settings.classes
        )
        service = Service(
            model, _opener(args), name=os.path.basename(args.model), controls=controls, workers=args.workers
        )
        try:
            hosts = None if token else {"localhost", "127.0.0.1", "::1", args.host.lower(), *map(name_of, args.name)}
            running = server.make_server(make_app(service, token=token, hosts=hosts), service.limits)
            say(f"cvmask: {address(args.host, socket.getsockname()[1], token)}")
            running.run(sockets=[socket])
        finally:
            service.close()
    say("cvmask: stopped", error=True)
    return 0


def address(host: str, port: int, token: str | None) -> str:
    """Give the address to open in a browser."""
    import socket

    name = socket.gethostname() if host in WILDCARDS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _opener(args: argparse.Namespace) -> Callable[[], Source] | None:
    if args.source is None:
        return None
    told: set[str] = set()

    def tell(error: SourceError) -> None:
        # The folder is gone through again and again.
        if str(error) not in told:
            told.add(str(error))
            say(f"cvmask: {error}", error=True)

    # The feed takes the newest frame itself, and opens again what is lost.
    given = {**source_options(args), "every_frame": True, "on_error": tell}
    return lambda: open_source(args.source, **given)


def _token(args: argparse.Namespace) -> str | None:
    token: str | None = args.token or os.environ.get("CVMASK_TOKEN") or None
    # These need no quoting, neither in an address nor in a cookie.
    if token is not None and not re.fullmatch(f"[A-Za-z0-9_-]{{{TOKEN_LENGTH},}}", token):
        raise UsageError(f"a token needs {TOKEN_LENGTH} or more letters, digits, - and _, got {len(token)} signs")
    return token


def _check_extra() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CvmaskError(f"cvmask serve needs {', '.join(missing)}: {install('serve')}")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", text):
        raise argparse.ArgumentTypeError(f"needed a name like cam.example.org, got {text!r}")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"needed a port from 0 to 65535, got {text!r}")
    return int(text)
