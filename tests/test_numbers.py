"""Numbers of README and docs that stand twice are the same, and those that follow from others do so."""

from __future__ import annotations

import re

import pytest
from test_snippets import PAGES, ROOT

from cvmask.models.labels import read_labels
from cvmask.serve.limits import Limits
from cvmask.system import folders

OTHERS = [ROOT / name for name in ("setup.py", "cvmask/runtime/net.py", "cvmask/cli/main.py", "cvmask/models/zoo.py")]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in [*PAGES, *OTHERS]}
# What is said in several places, and how it is written: the group is the same wherever it stands.
SAME = {
    "the versions of OpenCV": r"(?:opencv-python|wheel\}|\[0\]\)\})(>=[\d.]+,<[\d.]+)",
    "exit codes": r"[Ee]xit codes: (0 done[^.\n]*)",
    "classes of coco": r"(\d+) (?:everyday|COCO) classes",
    "mask AP of coco": r"(?:Inception v2, |mask mAP )(\d+)(?: mask mAP|; the default)",
    "waits for a lost source": r"(0\.5 s, 1 s, 2 s, up\sto\s15 s)",
    "soft masks of the larger models": r"(\d\dx\d\d) for the three larger models",
    "AP of the masks of shapes": r"(?:\| mask \||`--masks-only`\), masks as [^|]*\|) (0\.\d+) \|",
    "a worker of a batch": r"(?:the|\*t\* =) (\d\.\d\d) s (?:of a worker|on one thread)",
}


def number(text: str) -> float:
    return float(text.replace(",", "").split()[0])


def table(page: str, first: str) -> list[list[str]]:
    """Give the cells below the head of the table of a page whose head begins so."""
    below = TEXTS[page].split(f"\n| {first}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in below]


@pytest.mark.parametrize("what", SAME)
def test_what_stands_twice_is_the_same(what: str) -> None:
    found = [(page, said) for page, text in TEXTS.items() for said in re.findall(SAME[what], text)]
    assert len(found) > 1
    assert len({" ".join(said.split()) for _, said in found}) == 1, found


def test_the_table_of_the_readme_is_that_of_the_performance_page() -> None:
    whole = {row[0]: [row[1], *row[5:]] for row in table("docs/performance.md", "input | cvmask, 5 boxes")}
    for size, *cells in table("README.md", "input | cvmask"):
        assert [number(cell) for cell in cells] == [number(cell) for cell in whole[size]], size


def test_how_many_times_as_long_follows_from_the_seconds() -> None:
    for _, ours, _, _, _, *others in table("docs/performance.md", "input | cvmask, 5 boxes"):
        for other in others:
            seconds, ratio = map(float, other.rstrip(")").split(" ("))
            # Both are rounded to a hundredth of a second.
            assert (seconds - 0.005) / (number(ours) + 0.005) <= ratio <= (seconds + 0.005) / (number(ours) - 0.005)


def test_the_rate_of_a_batch_follows_from_its_time() -> None:
    text = TEXTS["docs/batch.md"]
    ((count, minutes, rate),) = re.findall(r"([\d,]+) in ([\d.]+) minutes, (\d+) a second", text)
    assert round(number(count) / number(minutes) / 60) == number(rate)


def test_the_estimates_of_a_batch_follow_from_what_was_measured() -> None:
    text = TEXTS["docs/batch.md"]
    ((busy_s, share),) = re.findall(r"\*t\* = ([\d.]+) s on one thread, \*e\* = ([\d.]+)", text)
    (against_one,) = re.findall(r"against one, full-size graph[^\n]*\| ([\d.]+);", text)
    assert number(share) == number(against_one) / 2
    for cores, *hours in table("docs/batch.md", "cores | 1,000,000 pictures"):
        million_h = 1e6 * number(busy_s) / (number(cores) * number(share)) / 3600
        wanted = [million_h, 90 * million_h, 3.6 * million_h]
        assert [number(cell) for cell in hours] == pytest.approx(wanted, rel=0.01, abs=0.06), cores


def test_the_limits_of_the_server_are_those_of_its_page() -> None:
    limits = Limits()
    said = ["", *(cells[1] for cells in table("docs/serve.md", "limit |"))]
    numbers = [[int(part.replace(",", "")) for part in re.findall(r"[\d,]*\d", cell)] for cell in said]
    assert numbers[1:9] == [
        [limits.picture_bytes >> 20, limits.clip_bytes >> 20, limits.held_bytes >> 20],
        [limits.pixels // 1_000_000],
        [limits.clip_frames],
        [limits.connections, limits.cameras],
        [limits.queue, 503],
        [limits.clips],
        [limits.order_bytes >> 10, limits.frame_bytes >> 20],
        [limits.head_s, limits.body_s, limits.clip_s, limits.work_s, limits.answer_s],
    ]


def test_coco_has_as_many_classes_as_labels() -> None:
    (count,) = {count for text in TEXTS.values() for count in re.findall(SAME["classes of coco"], text)}
    assert len(read_labels(folders.path("mscoco_labels.names"))) == int(count)
