from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from serve_helpers import Hand, picture, until

from cvmask.errors import SourceError
from cvmask.serve.feed import Feed
from cvmask.streams.sources import Frame, Source, open_source


@contextmanager
def taking(feed: Feed) -> Iterator[list[Frame]]:
    """Take every frame of a feed, in a thread, while the block runs."""
    taken: list[Frame] = []
    def take() -> None:
        for frame in feed:
            taken.append(frame)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        yield taken
    finally:
        feed.close()
        thread.join()


def test_a_video_is_played_over_and_over_at_its_pace(clip_mp4: Path) -> None:
    began_s = time.monotonic()
    with taking(Feed(lambda: open_source(clip_mp4))) as taken:
        until(lambda: len(taken) >= 10)
    # Six frames at 25 a second: the tenth is due 9/25 s after the first, less the pause between rounds.
    assert time.monotonic() - began_s > 7 / 25
    assert [frame.index for frame in taken] == list(range(len(taken)))
    times = [frame.time_s for frame in taken]
    assert times == sorted(times)
    assert all(frame.taken_at_s is not None for frame in taken)


def test_a_video_of_one_frame_is_played_at_its_pace_too(work: Path) -> None:
    writer = cv2.VideoWriter("one.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 10, (160, 128))
    writer.write(picture())
    writer.release()
    opened_s: list[float] = []

    def open_it() -> Source:
        opened_s.append(time.monotonic())
        return open_source("one.mp4")

    with taking(Feed(open_it)):
        until(lambda: len(opened_s) >= 4)
    # The first is opened before it is played.
    assert opened_s[3] - opened_s[1] >= 2 / 10


def test_of_a_message_only_the_folder_at_its_beginning_is_left_out(clip_mp4: Path) -> None:
    places = iter([clip_mp4])

    def open_it() -> Source:
        place = next(places, None)
        if place is None:
            raise SourceError(f"{clip_mp4}: see http://host{clip_mp4}")
        return open_source(place)

    feed = Feed(open_it)
    with taking(feed):
        until(lambda: feed.state == "lost")
    assert feed.message == f"clip.mp4: see http://host{clip_mp4}"


def test_where_files_lie_is_not_told(clip_mp4: Path) -> None:
    feed = Feed(lambda: open_source(clip_mp4))
    assert feed.name == "clip.mp4"
    with taking(feed):
        clip_mp4.unlink()
        until(lambda: feed.state == "lost")
    assert feed.message.startswith("clip.mp4: ")
    assert str(clip_mp4.parent) not in feed.message


@pytest.mark.parametrize("place", ["{}", "{}/", "."])
def test_a_folder_is_called_by_its_name(work: Path, place: str) -> None:
    cv2.imwrite("a.png", picture())
    feed = Feed(lambda: open_source(place.format(work)))
    feed.close()
    assert feed.name == "work"


def test_a_part_that_begins_behind_the_end_is_an_error_at_once(clip_mp4: Path) -> None:
    with pytest.raises(SourceError, match=r"clip\.mp4: ends before"):
        Feed(lambda: open_source(clip_mp4, start_s=100.0))


def test_a_single_picture_stays_and_is_given_again(work: Path) -> None:
    cv2.imwrite("a.png", picture())
    feed = Feed(lambda: open_source("a.png"))
    with taking(feed) as taken:
        until(lambda: feed.state == "still" and len(taken) == 1)
        feed.give_again()
        until(lambda: len(taken) == 2)
        assert taken[0] is taken[1]


def test_a_folder_goes_round(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvmask.serve.feed._PICTURE_S", 0.02)
    for name in "ab":
        cv2.imwrite(f"{name}.png", picture(ord(name)))
    with taking(Feed(lambda: open_source("."))) as taken:
        until(lambda: len(taken) >= 5)
    assert np.array_equal(taken[0].image, taken[2].image)
    assert not np.array_equal(taken[0].image, taken[1].image)


def test_a_damaged_picture_of_a_folder_is_passed_over(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cvmask.serve.feed._PICTURE_S", 0.02)
    for name in "ac":
        cv2.imwrite(f"{name}.png", picture(ord(name)))
    Path("b.png").write_bytes(Path("a.png").read_bytes()[:300])
    errors: list[SourceError] = []
    feed = Feed(lambda: open_source(".", on_error=errors.append))
    states = []
    feed.on_state = lambda: states.append(feed.state)
    with taking(feed) as taken:
        until(lambda: len(taken) >= 5)
    assert [Path(frame.name).name for frame in taken[:4]] == ["a.png", "c.png", "a.png", "c.png"]
    assert "b.png" in str(errors[0])
    assert not states


def test_a_folder_without_a_picture_that_can_be_read_is_lost(work: Path) -> None:
    for name in "ab":
        Path(f"{name}.png").write_bytes(b"no picture")
    feed = Feed(lambda: open_source(".", on_error=lambda error: None))
    with taking(feed) as taken:
        until(lambda: feed.state == "lost")
        assert "no picture that can be read" in feed.message
        cv2.imwrite("b.png", picture())
        until(lambda: taken and feed.state == "live")


def test_a_paused_video_goes_on_where_it_was(clip_mp4: Path) -> None:
    feed = Feed(lambda: open_source(clip_mp4))
    with taking(feed) as taken:
        until(lambda: taken)
        feed.pause(True)
        time.sleep(0.3)
        count = len(taken)
        dropped = feed.dropped
        time.sleep(0.3)
        assert len(taken) == count
        assert feed.dropped - dropped <= 1, "the file is not read on meanwhile"
        feed.pause(False)
        until(lambda: len(taken) > count)


def test_a_wrong_address_is_an_error_at_once(work: Path) -> None:
    with pytest.raises(SourceError, match=r"missing\.mp4"):
        Feed(lambda: open_source("missing.mp4"))


def test_silence_is_a_loss_and_a_frame_ends_it() -> None:
    hand = Hand()
    feed = Feed(lambda: hand, lost_s=0.1)
    with taking(feed) as taken:
        hand.give(picture())
        until(lambda: len(taken) == 1)
        until(lambda: feed.state == "lost")
        assert "nothing came" in feed.message
        hand.give(picture())
        until(lambda: (feed.state, feed.message, len(taken)) == ("live", "", 2))


def test_what_nobody_expected_ends_the_feed() -> None:
    class Broken(Hand):
        def _frames(self) -> Iterator[Frame]:
            raise ZeroDivisionError
            yield

    with pytest.raises(ZeroDivisionError):
        list(Feed(Broken))


def test_a_wish_that_ends_at_once_gives_a_frame_or_none() -> None:
    hand = Hand()
    feed = Feed(lambda: hand)
    wishes = iter([False, True])
    feed.wanted = lambda: next(wishes, False)
    with taking(feed) as taken:
        hand.give(picture())
        until(lambda: len(taken) == 1)
        hand.give(picture(2))
        hand.give(picture(3))
        until(lambda: feed.dropped == 1)
        assert len(taken) == 1
        feed.wanted = lambda: True
        until(lambda: len(taken) == 2)
    assert np.array_equal(taken[1].image, picture(3)), "the newest"


def test_a_feed_is_closed_before_or_after_its_thread_is_started_and_not_between(
    clip_mp4: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = Feed(lambda: open_source(clip_mp4))
    closers = [threading.Thread(target=feed.close)]
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        if closers and thread.name == "cvmask-feed":
            start(closers[0])
            closers[0].join(0.3)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    list(feed)
    closers[0].join(10)
    assert not closers[0].is_alive()
    assert "cvmask-feed" not in [thread.name for thread in threading.enumerate()]
