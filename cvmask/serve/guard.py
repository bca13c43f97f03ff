"""Access control and limits for requests: an ASGI middleware around the whole app."""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from importlib import resources
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvmask.serve.limits import Limits
from cvmask.serve.metrics import Metrics
from cvmask.serve.pool import share, within
from cvmask.serve.problems import Problem, busy

COOKIE = "cvmask_token"
DETECT, CLIPS, CAMERA = "/v1/detect", "/v1/clips", "/v1/camera"
# One is being received, one waits for the loop, one waits for its turn.
_MESSAGES = 3
_OPEN_PATHS = ("/healthz", "/readyz")
# The page that asks for the token.
_DOOR = "token.html"
_DOOR_PATHS = ("/page/page.css", "/page/icon.svg")
_SMALL_BODY = 64 << 10
_DIGITS = 18
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Checks every request before the app sees it.

    Parameters
    ----------
    token
        The token that a client must send, as ``Authorization: Bearer`` or as the cookie that ``/?token=`` sets.
        None: no token.
    hosts
        Host names that requests may use, in lower case, without a port. None: any; with a token, DNS rebinding is
        no threat.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, metrics: Metrics, token: str | None, hosts: Collection[str] | None
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._open: Counter[str] = Counter()
        self._held_bytes: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        at_once, send = send, _secured(send, self._limits.answer_s)
        given = _token_of(scope) if scope["path"] == "/" else ""
        if given and self._matches(given):
            response = RedirectResponse("/", 303)
            # Lax: a link in a chat or a mail opens the page.
            safe = scope["scheme"] == "https"
            response.set_cookie(_cookie(headers), given, httponly=True, samesite="lax", secure=safe)
            await response(scope, receive, send)
            return
        problem = self._refusal(scope, headers)
        if problem is not None and problem.status == 401 and _is_for_people(scope, headers):
            page = resources.files("cvmask.serve").joinpath("page").joinpath(_DOOR).read_bytes()
            await HTMLResponse(page, 401, {"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        if problem is not None:
            await _refuse(problem, scope, receive, send)
            return
        client = client_of(scope)
        self._open[client] += 1
        body = _Body(self, scope, receive, self._limits)
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            if scope["type"] == "websocket":
                body.hold(_MESSAGES * _most_bytes(scope["path"], self._limits))
            await self._app(scope, body if scope["type"] == "http" else receive, noted)
        except Problem as error:
            # For a request, the app has already answered it.
            if begun or scope["type"] == "http":
                raise
            await _refuse(error, scope, receive, send)
        except asyncio.CancelledError:
            # The server ends, and has waited for this. It does not wait for the answer.
            if begun or scope["type"] != "http":
                raise
            await _refuse(busy("the server is ending", 10), scope, receive, at_once)
        finally:
            self._free(self._open, client, 1)
            self._free(self._held_bytes, client, body.held_bytes)

    def hold(self, client: str, count: int) -> None:
        """Count bytes held in memory; Problem if there are too many."""
        self._held_bytes[client] += count
        if sum(self._held_bytes.values()) > self._limits.held_bytes:
            raise busy("the pictures of all clients together are too large for now", 2)
        if self._held_bytes[client] > share(self._limits.held_bytes):
            raise busy("the pictures of this client together are too large for now", 2)

    @staticmethod
    def _free(counts: Counter[str], client: str, count: int) -> None:
        counts[client] -= count
        if not counts[client]:
            del counts[client]

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        reason, problem = self._look(scope, headers)
        if reason:
            self._metrics.count("refused_total", {"reason": reason})
        return problem

    def _look(self, scope: Scope, headers: Headers) -> tuple[str, Problem | None]:
        host = headers.get("host", "")
        if self._hosts is not None and name_of(host) not in self._hosts:
            cure = f"call it by one of {', '.join(sorted(self._hosts))}, or start it with --name NAME"
            return "host", Problem(421, f"this server is not called {host[:100]!r}", cure)
        if scope["path"] in _OPEN_PATHS:
            return "", None
        if scope["path"] not in _DOOR_PATHS and self._token is not None and not self._admitted(headers):
            cure = "open the address that was printed at the start, or send Authorization: Bearer TOKEN"
            return "token", Problem(401, "no token, or a wrong one", cure, {"WWW-Authenticate": "Bearer"})
        safe = scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        if not safe and origin is not None and _place_of(origin) != host:
            cure = "use the page that this server itself serves; programs leave Origin out"
            return "origin", Problem(403, f"requests from {origin[:100]!r} are not allowed", cure)
        most = self._limits.connections
        if sum(self._open.values()) >= most:
            return "connections", busy(f"all {most} connections are taken", 5)
        if self._open[client_of(scope)] >= share(most):
            return "connections", busy(f"this client has {share(most)} of the {most} connections: all it may have", 5)
        most = _most_bytes(scope["path"], self._limits)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > _DIGITS or int(length) > most:
            return "size", _too_large(length, most)
        return "", None

    def _admitted(self, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(bearer.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(_cookie(headers))
        except CookieError:
            return False
        return morsel is not None and self._matches(morsel.value)

    def _matches(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)


class _Body:
    """The body of a request, as an ASGI `receive` with limits for its size and time."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, limits: Limits) -> None:
        self._guard, self._receive = guard, receive
        self._most = _most_bytes(scope["path"], limits)
        # Clips are written to a file as they arrive, which may take long.
        self._in_memory = scope["path"] != CLIPS
        self._limit_s = limits.body_s if self._in_memory else limits.clip_s
        self._until_s = asyncio.get_running_loop().time() + self._limit_s
        self._silence_s = limits.body_s
        self._client = client_of(scope)
        self._got, self._whole = 0, False
        self.held_bytes = 0

    def hold(self, count: int) -> None:
        """Count bytes as held until the request ends; Problem if there are too many."""
        self.held_bytes += count
        self._guard.hold(self._client, count)

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        left_s = self._until_s - asyncio.get_running_loop().time()
        try:
            message = await within(max(0.0, min(left_s, self._silence_s)), self._receive())
        except asyncio.TimeoutError:
            cure = "send it faster, or something smaller"
            if left_s > self._silence_s:
                raise Problem(408, f"nothing came for {self._silence_s:g} s", cure) from None
            raise Problem(408, f"the body took longer than {self._limit_s:g} s", cure) from None
        count = len(message.get("body", b""))
        self._got += count
        self._whole = not message.get("more_body", False)
        if self._got > self._most:
            raise _too_large(f"more than {self._most}", self._most)
        if self._in_memory:
            self.hold(count)
        return message


def _is_for_people(scope: Scope, headers: Headers) -> bool:
    """Return whether a browser requests the page itself."""
    return scope["type"] == "http" and scope["path"] == "/" and "text/html" in headers.get("accept", "")


def _cookie(headers: Headers) -> str:
    """Name the cookie after the port of the request, because a host's ports share their cookies."""
    port = headers.get("host", "").rpartition(":")[2]
    return f"{COOKIE}_{port}" if port.isascii() and port.isdecimal() else COOKIE


def _most_bytes(path: str, limits: Limits) -> int:
    sizes = {DETECT: limits.picture_bytes, CLIPS: limits.clip_bytes, CAMERA: limits.frame_bytes}
    return sizes.get(path, _SMALL_BODY)


def client_of(scope: Scope) -> str:
    """Give the address from which a request comes."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _token_of(scope: Scope) -> str:
    """Give the token in the address; "" if there is none."""
    query: bytes = scope["query_string"]
    return parse_qs(query.decode("latin-1")).get("token", [""])[-1]


def _too_large(length: str, most: int) -> Problem:
    return Problem(413, f"a body of {length[:20]} bytes, the limit is {most}", "send something smaller")


def _place_of(origin: str) -> str:
    """Give host and port of an Origin header; "" if it has none."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def name_of(host: str) -> str:
    """Remove the port from a Host header; in lower case."""
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 or "]:" in host else host
    return name.strip("[]").lower()


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        response = problem.response()
        # The rest of the body is not read.
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.close", "code": 1008, "reason": problem.detail[:100]})


def _secured(send: Send, answer_s: float) -> Send:
    async def secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _SECURITY.items():
                headers.setdefault(name, value)
        # A client that stops reading must not hold a connection for ever.
        await within(answer_s, send(message))

    return secured
