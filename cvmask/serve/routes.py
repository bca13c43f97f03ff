"""POST /v1/detect."""


import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Callable

from fastapi import APIRouter, Query, Request
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response

from cvmask.serve.answers import BOTH, JPEG, JSON, PNG, Wish, answer, check_picture, choose_media_type
from cvmask.serve.clips import DONE, Clip, suffix_of
from cvmask.serve.pool import QueueFullError
from cvmask.serve.problems import Problem, busy
from cvmask.serve.schema import Answer, ClipStatus, DetectQuery, Look, problems
from cvmask.serve.service import Service
from cvmask.serve.view import Controls

router = APIRouter()
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {"image": {"type": "string", "format": "binary", "description": "A JPEG, PNG or WebP file."}},
}
_RESULT = {
    "type": "object",
    "required": ["json", "picture"],
    "properties": {
        "json": {"$ref": "#/components/schemas/Answer"},
        "picture": {"type": "string", "format": "binary", "description": "The annotated picture, a PNG."},
    },
}
_BODY = {
    "required": True,
    "description": "One picture, as it is or as the part `image` of a form.",
    "content": {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "image/webp": _BINARY,
        "multipart/form-data": {"schema": _FORM, "encoding": {"image": {"contentType": "image/jpeg"}}},
    },
}


@router.post(
    "/v1/detect",
    summary="Find objects in a picture",
    response_class=Response,
    responses={
        200: {
            "description": "What was found; by Accept the annotated picture, or both.",
            "model": Answer,
            "content": {JPEG: _BINARY, PNG: _BINARY, BOTH: {"schema": _RESULT}},
        },
        **problems(400, 406, 408, 413, 415, 422, 504),
    },
    openapi_extra={
        "requestBody": _BODY,
        "parameters": [
            {
                "name": "Accept",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "default": JSON},
                "examples": {name: {"value": name} for name in (JSON, JPEG, PNG, BOTH)},
                "description": "JSON; image/jpeg or image/png for the annotated picture; a form with JSON and PNG.",
            }
        ],
    },
)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find objects in a picture."""
    service: Service = request.app.state.service
    media_type = choose_media_type(request.headers.get("accept", ""))
    wish = Wish(controls_of(query, service), query.format, media_type)
    data = await _picture(request)
    check_picture(data, service.limits.pixels)
    work = partial(answer, data=data, wish=wish, labels=service.labels, max_pixels=service.limits.pixels)
    try:
        pending = service.pool.submit(request.client.host if request.client else "", work)
    except QueueFullError:
        raise busy("all places in the queue are taken", service.pool.wait_s()) from None
    # The job alone holds the picture now: it is gone when the job is.
    del data, work
    content, media_type = await _whichever_first(request, asyncio.wrap_future(pending), service.limits.work_s)
    return Response(content, media_type=media_type)


def controls_of(query: Look, service: Service) -> Controls:
    """Give the controls that a request asks for; raises Problem."""
    try:
        return query.controls(service.controls, service.labels)
    except ValueError as error:
        raise Problem(422, str(error), "GET /v1/labels lists the classes, /openapi.json the parameters") from None


async def _picture(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "multipart/form-data":
        data = await _part(request)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        # Not request.body(), which keeps the bytes for as long as anything holds the request.
        data = b"".join([chunk async for chunk in request.stream()])
    else:
        cure = "send -H 'Content-Type: image/jpeg', or a form with the file as its part `image`"
        raise Problem(415, f"Content-Type must be image/... or multipart/form-data, got {kind[:100]!r}", cure)
    if not data:
        raise Problem(422, "the body is empty", "send the bytes of a picture, as curl --data-binary @FILE does")
    return data


async def _part(request: Request) -> bytes:
    try:
        async with request.form(max_files=1, max_fields=1) as form:
            items = list(form.multi_items())
            if len(items) == 1 and items[0][0] == "image" and isinstance(items[0][1], UploadFile):
                return await items[0][1].read()
    except (HTTPException, FormParserError) as error:
        reason = error.detail if isinstance(error, HTTPException) else error
        raise Problem(400, f"the form cannot be read: {reason}", "send one file as the part `image`") from None
    except OSError as error:
        raise busy(f"there is no room for the picture: {error.strerror}", 60) from None
    names = ", ".join(f"{name}"[:50] for name, _ in items) or "none"
    raise Problem(422, f"the form must have one part, the file `image`, got {names}", "curl -F image=@FILE does that")


async def _whichever_first(request: Request, pending: "asyncio.Future[Any]", work_s: float) -> Any:
    """Wait for the answer, but not longer than `work_s` or than the client."""
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({pending, gone}, timeout=work_s, return_when=asyncio.FIRST_COMPLETED)
        if pending.done():
            return pending.result()
        if gone.done():
            raise ClientDisconnect
        cure = "send a smaller picture, or try when there is less to do"
        raise Problem(504, f"it took longer than {work_s:g} s", cure)
    finally:
        # What still waits in the queue is taken out of it.
        pending.cancel()
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(gone, return_exceptions=True)


_CLIP_BODY = {
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
    openapi_extra={"requestBody": _CLIP_BODY},
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
