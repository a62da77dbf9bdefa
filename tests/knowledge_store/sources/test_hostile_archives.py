"""Archives of bundles that mean harm, through the same door as good ones."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard

from knowledge_store.sources import bundles
from knowledge_store.sources.catalogue import Catalogue
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL, write_bundle

MIB = 1024 * 1024
DIFF = KERNEL.encode()


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def good(tmp_path) -> Path:
    return write_bundle(tmp_path / "good" / "gh-2")


def add(tar: tarfile.TarFile, name: str, content: bytes = DIFF, **changes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in changes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


def header_of(name: str, size: int) -> bytes:
    header = tarfile.TarInfo(name)
    header.size = size
    return header.tobuf()


def read(truth, path):
    return bundles.ingest(truth, path, catalogue=Catalogue())


def test_members_that_lead_out_are_counted_and_the_rest_is_read(truth, good, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("../../gh-1/review.diff", "/etc/gh-1/ORIGIN.yaml", "a/../../upstream.json"):
            add(tar, name)
        tar.add(good, "gh-2")
    before = sorted(tmp_path.rglob("*"))
    report = read(truth, path)
    assert (report.changed, report.contained, report.stopped) == (1, {"odd names": 3}, "")
    assert list(truth.keys()) == ["owner/name#2"]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_for_diffs_are_counted_and_not_followed(truth, good, tmp_path, kind):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "gh-1/review.diff", b"", type=kind, linkname="/etc/passwd")
        add(tar, "gh-1/ORIGIN.yaml", b"repo: owner/name\npr_number: 1\n")
        tar.add(good, "gh-2")
    report = read(truth, path)
    assert (report.changed, report.contained) == (2, {"links": 1})
    assert truth.counts().missing == ("owner/name#1",)


def test_a_diff_beyond_the_bound_is_said_to_be_too_large(truth, good, tmp_path):
    path = tmp_path / "a.tar.zst"
    with (
        path.open("wb") as file,
        zstandard.ZstdCompressor().stream_writer(file) as packer,
        tarfile.open(fileobj=packer, mode="w|") as tar,
    ):
        tar.add(good, "gh-2")
        add(tar, "gh-1/review.diff", b"+" + b"x" * (100 * MIB))
        add(tar, "gh-1/ORIGIN.yaml", b"repo: owner/name\npr_number: 1\n")
    report = read(truth, path)
    assert (report.changed, report.contained) == (2, {"too large": 1})
    assert truth.counts().too_large == ("owner/name#1",)


def test_a_bomb_ends_the_archive_and_keeps_what_came_before(truth, good, tmp_path):
    path = tmp_path / "a.tar.zst"
    with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file) as packer:
        for name in ("review.diff", "ORIGIN.yaml", "upstream.json"):
            content = (good / name).read_bytes()
            packer.write(header_of(f"gh-2/{name}", len(content)))
            packer.write(content + bytes(-len(content) % 512))
        packer.write(header_of("gh-3/source-snapshot/zeros", 2048 * MIB))
        for _ in range(300):
            packer.write(bytes(MIB))
    report = read(truth, path)
    assert "unpacks to more than 256 MiB" in report.stopped
    assert (report.changed, report.missing) == (1, [])
    assert list(truth.verify()) == []


def test_a_zip_is_read_like_a_tar_and_its_bombs_end(truth, good, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("review.diff", "ORIGIN.yaml", "upstream.json"):
            file.write(good / name, f"gh-2/{name}")
        for number in range(20, 60):
            file.writestr(f"gh-{number}/review.diff", bytes(8 * MIB))
    report = read(truth, path)
    assert "unpacks to more than 256 MiB" in report.stopped
    assert "owner/name#2" in list(truth.keys())


def test_bundles_that_never_end_are_not_held_forever(truth, good, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(100, 300):
            add(tar, f"gh-{number}/review.diff")
        tar.add(good, "gh-2")
    report = read(truth, path)
    assert (report.changed, len(report.problems)) == (1, 200)


def test_names_that_no_encoding_knows_are_read(truth, good, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    good.rename(odd / os.fsdecode(b"\xff\xfe-2"))
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(odd, ".")
    report = read(truth, path)
    assert (report.changed, report.problems) == (1, [])


def test_snapshots_of_whole_bundles_are_passed_over(truth, good, tmp_path):
    snapshot = good / "source-snapshot" / "deep"
    snapshot.mkdir(parents=True)
    (snapshot / "review.diff").write_bytes(b"not this one")
    (snapshot / "ORIGIN.yaml").write_text("repo: other/one\npr_number: 5\n")
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(good, "gh-2")
    read(truth, path)
    assert list(truth.keys()) == ["owner/name#2"]
    assert truth.diff("owner/name#2") == DIFF


def test_the_same_file_twice_is_one_bundle(truth, good, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(good, "gh-2")
        tar.add(good, "gh-2")
    assert read(truth, path).total <= 2
    assert truth.counts().pulls == 1


def test_an_archive_of_nothing_is_no_error(truth, tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w"):
        pass
    assert read(truth, path).total == 0
