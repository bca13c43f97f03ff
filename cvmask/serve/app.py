"""The app: routes, errors, and the guard around them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvmask import __version__
from cvmask.serve import info, live, routes, site, uploads
from cvmask.serve.guard import Guard
from cvmask.serve.problems import add_handlers
from cvmask.serve.schema import ProblemModel
from cvmask.serve.service import Service


def make_app(service: Service, *, token: str | None = None, hosts: Collection[str] | None = None) -> ASGIApp:
    """Make the ASGI app.

    Parameters
    ----------
    token
        What clients must bring; None: none.
    hosts
        Names by which it may be called; None: any.
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
    app.state.page = site.read_files()
    for module in (routes, uploads, info, live, site):
        app.include_router(module.router)
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
            # An answer to GET; uvicorn leaves its body out.
            scope = {**scope, "method": "GET"}

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = route.path if isinstance(route, APIRoute) else "other"
                labels = {"path": path, "status": str(message["status"])}
                self._service.metrics.count("requests_total", labels)
            await send(message)

        await self._app(scope, receive, counted)
