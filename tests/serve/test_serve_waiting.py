from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs cvmask[serve]")

from cvmask.serve.pool import within


def test_a_result_comes_through() -> None:
    assert asyncio.run(within(10, asyncio.sleep(0, 5))) == 5


def test_what_takes_too_long_is_cancelled() -> None:
    async def wait() -> bool:
        never = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            await within(0.01, never)
        return never.cancelled()

    assert asyncio.run(wait())


def test_a_cancellation_in_the_moment_of_the_result_is_kept() -> None:
    async def wait() -> None:
        result = asyncio.get_running_loop().create_future()
        waiting = asyncio.ensure_future(within(10, result))
        await asyncio.sleep(0)
        result.set_result(1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(wait())


def test_an_error_comes_through() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(within(10, fail()))


def test_an_error_in_the_moment_of_a_cancellation_is_dropped_without_a_word() -> None:
    said: list[dict[str, Any]] = []

    async def wait() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        gone = asyncio.Event()

        async def fail() -> None:
            await gone.wait()
            raise ZeroDivisionError

        waiting = asyncio.ensure_future(within(10, fail()))
        await asyncio.sleep(0.01)
        gone.set()
        # The error comes in this turn of the loop; `within` would hear of it in the next.
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(wait())
    gc.collect()
    assert not said
