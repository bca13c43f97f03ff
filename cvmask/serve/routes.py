"""POST /v1/detect."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Callable

from fastapi import APIRouter, Query, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, Response

from cvmask.serve.answers import BOTH, JPEG, JSON, PNG, Wish, answer, check_picture, choose_media_type
from cvmask.serve.clips import DONE, HEAD_BYTES, Clip, suffix_of
from cvmask.serve.guard import client_of
from cvmask.serve.pool import QueueFullError, share
from cvmask.serve.problems import Problem, busy
from cvmask.serve.schema import Answer, ClipQuery, ClipStatus, DetectQuery, Look, problems
from cvmask.serve.service import Service
from cvmask.serve.view import Controls

router = APIRouter()
_LONGEST_HEADER = 8 << 10
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {"image": {"type": "string", "format": "binary", "description": "A picture file."}},
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
    "description": "One picture of any kind that `cvmask predict` reads, as it is or as the part `image` of a form.",
    "content": {
        "image/jpeg": _BINARY,
        "image/png": _BINARY,
        "image/webp": _BINARY,
        "image/tiff": _BINARY,
        "application/octet-stream": _BINARY,
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
    wish = Wish(controls_of(query, service), query.format, media_type, query.shown_width)
    data = await _picture(request)
    await run_in_threadpool(check_picture, data, service.limits.pixels)
    work = partial(answer, data=data, wish=wish, labels=service.labels, max_pixels=service.limits.pixels)
    try:
        pending = service.pool.submit(client_of(request.scope), work)
    except QueueFullError:
        raise busy("all places in the queue are taken", service.pool.wait_s()) from None
    # Only the job holds the picture now, which is freed with the job.
    del data, work
    content, media_type = await _whichever_first(request, asyncio.wrap_future(pending), service.limits.work_s)
    return Response(content, media_type=media_type)


def controls_of(query: Look, service: Service) -> Controls:
    """Return the controls that a request asks for; raises Problem."""
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
    form = _Form()
    boundary = parse_options_header(request.headers["content-type"])[1].get(b"boundary", b"")
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in request.stream():
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem(400, f"the form cannot be read: {error}", "send one file as the part `image`") from None
    if not form.whole:
        raise Problem(400, "the form ends before its last boundary", "send one file as the part `image`")
    if form.names != [b"image"]:
        names = b", ".join(name[:50] for name in form.names[:5]).decode("utf-8", "replace") or "none"
        raise Problem(
            422, f"the form must have one part, the file `image`, got {names}", "curl -F image=@FILE does that"
        )
    return b"".join(form.content)


class _Form:
    """The parts of a form as they come: their names, and what is in them.

    Charsets are ignored, and a file may have a `filename`, a `filename*` or no name.
    """

    def __init__(self) -> None:
        self.names: list[bytes] = []
        self.content: list[bytes] = []
        self.whole = False
        self._header = [b"", b""]

    def callbacks(self) -> Any:
        """Return the callbacks of the parser."""
        return {
            "on_part_begin": self._part_begins,
            "on_part_data": lambda data, start, end: self.content.append(data[start:end]),
            "on_header_field": lambda data, start, end: self._header_comes(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._header_comes(1, data[start:end]),
            "on_header_end": self._header_ends,
            "on_end": self._ends,
        }

    def _part_begins(self) -> None:
        self.names.append(b"")

    def _header_comes(self, place: int, data: bytes) -> None:
        self._header[place] += data
        if len(self._header[place]) > _LONGEST_HEADER:
            raise FormParserError("a header of a part is too long")

    def _header_ends(self) -> None:
        name, value = self._header
        self._header = [b"", b""]
        if name.lower() == b"content-disposition":
            self.names[-1] = parse_options_header(value)[1].get(b"name", b"")

    def _ends(self) -> None:
        self.whole = True


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
        # Remove the job from the queue if it still waits.
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
async def post_clip(request: Request, query: Annotated[ClipQuery, Query()]) -> ClipStatus:
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
        if len(head) >= HEAD_BYTES:
            break
    suffix = suffix_of(head)
    if suffix is None:
        got = f"the body must be an MP4, MOV, MKV, WebM or AVI, got {len(head)} bytes that start with {head[:8]!r}"
        raise Problem(415, got, "convert it, as with ffmpeg -i IN out.mp4")
    clip = await run_in_threadpool(
        service.clips.new, suffix, controls, client_of(request.scope), query.shown_width, query.every
    )
    if clip is None:
        most = service.limits.clips
        raise busy(f"{most} clips wait already, or {share(most)} of this client", 30)
    try:
        with open(clip.source, "wb") as file:
            await run_in_threadpool(file.write, head)
            async for chunk in body:
                await run_in_threadpool(file.write, chunk)
    except (ClientDisconnect, Problem, OSError, asyncio.CancelledError) as error:
        await asyncio.shield(run_in_threadpool(service.clips.remove, clip))
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


def _gives_file(path: str, summary: str, *media_types: str) -> Callable[[_Giver], _Giver]:
    """Make the decorator of a route that gives a file."""
    found = {"description": summary, "content": dict.fromkeys(media_types, _BINARY)}
    return router.get(path, summary=summary, response_class=Response, responses={200: found, **problems(404, 422)})


@_gives_file("/v1/clips/{key}/video", "The annotated video", "video/mp4", "video/webm")
async def get_video(request: Request, key: str) -> Response:
    """Give the annotated video of a clip that is done."""
    clip = _finished(request, key)
    return _download(clip.video, clip.video_type)


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
