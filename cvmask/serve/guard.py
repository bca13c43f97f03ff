"""Who may come in, and how much they may bring: an ASGI middleware around the whole app."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvmask.serve.limits import Limits
from cvmask.serve.metrics import Metrics
from cvmask.serve.problems import Problem, busy
from cvmask.serve.waiting import within

COOKIE = "cvmask_token"
_OPEN_PATHS = ("/healthz", "/readyz")
_SMALL_BODY = 64 << 10
_SECURITY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """Looks at every request before the app does.

    Parameters
    ----------
    token
        What a client must bring: ``Authorization: Bearer``, or the cookie that ``/?token=`` sets. None:
        no token.
    hosts
        Names under which the server may be called, in small letters, without a port; None: any, as
        behind a token a name that was bent to this address gains nothing.
    """

    def __init__(
        self, app: ASGIApp, *, limits: Limits, metrics: Metrics, token: str | None, hosts: Collection[str] | None
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._token = None if token is None else token.encode()
        self._hosts = hosts
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        send = _secured(send, self._limits.answer_s)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[-1]
        if scope["path"] == "/" and given and self._token and self._matches(given):
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            await response(scope, receive, send)
            return
        problem = self._refusal(scope, headers)
        if problem is not None:
            await _refuse(problem, scope, receive, send)
            return
        self._open += 1
        try:
            await self._app(scope, self._limited(scope, receive), send)
        finally:
            self._open -= 1

    def _refusal(self, scope: Scope, headers: Headers) -> Problem | None:
        reason, problem = self._look(scope, headers)
        if reason:
            self._metrics.count("refused_total", {"reason": reason})
        return problem

    def _look(self, scope: Scope, headers: Headers) -> tuple[str, Problem | None]:
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            cure = f"call it by one of {', '.join(sorted(self._hosts))}, or start it with --name NAME"
            return "host", Problem(421, f"this server is not called {host[:100]!r}", cure)
        if scope["path"] in _OPEN_PATHS:
            return "", None
        if self._token is not None and not self._admitted(headers):
            cure = "open the address that was printed at the start, or send Authorization: Bearer TOKEN"
            return "token", Problem(401, "no token, or a wrong one", cure, {"WWW-Authenticate": "Bearer"})
        safe = scope["type"] == "http" and scope["method"] in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        if not safe and origin is not None and urlsplit(origin).netloc != host:
            cure = "use the page that this server itself serves; programs leave Origin out"
            return "origin", Problem(403, f"requests from {origin[:100]!r} are not allowed", cure)
        if self._open >= self._limits.connections:
            return "connections", busy(f"all {self._limits.connections} connections are taken", 5)
        most = self._most_bytes(scope)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            return "size", _too_large(length, most)
        return "", None

    def _admitted(self, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._matches(bearer.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and self._matches(morsel.value)

    def _matches(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self._token)

    def _most_bytes(self, scope: Scope) -> int:
        most = {"/v1/detect": self._limits.picture_bytes, "/v1/clips": self._limits.clip_bytes}
        return most.get(scope["path"], _SMALL_BODY)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Count the bytes of the body, and the time that it takes."""
        if scope["type"] != "http":
            return receive
        most, got, whole = self._most_bytes(scope), 0, False
        until_s = asyncio.get_running_loop().time() + self._limits.body_s

        async def counted() -> Message:
            nonlocal got, whole
            if whole:
                return await receive()
            rest_s = until_s - asyncio.get_running_loop().time()
            try:
                message = await within(max(0.0, rest_s), receive())
            except asyncio.TimeoutError:
                cure = "send it faster, or something smaller"
                raise Problem(408, f"the body took longer than {self._limits.body_s:g} s", cure) from None
            got += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if got > most:
                raise _too_large(f"more than {most}", most)
            return message

        return counted


def _too_large(length: str, most: int) -> Problem:
    return Problem(413, f"a body of {length[:20]} bytes, the limit is {most}", "send something smaller")


def _name_of(host: str) -> str:
    """Take the port off a Host header."""
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 or "]:" in host else host
    return name.strip("[]").lower()


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        response = problem.response()
        # What is still to come of the body is not read.
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
        # A client that takes nothing any more must not hold a connection for ever.
        await within(answer_s, send(message))

    return secured
