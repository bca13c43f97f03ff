from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from contextlib import suppress
from random import Random

import pytest
from zoo_server import ARCHIVE, GRAPH, STEM, member, noise, tar_gz

from cvmask.errors import ModelError
from cvmask.models.install import kind_of, unpack
from cvmask.models.zoo import CONFIG_FILE, GRAPH_FILE, get

PREFIX = get("coco-resnet50").folder_prefix


@pytest.fixture
def take(tmp_path):
    """Unpack bytes; return the folder, whose parent holds nothing but it and the archive."""

    def run(content, limit_bytes=10**7):
        archive, into = tmp_path / "a.tar.gz", tmp_path / "into"
        archive.write_bytes(content)
        into.mkdir()
        unpack(archive, into, PREFIX, limit_bytes)
        return into

    return run


def outside(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_unpack_takes_only_the_graph_and_the_config(take):
    into = take(ARCHIVE)
    assert sorted(path.name for path in into.iterdir()) == [GRAPH_FILE, CONFIG_FILE]
    assert (into / GRAPH_FILE).read_bytes() == GRAPH


def test_unpack_takes_a_graph_without_a_folder_or_config(take):
    into = take(tar_gz(member(f"./{GRAPH_FILE}", b"graph")))
    assert [path.name for path in into.iterdir()] == [GRAPH_FILE]


@pytest.mark.parametrize(
    "name", ["../evil", f"{STEM}/../../evil", "/tmp/evil", "..\\evil", f"../{GRAPH_FILE}"]
)
def test_unpack_refuses_a_path_outside(take, tmp_path, name):
    with pytest.raises(ModelError, match="would lie outside"):
        take(tar_gz(member(name, b"x"), member(f"{STEM}/{GRAPH_FILE}", b"graph")))
    assert outside(tmp_path) == ["a.tar.gz", "into"]
    assert not (tmp_path.parent / "evil").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_unpack_refuses_a_link_or_device_as_graph(take, tmp_path, kind):
    with pytest.raises(ModelError, match="is a link or a device"):
        take(tar_gz(member(f"{STEM}/{GRAPH_FILE}", type=kind, linkname="/etc/passwd")))
    assert list((tmp_path / "into").iterdir()) == []


def test_unpack_makes_no_link_that_it_does_not_need(take):
    link = member(f"{STEM}/latest", type=tarfile.SYMTYPE, linkname="/etc")
    into = take(
        tar_gz(link, member(f"{STEM}/latest/{GRAPH_FILE}", b"no"), member(f"{STEM}/{GRAPH_FILE}", b"yes"))
    )
    assert [path.name for path in into.iterdir()] == [GRAPH_FILE]
    assert (into / GRAPH_FILE).read_bytes() == b"yes"


def test_unpack_refuses_a_bomb_before_it_is_read(take, tmp_path):
    bomb = tar_gz(member(f"{STEM}/{GRAPH_FILE}", bytes(20 * 10**6)))
    assert len(bomb) < 50_000
    with pytest.raises(ModelError, match="exceeds 10 MB"):
        take(bomb)
    assert list((tmp_path / "into").iterdir()) == []


def test_unpack_refuses_a_bomb_of_many_members(take):
    with pytest.raises(ModelError, match="exceeds 10 MB"):
        take(tar_gz(*(member(f"{STEM}/{n}", bytes(10**6)) for n in range(12))))


def test_unpack_refuses_endless_empty_members(take):
    with pytest.raises(ModelError, match="1000 members"):
        take(tar_gz(*(member(f"{STEM}/{n}") for n in range(1200))))


def test_unpack_refuses_a_bomb_in_a_header(take):
    huge = member(f"{STEM}/x", pax_headers={"comment": "x" * 50_000_000})
    content = tar_gz(huge, member(f"{STEM}/{GRAPH_FILE}", b"graph"))
    tracemalloc.start()
    with pytest.raises(ModelError, match="a header exceeds"):
        take(content)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_unpack_refuses_a_bomb_behind_the_end(take):
    plain = gzip.decompress(tar_gz(member(f"{STEM}/{GRAPH_FILE}", b"graph"))) + bytes(5_000_000)
    with pytest.raises(ModelError, match="a header exceeds"):
        take(gzip.compress(plain))


def test_unpack_refuses_a_negative_size(take):
    info, _ = member(f"{STEM}/x")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(ModelError):
        take(gzip.compress(bytes(header) + bytes(1024)))


def test_unpack_refuses_the_graph_twice(take):
    graph = member(f"{STEM}/{GRAPH_FILE}", b"graph")
    with pytest.raises(ModelError, match="twice"):
        take(tar_gz(graph, graph))


def test_unpack_names_an_archive_of_another_model(take):
    with pytest.raises(ModelError, match="another model: it has no mask_rcnn_resnet50_atrous_coco"):
        take(tar_gz(member(f"ssd_mobilenet_v1_coco_2017_11_17/{GRAPH_FILE}", b"graph")))


@pytest.mark.parametrize("keep", [0, 1, 10, len(ARCHIVE) // 2, len(ARCHIVE) - 4])
def test_unpack_notices_a_truncated_archive(take, keep):
    with pytest.raises(ModelError, match="is damaged"):
        take(ARCHIVE[:keep])


@pytest.mark.parametrize("at", [12, len(ARCHIVE) // 2, len(ARCHIVE) - 6])
def test_unpack_notices_one_changed_byte(take, at):
    damaged = bytearray(ARCHIVE)
    damaged[at] ^= 0x55
    with pytest.raises(ModelError):
        take(bytes(damaged))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"\n <!DOCTYPE html><html>login</html>", "an HTML page"),
        (noise(100), "not a gzip file"),
        (gzip.compress(b"no tar at all" * 100), "another gzip file"),
    ],
)
def test_unpack_says_what_came_instead(take, content, kind):
    with pytest.raises(ModelError, match=kind):
        take(content)


def test_kind_of_reads_only_the_start(tmp_path):
    path = tmp_path / "page"
    path.write_bytes(b"<html>" + bytes(1000))
    assert kind_of(path).startswith("an HTML page")


def test_unpack_survives_random_archives(tmp_path):
    random_bytes = noise(4000, seed=3)
    for seed in range(60):
        plain = bytearray(gzip.decompress(tar_gz(member(f"{STEM}/{GRAPH_FILE}", b"graph" * 300))))
        for n in range(5):
            at = int.from_bytes(random_bytes[seed * 20 + 2 * n : seed * 20 + 2 * n + 2], "big") % 1500
            plain[at] = random_bytes[seed + n]
        archive, into = tmp_path / f"{seed}.tar.gz", tmp_path / str(seed)
        archive.write_bytes(gzip.compress(bytes(plain)))
        into.mkdir()
        try:
            unpack(archive, into, PREFIX, 10**6)
        except ModelError:
            continue
        assert {path.name for path in into.iterdir()} <= {GRAPH_FILE, CONFIG_FILE}


def test_unpack_reads_a_sparse_member_no_further_than_its_size(take):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        info, content = member(f"{STEM}/{GRAPH_FILE}", bytes(512), type=tarfile.GNUTYPE_SPARSE)
        archive.addfile(info, io.BytesIO(content))
    with pytest.raises(ModelError):
        take(gzip.compress(plain.getvalue()))


def chained(kind, count):
    """Headers that each announce the next one: a Python frame each while tarfile reads them."""
    blocks = []
    for _ in range(count):
        info = tarfile.TarInfo("x")
        info.type = kind
        blocks.append(info.tobuf(tarfile.GNU_FORMAT))
    return gzip.compress(b"".join(blocks))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGLINK])
def test_unpack_of_a_chain_of_headers_is_one_line(take, kind):
    with pytest.raises(ModelError, match="is damaged, or another gzip file") as caught:
        take(chained(kind, 50_000))
    assert "\n" not in str(caught.value)


def test_unpack_of_flipped_bytes_is_whole_or_one_line(tmp_path):
    plain = bytearray(gzip.decompress(ARCHIVE)[: 40 * 512])
    random = Random(28)
    archive = tmp_path / "a.tar.gz"
    for number in range(150):
        bad = bytearray(plain)
        for _ in range(1 + number % 4):
            bad[random.randrange(8 * 512)] = random.choice(b"\0\xff09gxLKSV")
        archive.write_bytes(gzip.compress(bytes(bad), 1))
        into = tmp_path / str(number)
        into.mkdir()
        with suppress(ModelError):
            unpack(archive, into, PREFIX, 10**7)
