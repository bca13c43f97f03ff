from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from serve_helpers import PATIENCE_S, picture, until

from cvmask.runtime.model import MaskRCNN, Settings
from cvmask.serve.metrics import Metrics
from cvmask.serve.pool import Pool, QueueFullError, Worker


@pytest.fixture
def pool(quick_model: MaskRCNN) -> Iterator[Pool]:
    pool = Pool(quick_model.clone(), 1, 8, Metrics())
    yield pool
    pool.close()


def occupy(pool: Pool) -> threading.Event:
    """Keep the worker busy until the event that is given is set."""
    hold, held = threading.Event(), threading.Event()
    pool.submit("first", lambda worker: (held.set(), hold.wait(PATIENCE_S)))
    until(held.is_set)
    return hold


def test_everybody_has_a_turn(pool: Pool) -> None:
    done: list[str] = []
    hold = occupy(pool)
    answers = [pool.submit(client, lambda worker, c=client: done.append(c)) for client in "aaaabbc"]
    hold.set()
    for answer in answers:
        answer.result(PATIENCE_S)
    assert "".join(done) == "abcabaa"


def test_one_client_cannot_have_all_places(pool: Pool) -> None:
    hold = occupy(pool)
    for _ in range(4):
        pool.submit("greedy", lambda worker: None)
    with pytest.raises(QueueFullError):
        pool.submit("greedy", lambda worker: None)
    for client in "abcd":
        pool.submit(client, lambda worker: None)
    with pytest.raises(QueueFullError):
        pool.submit("e", lambda worker: None)
    pool.submit("live", lambda worker: None, limited=False)
    assert pool.waiting == 9
    hold.set()


def test_an_error_reaches_who_asked_and_the_worker_lives_on(pool: Pool) -> None:
    failing = pool.submit("a", lambda worker: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing.result(PATIENCE_S)
    assert pool.submit("a", lambda worker: 5).result(PATIENCE_S) == 5


def test_closing_finishes_what_runs_and_cancels_what_waits(quick_model: MaskRCNN) -> None:
    pool = Pool(quick_model.clone(), 1, 8, Metrics())
    hold = occupy(pool)
    waiting = pool.submit("a", lambda worker: 1)
    closing = threading.Thread(target=pool.close)
    closing.start()
    until(waiting.cancelled)
    hold.set()
    closing.join()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(QueueFullError):
        pool.submit("a", lambda worker: 1)


def test_a_worker_keeps_to_the_count_that_the_model_was_loaded_for(quick_model: MaskRCNN) -> None:
    model = quick_model.clone()
    model.settings = Settings(max_detections=2)
    pool = Pool(model, 1, 8, Metrics())
    wanted = {"score_threshold": 0.01}
    found, _ = pool.submit("a", lambda worker: worker.find(picture(), wanted, "test")).result(PATIENCE_S)
    pool.close()
    assert len(found) == 2


def test_a_worker_changes_no_setting_that_nobody_asked_for(quick_model: MaskRCNN) -> None:
    loaded = Settings(score_threshold=0.9, mask_threshold=0.4, classes=(1,), max_detections=3, mask_paste="tutorial")
    model = quick_model.clone()
    model.settings = loaded
    worker = Worker(model, Metrics())
    worker.find(picture(), {"score_threshold": 0.2, "classes": None}, "test")
    assert model.settings == dataclasses.replace(loaded, score_threshold=0.2, classes=None)
    worker.find(picture(), {}, "test")
    assert model.settings == loaded
