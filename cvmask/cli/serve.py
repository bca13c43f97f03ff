"""cvmask serve: a live page and an HTTP interface."""

from __future__ import annotations

import argparse
import importlib.util
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Callable

import cv2

from cvmask.cli import loading, options
from cvmask.cli.options import ModelOptions, StreamOptions, UsageError, add_stream_options, take
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


@dataclass(frozen=True)
class ServeOptions:
    """What is served, and to whom.

    Attributes
    ----------
    source
        None: what browsers and requests bring.
    token
        None: that of the environment, or none on this machine and a new one elsewhere.
    name
        Further names of this server.
    proxy
        Addresses, or networks, of proxies that say who the client is.

    Raises
    ------
    UsageError
        If the token is too short or needs quoting.
    """

    source: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    name: Sequence[str] = ()
    proxy: Sequence[str] = ()

    def __post_init__(self) -> None:
        # A token needs no quoting, neither in an address nor in a cookie.
        token = self.wanted_token
        if token is not None and not re.fullmatch(f"[A-Za-z0-9_-]{{{TOKEN_LENGTH},}}", token):
            raise UsageError(f"a token needs {TOKEN_LENGTH} or more letters, digits, - and _, got {len(token)} signs")

    @property
    def wanted_token(self) -> str | None:
        """The token that was given, as a flag or in the environment."""
        return self.token or os.environ.get("CVMASK_TOKEN") or None


def add_parser(subparsers: options.Subparsers) -> None:
    """Add the verb."""
    parser = options.add_verb(
        subparsers,
        "serve",
        EPILOG,
        help="a live page and an HTTP interface (needs FastAPI and uvicorn)",
        description="Show a source, annotated, on a web page, and answer requests over HTTP.",
    )
    parser.add_argument(
        "source", nargs="?", metavar="SOURCE", help="a camera (0, 1), an address, a video, a picture, a folder, or -"
    )
    group = parser.add_argument_group("server")
    group.add_argument("--host", default=ServeOptions.host, help="address to listen on (default: 127.0.0.1)")
    group.add_argument("--port", type=_port, default=ServeOptions.port, help="0 for any that is free (default: 8000)")
    group.add_argument(
        "--token", metavar="TOKEN", help="what clients must bring (default: none on 127.0.0.1, elsewhere a new one)"
    )
    group.add_argument(
        "--name", type=_name, action="append", default=[], metavar="NAME",
        help="a further name of this server, as behind a proxy",
    )
    group.add_argument(
        "--proxy", type=_network, action="append", default=[], metavar="ADDRESS",
        help="a proxy, or a network of them (10.0.0.0/8), whose X-Forwarded-For and X-Forwarded-Proto are believed",
    )
    options.add_model_options(parser)
    # Requests and pages share the workers; nothing here is a long video, for which the loop chooses.
    add_stream_options(parser, track=False, workers=1)


def run(args: argparse.Namespace) -> int:
    """Run the verb and give its exit code."""
    return serve(take(ServeOptions, args), take(ModelOptions, args), take(StreamOptions, args))


def serve(wanted: ServeOptions, model_options: ModelOptions, stream: StreamOptions) -> int:
    """Serve until the program is stopped."""
    _check_extra()
    from cvmask.serve import server
    from cvmask.serve.app import make_app
    from cvmask.serve.guard import name_of
    from cvmask.serve.service import Service
    from cvmask.serve.view import Controls

    token, workers = wanted.wanted_token, stream.workers or 1
    if token is None and not server.is_loopback(wanted.host):
        token = secrets.token_urlsafe(24)
    # What is wrong with the address is said before a large model is loaded.
    with server.listen(wanted.host, wanted.port) as socket, opencv_silent():
        # Viewers may ask for any threshold.
        model = loading.load_model(replace(model_options, score_threshold=0.0), captions=True)
        # One network for each worker is faster on cores of its own than all of them on all cores.
        cv2.setNumThreads(max(1, cv2.getNumberOfCPUs() // workers))
        mask_threshold = threshold_of(model_options.mask_paste, model_options.mask_threshold)
        controls = Controls(model_options.score_threshold, mask_threshold, classes=model.settings.classes)
        name = os.path.basename(model_options.model)
        source = None if wanted.source is None else _opener(wanted.source, stream)
        service = Service(model, source, name=name, controls=controls, workers=workers)
        try:
            names = {"localhost", "127.0.0.1", "::1", wanted.host.lower(), *map(name_of, wanted.name)}
            app = make_app(service, token=token, hosts=None if token else names)
            running = server.make_server(app, service.limits, wanted.proxy)
            say(f"cvmask: {address(wanted.host, socket.getsockname()[1], token)}")
            with server.ending_in_order(running):
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


def _opener(place: str, stream: StreamOptions) -> Callable[[], Source]:
    told: set[str] = set()

    def tell(error: SourceError) -> None:
        # The folder is gone through again and again.
        if str(error) not in told:
            told.add(str(error))
            say(f"cvmask: {error}", error=True)

    # The feed takes the newest frame itself, and opens again what is lost.
    given = {**stream.source(), "every_frame": True, "on_error": tell}
    return lambda: open_source(place, **given)


def _check_extra() -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CvmaskError(f"cvmask serve needs {', '.join(missing)}: {install('serve')}")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._:\[\]-]+", text):
        raise argparse.ArgumentTypeError(f"needed a name like cam.example.org, got {text!r}")
    return text


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"needed an address like 127.0.0.1 or 10.0.0.0/8: {error}") from None


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"needed a port from 0 to 65535, got {text!r}")
    return int(text)
