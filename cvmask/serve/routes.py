"""POST /v1/detect."""

import asyncio
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from cvmask.serve.answers import BOTH, JPEG, JSON, PNG, Wish, answer, check_picture, choose_media_type
from cvmask.serve.controls import Controls
from cvmask.serve.pool import QueueFullError
from cvmask.serve.problems import Problem, busy
from cvmask.serve.schema import Answer, DetectQuery, Look, problems
from cvmask.serve.service import Service

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
        data = await request.body()
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
