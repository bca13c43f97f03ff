"""Waiting for something, but not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

_T = TypeVar("_T")


async def within(seconds: float, awaitable: Awaitable[_T]) -> _T:
    """Give the result; asyncio.TimeoutError if it takes longer.

    Unlike `asyncio.wait_for` before Python 3.12 it never swallows a cancellation that comes in the same
    moment as the result; an error that comes in that moment is dropped, and asyncio does not print it.
    """
    task = asyncio.ensure_future(awaitable)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done() or task.cancelled():
        raise asyncio.TimeoutError
    return task.result()
