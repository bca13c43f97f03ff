"""The app: routes, errors, and the guard around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from importlib import resources
from typing import Any

import cv2
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvmask import __version__
from cvmask.serve import routes, sockets
from cvmask.serve.guard import Guard
from cvmask.serve.metrics import MEDIA_TYPE
from cvmask.serve.problems import Problem, add_handlers, busy
from cvmask.serve.schema import ModelInfo, ProblemModel, Target, problems
from cvmask.serve.service import Service
from cvmask.serve.view import EFFECT_NAMES

page_router = APIRouter(include_in_schema=False)
router = APIRouter()
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def read_files() -> dict[str, tuple[bytes, str]]:
    """Read every file of the page: by name, its bytes and its media type."""
    folder = resources.files("cvmask.serve").joinpath("page")
    files = {}
    for entry in folder.iterdir():
        media_type = _TYPES.get("." + entry.name.rsplit(".", 1)[-1])
        if media_type is not None:
            files[entry.name] = (entry.read_bytes(), media_type)
    return files


@page_router.get("/")
async def index(request: Request) -> Response:
    """Give the page."""
    return await file(request, "index.html")


@page_router.get("/page/{name}")
async def file(request: Request, name: str) -> Response:
    """Return a file of the page, only one of those read at the start."""
    found = request.app.state.page.get(name)
    if found is None:
        raise Problem(404, "the page has no such file", "reload it at /")
    content, media_type = found
    return Response(content, media_type=media_type)


_TEXT = {"text/plain": {"schema": {"type": "string"}, "example": "ok"}}
_METRICS = {"text/plain": {"schema": {"type": "string"}, "example": "cvmask_viewers 2"}}


@router.get("/v1/model", summary="What runs here", responses=problems())
async def model(request: Request) -> ModelInfo:
    """Tell what runs here, and its limits."""
    service: Service = request.app.state.service
    target = service.model.target
    return ModelInfo(
        name=service.name,
        cvmask=__version__,
        opencv=cv2.__version__,
        classes=len(service.labels),
        target=Target(
            requested=target.requested, effective=target.effective, device=target.device, reason=target.reason
        ),
        workers=service.workers,
        live=service.live is not None,
        controls=vars(service.controls),
        effects=list(EFFECT_NAMES),
        limits=dataclasses.asdict(service.limits),
    )


@router.get("/v1/labels", summary="The classes; place is id", responses=problems())
async def labels(request: Request) -> list[str]:
    """Return the classes; a class id is an index into this list, from 0."""
    service: Service = request.app.state.service
    return list(service.labels)


@router.get(
    "/healthz",
    summary="Whether the process answers",
    response_class=PlainTextResponse,
    responses={200: {"content": _TEXT}, **problems()},
)
async def healthz() -> str:
    """Answer."""
    return "ok\n"


@router.get(
    "/readyz",
    summary="Whether it takes work now",
    response_class=PlainTextResponse,
    responses={200: {"content": _TEXT}, **problems()},
)
async def readyz(request: Request) -> str:
    """Tell whether the server takes work; 503 if the queue is full, the live picture has failed, or it is stopping."""
    service: Service = request.app.state.service
    if service.ending or not service.pool.open:
        raise busy("the server is ending", 10)
    if service.live is not None and service.live.error:
        raise busy(f"the live picture has ended: {service.live.error}", 60)
    if service.pool.waiting >= service.limits.queue:
        raise busy("all places in the queue are taken", service.pool.wait_s())
    return "ok\n"


@router.get(
    "/metrics",
    summary="Counters for Prometheus",
    response_class=PlainTextResponse,
    responses={200: {"content": _METRICS}, **problems()},
)
async def metrics(request: Request) -> Response:
    """Give counters for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.metrics.text(), media_type=MEDIA_TYPE)


def make_app(service: Service, *, token: str | None = None, hosts: Collection[str] | None = None) -> ASGIApp:
    """Make the ASGI app.

    Parameters
    ----------
    token
        The token that clients must send; None: no token.
    hosts
        Host names that clients may use; None: any.
    """
    app = FastAPI(
        title="cvmask",
        version=__version__,
        description="Mask R-CNN instance segmentation over HTTP.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.page = read_files()
    for part in (routes.router, router, sockets.router, page_router):
        app.include_router(part)
    add_handlers(app)
    _describe(app)
    counted = _Counting(app, service)
    return Guard(counted, limits=service.limits, metrics=service.metrics, token=token, hosts=hosts)


def _describe(app: FastAPI) -> None:
    """Put the problem into the OpenAPI in place of FastAPI's own form of errors, which is not used."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = make()
            schemas = made["components"]["schemas"]
            schemas["ProblemModel"] = ProblemModel.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            made["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            made["security"] = [{}, {"token": []}]
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


class _Counting:
    """Counts answers by path and status."""

    def __init__(self, app: FastAPI, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            # Answered as GET; uvicorn leaves the body out.
            scope = {**scope, "method": "GET"}

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, APIRoute) else "other"
                labels = {"path": path, "status": str(message["status"])}
                self._service.metrics.count("requests_total", labels)
            await send(message)

        await self._app(scope, receive, counted)
