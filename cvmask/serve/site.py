"""The page: a few files of this package, held in memory."""

from importlib import resources

from fastapi import APIRouter, Request
from starlette.responses import Response

from cvmask.serve.problems import Problem

router = APIRouter(include_in_schema=False)
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


@router.get("/")
async def index(request: Request) -> Response:
    """Give the page."""
    return await file(request, "index.html")


@router.get("/page/{name}")
async def file(request: Request, name: str) -> Response:
    """Give a file of the page: of those that were read at the start, none else."""
    found = request.app.state.page.get(name)
    if found is None:
        raise Problem(404, "the page has no such file", "reload it at /")
    content, media_type = found
    return Response(content, media_type=media_type)
