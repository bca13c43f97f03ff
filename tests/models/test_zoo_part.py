from __future__ import annotations

import json
import os
from email.message import Message

import pytest

from cvmask.models.fetch import Part

URL = "http://host/a.tar.gz"


def headers(**fields):
    message = Message()
    for name, value in fields.items():
        message[name.replace("_", "-")] = str(value)
    return message


@pytest.fixture
def part(tmp_path):
    """Four of ten bytes are here."""
    part = Part(tmp_path / "a.part")
    assert part.accept_whole(URL, headers(content_length=10, etag='"v1"')) == 10
    with part.append() as file:
        file.write(b"0123")
    return part


def test_part_is_empty_before_it_begins(tmp_path):
    part = Part(tmp_path / "a.part")
    assert part.size == 0
    assert part.request_headers(URL) == {}


def test_part_asks_for_the_rest_of_the_same_version(part):
    assert part.request_headers(URL) == {"Range": "bytes=4-", "If-Range": '"v1"'}


def test_part_from_another_address_is_not_resumed(part):
    assert part.request_headers(URL + "?other") == {}


@pytest.mark.parametrize("fields", [{}, {"etag": 'W/"weak"'}])
def test_part_without_a_strong_validator_is_not_resumed(tmp_path, fields):
    part = Part(tmp_path / "a.part")
    part.accept_whole(URL, headers(**fields))
    part.path.write_bytes(b"0123")
    assert part.request_headers(URL) == {}


def test_part_falls_back_to_the_date(tmp_path):
    part = Part(tmp_path / "a.part")
    part.accept_whole(URL, headers(last_modified="Sun, 28 Jan 2018 00:00:00 GMT", etag='W/"weak"'))
    part.path.write_bytes(b"0123")
    assert part.request_headers(URL)["If-Range"] == "Sun, 28 Jan 2018 00:00:00 GMT"


@pytest.mark.parametrize("note", ["", "[1]", '{"url": 3}', "\x00", "[" * 500_000, '{"size": ' + "9" * 5000 + "}"])
def test_part_with_a_damaged_note_is_not_resumed(part, note):
    part.path.with_name("a.part.json").write_text(note)
    assert part.request_headers(URL) == {}


def test_part_accepts_the_rest(part):
    assert part.accept_rest(headers(content_range="bytes 4-9/10", etag='"v1"')) == 10
    assert part.accept_rest(headers(content_range="bytes 4-9/*")) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "the answer's range is None"),
        ({"content_range": "bytes 3-9/10"}, "requested bytes from 4"),
        ({"content_range": "bytes 4-10/11"}, "had 10 bytes and now has 11"),
        ({"content_range": "bytes 4-9/10", "etag": '"v2"'}, "has changed"),
    ],
)
def test_part_refuses_a_rest_that_does_not_fit(part, fields, message):
    with pytest.raises(ValueError, match=message):
        part.accept_rest(headers(**fields))


def test_part_starts_over_with_a_whole_answer(part):
    assert part.accept_whole(URL, headers(content_length="nonsense")) is None
    assert part.size == 0


def test_part_knows_when_all_is_here(part):
    assert part.is_all_of(headers(content_range="bytes */4"))
    assert not part.is_all_of(headers(content_range="bytes */10"))
    assert not part.is_all_of(headers())


def test_part_discard_leaves_nothing(part, tmp_path):
    part.discard()
    part.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
@pytest.mark.parametrize("plant", ["link", "dangling", "hard link", "pipe"])
@pytest.mark.parametrize("place", ["a.part", "a.part.json"])
def test_what_others_planted_is_replaced_and_not_followed(tmp_path, plant, place):
    victim = tmp_path / "victim"
    if plant != "dangling":
        victim.write_bytes(b"mine")
    path = tmp_path / place
    {
        "link": lambda: path.symlink_to(victim),
        "dangling": lambda: path.symlink_to(victim),
        "hard link": lambda: path.hardlink_to(victim) if hasattr(path, "hardlink_to") else os.link(victim, path),
        "pipe": lambda: os.mkfifo(path),
    }[plant]()
    part = Part(tmp_path / "a.part")
    assert part.size == 0
    assert part.request_headers(URL) == {}
    part.accept_whole(URL, headers(content_length=10, etag='"v1"'))
    with part.append() as file:
        file.write(b"0123")
    assert (part.size, part.path.read_bytes()) == (4, b"0123")
    assert json.loads((tmp_path / "a.part.json").read_text())["validator"] == '"v1"'
    assert (victim.read_bytes() if plant != "dangling" else None, victim.exists()) == (
        (None, False) if plant == "dangling" else (b"mine", True)
    )


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system follows every link")
def test_a_part_that_became_a_link_is_not_written_to(part, tmp_path):
    (tmp_path / "victim").write_bytes(b"mine")
    part.path.unlink()
    part.path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="needed a file, got a link"):
        part.append()
    assert (tmp_path / "victim").read_bytes() == b"mine"
