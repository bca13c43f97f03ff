from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi", reason="needs cvmask[serve]")

from cvmask.serve.waiting import within


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
