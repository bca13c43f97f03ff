"""The WebSockets of the page: the live picture, and the browser's own camera."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Optional

from fastapi import APIRouter, WebSocket
from starlette.concurrency import run_in_threadpool
from starlette.websockets import WebSocketDisconnect, WebSocketState

from cvmask.serve.guard import client_of
from cvmask.serve.pool import within
from cvmask.serve.service import Service
from cvmask.serve.session import Session

router = APIRouter()
AHEAD = 2
_SILENCE_S = 30.0
_TOO_LARGE = 1009
_TRY_LATER = 1013


@router.websocket("/v1/live")
async def live(websocket: WebSocket) -> None:
    """Show the source of the server; every viewer sees the same picture and has the same controls."""
    service: Service = websocket.app.state.service
    await websocket.accept()
    if service.live is None:
        await websocket.close(1000, "this server has no source of its own")
        return
    await _converse(websocket, service.live, None)


@router.websocket("/v1/camera")
async def camera(websocket: WebSocket) -> None:
    """Take pictures from a browser's camera, and send them annotated to that browser."""
    service: Service = websocket.app.state.service
    await websocket.accept()
    opened = await run_in_threadpool(service.open_camera, client_of(websocket.scope))
    if opened is None:
        await websocket.close(_TRY_LATER, "all places for cameras are taken, or yours")
        return
    session, pushed = opened
    try:
        await _converse(websocket, session, pushed.push)
    finally:
        await asyncio.shield(run_in_threadpool(service.close_camera, session))


class _Credit:
    """How many messages may be sent before the viewer has answered one."""

    def __init__(self) -> None:
        self._left = AHEAD
        self._more = asyncio.Event()

    def give(self) -> None:
        """Count an answer; surplus answers have no effect."""
        self._left = min(AHEAD, self._left + 1)
        self._more.set()

    async def take(self) -> None:
        """Wait until one may be sent."""
        while not self._left:
            self._more.clear()
            await self._more.wait()
        self._left -= 1


async def _converse(websocket: WebSocket, session: Session, push: Optional[Callable[[bytes], None]]) -> None:
    """Send and receive messages until one of the two sides ends."""
    credit = _Credit()
    tasks = [
        asyncio.ensure_future(_send(websocket, session, credit)),
        asyncio.ensure_future(_take(websocket, session, credit, push)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        session.fit(websocket, None)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (WebSocketDisconnect, asyncio.TimeoutError)):
            with suppress(RuntimeError):
                await websocket.close(1011, "an error in the server")
            raise result
    if websocket.application_state == WebSocketState.CONNECTED:
        with suppress(RuntimeError, WebSocketDisconnect):
            await websocket.close(1008)


async def _send(websocket: WebSocket, session: Session, credit: _Credit) -> None:
    """Send the newest message whenever the viewer has answered enough earlier ones; a slow viewer misses some."""
    seen = -1
    with session.view.viewer() as news:
        while True:
            await within(_SILENCE_S, credit.take())
            while session.view.version == seen:
                await news.wait()
                news.clear()
            news.clear()
            seen, message = await _newest(session)
            await websocket.send_bytes(message)


async def _newest(session: Session) -> tuple[int, bytes]:
    ready = session.view.ready()
    return ready if ready is not None else await run_in_threadpool(session.view.newest)


async def _take(
    websocket: WebSocket, session: Session, credit: _Credit, push: Optional[Callable[[bytes], None]]
) -> None:
    service: Service = websocket.app.state.service
    limit = service.limits.order_bytes
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            if push is not None:
                push(message["bytes"])
            continue
        text = message.get("text") or ""
        if len(text) > limit:
            await websocket.close(_TOO_LARGE, f"an order has at most {limit} characters")
            return
        order = _order(text)
        if order.get("do") == "seen":
            credit.give()
            continue
        # Not on the event loop: a viewer gets a picture, which may have to be encoded.
        complaint = await run_in_threadpool(_obey, session, websocket, order)
        if complaint:
            await websocket.send_text(json.dumps({"error": complaint}))


def _obey(session: Session, viewer: WebSocket, order: dict[str, Any]) -> str:
    """Execute an order of the page; return why that failed, or ""."""
    try:
        if order.get("do") == "change" and isinstance(order.get("controls"), dict):
            session.change(order["controls"])
        elif order.get("do") == "pause" and isinstance(order.get("on"), bool):
            session.pause(order["on"])
        elif order.get("do") == "record" and isinstance(order.get("on"), bool):
            session.record(order["on"])
        elif order.get("do") == "fit" and order.get("width") is not None:
            session.fit(viewer, order["width"])
        else:
            return "an order is seen, change, pause, record or fit"
    except ValueError as error:
        return str(error)
    return ""


def _order(text: str) -> dict[str, Any]:
    try:
        order = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return order if isinstance(order, dict) else {}
