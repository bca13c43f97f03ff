"""What the server says of itself."""

import dataclasses

import cv2
from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from cvmask import __version__
from cvmask.serve.controls import EFFECT_NAMES
from cvmask.serve.metrics import MEDIA_TYPE
from cvmask.serve.problems import busy
from cvmask.serve.schema import ModelInfo, Target, problems
from cvmask.serve.service import Service

router = APIRouter()
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
    """Give the classes; a class id is a place in this list, from 0."""
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
    """Tell whether it takes work; 503 while the queue is full, the live picture has failed, or it ends."""
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
