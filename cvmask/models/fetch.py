"""One resumable download: attempts, waiting between them, and what counts as having arrived."""

from __future__ import annotations

from time import sleep
from typing import Callable, Optional

from cvmask.errors import ModelError
from cvmask.models.connect import Answer, Passing, read_some, request
from cvmask.models.part import Part
from cvmask.system.disk import need_free, size_text, writing_to

ATTEMPTS = 5
BACKOFF_S = 1.0
LONGEST_WAIT_S = 60.0
_CHUNK_BYTES = 1 << 18

Progress = Callable[[int, Optional[int]], None]
Say = Callable[[str], None]


def fetch(url: str, part: Part, limit_bytes: int, progress: Progress, say: Say) -> None:
    """Bring a file, from where an earlier attempt left off.

    Parameters
    ----------
    part
        Where the bytes go: complete when this returns, kept for a later call when it raises or is
        interrupted.
    limit_bytes
        Nothing larger is taken.
    progress
        Called with the bytes that are here, and the whole size or None.
    say
        Called with a line when there is something to wait for.

    Raises
    ------
    ModelError
        If the server does not have it, if `ATTEMPTS` in a row brought nothing new, if it is too
        large, if the disk is full.
    """
    failures, furthest = 0, part.size
    while True:
        try:
            return _attempt(url, part, limit_bytes, progress)
        except Passing as problem:
            # Only attempts that bring nothing count: a line that drops every minute still arrives.
            failures = failures + 1 if part.size <= furthest else 1
            furthest = max(furthest, part.size)
            wait_s = problem.wait_s if problem.wait_s is not None else BACKOFF_S * 2 ** (failures - 1)
            if failures >= ATTEMPTS or wait_s > LONGEST_WAIT_S:
                raise ModelError(_given_up(url, problem, part)) from problem
            say(f"{problem}; trying again in {wait_s:.0f} s ({size_text(part.size)} are here)")
            sleep(wait_s)


def _attempt(url: str, part: Part, limit_bytes: int, progress: Progress) -> None:
    with request(url, part.request_headers(url)) as answer:
        total_bytes = _accept(url, part, answer)
        if total_bytes is not None:
            _need_size(url, total_bytes, limit_bytes)
            need_free(part.path.parent, total_bytes - part.size)
        _copy(url, part, answer, total_bytes, limit_bytes, progress)
    # urllib takes a connection that closes early for the end of the file.
    if total_bytes is not None and part.size != total_bytes:
        raise Passing(f"the connection ended at {part.size} of {total_bytes} bytes")


def _accept(url: str, part: Part, answer: Answer) -> int | None:
    headers = answer.headers
    if answer.status == 416:
        if part.is_all_of(headers):
            return part.size
        part.discard()
        raise Passing("the server has less than what is here; starting over", wait_s=0)
    if answer.status == 200:
        with writing_to(part.path.parent):
            return part.accept_whole(url, headers)
    try:
        return part.accept_rest(headers)
    except ValueError as error:
        part.discard()
        raise Passing(f"{error}; starting over", wait_s=0) from error


def _copy(
    url: str, part: Part, answer: Answer, total_bytes: int | None, limit_bytes: int, progress: Progress
) -> None:
    done_bytes = part.size
    progress(done_bytes, total_bytes)
    if answer.status == 416:
        return
    with writing_to(part.path.parent), part.append() as file:
        while done_bytes <= limit_bytes and (chunk := read_some(answer, _CHUNK_BYTES)):
            file.write(chunk)
            done_bytes += len(chunk)
            progress(done_bytes, total_bytes)
    if done_bytes > limit_bytes:
        part.discard()
        _need_size(url, done_bytes, limit_bytes)


def _need_size(url: str, n_bytes: int, limit_bytes: int) -> None:
    if n_bytes > limit_bytes:
        raise ModelError(
            f"{url} is not the model: it has {size_text(n_bytes)} or more, "
            f"at most {size_text(limit_bytes)} were expected"
        )


def _given_up(url: str, problem: Passing, part: Part) -> str:
    asked = f" and asks to wait {problem.wait_s:.0f} s" if problem.wait_s else ""
    kept = f"{size_text(part.size)} are kept, and " if part.size else ""
    return f"{url} did not arrive: {problem}{asked}; {kept}the same command tries again"
