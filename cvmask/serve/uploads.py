"""/v1/clips: clips that are annotated in the background; and the download of recordings."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Annotated, Any, Callable

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response

from cvmask.serve.clips import DONE, Clip, suffix_of
from cvmask.serve.problems import Problem, busy
from cvmask.serve.routes import controls_of
from cvmask.serve.schema import ClipStatus, Look, problems
from cvmask.serve.service import Service

router = APIRouter()
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": "A video: MP4, MOV, MKV, WebM or AVI.",
    "content": {"video/mp4": _BINARY, "video/webm": _BINARY, "application/octet-stream": _BINARY},
}
_Giver = Callable[..., Awaitable[Response]]
_STATUS: dict[Any, dict[str, Any]] = {202: {"description": "It is queued."}}


@router.post(
    "/v1/clips",
    summary="Annotate a clip in the background",
    status_code=202,
    responses={**_STATUS, **problems(400, 408, 413, 415, 422)},
    openapi_extra={"requestBody": _BODY},
)
async def post_clip(request: Request, query: Annotated[Look, Query()]) -> ClipStatus:
    """Take a clip; ask for its state with GET /v1/clips/{id}."""
    service: Service = request.app.state.service
    controls = controls_of(query, service)
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if not kind.startswith("video/") and kind != "application/octet-stream":
        cure = "send -H 'Content-Type: video/mp4'; pictures go to /v1/detect"
        raise Problem(415, f"Content-Type must be video/..., got {kind[:100]!r}", cure)
    body = request.stream()
    head = b""
    async for chunk in body:
        head += chunk
        if len(head) >= 12:
            break
    suffix = suffix_of(head)
    if suffix is None:
        got = f"the body must be an MP4, MOV, MKV, WebM or AVI, got {len(head)} bytes that start with {head[:8]!r}"
        raise Problem(415, got, "convert it, as with ffmpeg -i IN out.mp4")
    clip = service.clips.new(suffix, controls)
    if clip is None:
        raise busy(f"{service.limits.clips} clips wait already", 30)
    try:
        with open(clip.source, "wb") as file:
            await run_in_threadpool(file.write, head)
            async for chunk in body:
                await run_in_threadpool(file.write, chunk)
    except (ClientDisconnect, Problem, OSError, asyncio.CancelledError) as error:
        service.clips.remove(clip)
        if isinstance(error, OSError):
            raise busy(f"there is no room for the clip: {error.strerror}", 60) from None
        raise
    service.clips.start(clip)
    return ClipStatus(**clip.status())


@router.get("/v1/clips/{key}", summary="How far a clip is", responses=problems(404, 422))
async def get_clip(request: Request, key: str) -> ClipStatus:
    """Tell how far a clip is."""
    return ClipStatus(**_clip(request, key).status())


@router.delete("/v1/clips/{key}", summary="Stop a clip and remove it", status_code=204, responses=problems(404, 422))
async def delete_clip(request: Request, key: str) -> Response:
    """Stop a clip and remove everything of it."""
    service: Service = request.app.state.service
    clip = _clip(request, key)
    await run_in_threadpool(service.clips.remove, clip)
    return Response(status_code=204)


def _gives_file(path: str, summary: str, media_type: str) -> Callable[[_Giver], _Giver]:
    """Make the decorator of a route that gives a file."""
    found = {"description": summary, "content": {media_type: _BINARY}}
    return router.get(path, summary=summary, response_class=Response, responses={200: found, **problems(404, 422)})


@_gives_file("/v1/clips/{key}/video", "The annotated video", "video/mp4")
async def get_video(request: Request, key: str) -> Response:
    """Give the annotated video of a clip that is done."""
    return _download(_finished(request, key).video, "video/mp4")


@_gives_file("/v1/clips/{key}/detections", "What was found, a JSON line for each frame", "application/jsonl")
async def get_lines(request: Request, key: str) -> Response:
    """Give what was found in a clip that is done."""
    return _download(_finished(request, key).lines, "application/jsonl")


@_gives_file("/v1/recordings/{key}", "A recording of the live page", "video/mp4")
async def get_recording(request: Request, key: str) -> Response:
    """Give the recording that was stopped last."""
    service: Service = request.app.state.service
    path = service.recording(key)
    if path is None or not path.exists():
        raise Problem(404, "there is no such recording, or a newer one", "stop the recording, then download it")
    return _download(path, "video/mp4")


def _clip(request: Request, key: str) -> Clip:
    service: Service = request.app.state.service
    clip = service.clips.find(key)
    if clip is None:
        raise Problem(404, "there is no such clip, or it is gone", "POST it to /v1/clips again")
    return clip


def _finished(request: Request, key: str) -> Clip:
    clip = _clip(request, key)
    if clip.state != DONE:
        raise Problem(404, f"the clip is {clip.state}", f"ask GET /v1/clips/{clip.key} until its state is done")
    return clip


def _download(path: Path, media_type: str) -> Response:
    # The page names the file after the one that was dropped.
    return FileResponse(path, media_type=media_type, headers={"Content-Disposition": "attachment"})
