"""The one file that says what the index is."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.exact import manifest as manifests
from knowledge_store.exact.errors import IndexCorrupt, IndexMissing
from knowledge_store.exact.manifest import Listed, Manifest, Stamp

numbers = st.integers(0, 2**62)
stamps = st.builds(Stamp, numbers, numbers, st.integers(0, 2**32 - 1))
parts = st.builds(
    Listed,
    st.from_regex(r"part-[0-9]{6}", fullmatch=True),
    st.fixed_dictionaries({"text": stamps, "blocks": stamps, "index": stamps}),
    st.frozensets(st.integers(0, 5000), max_size=5),
)


def facts(manifest):
    return manifest.revision, [
        (
            part.name,
            sorted(part.dead),
            [(name, s.size, s.mtime_ns, s.checksum) for name, s in sorted(part.stamps.items())],
        )
        for part in manifest.parts
    ]


@given(numbers, st.lists(parts, max_size=4))
def test_a_manifest_comes_back_as_it_was_written(tmp_path_factory, revision, listed):
    folder = str(tmp_path_factory.mktemp("m"))
    manifest = Manifest(revision, listed)
    manifests.write(folder, manifest)
    assert facts(manifests.read(folder)) == facts(manifest)
    assert [path.name for path in Path(folder).iterdir()] == [manifests.NAME]


@given(st.data())
def test_any_changed_byte_is_noticed(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("m")
    stamp = Stamp(1, 2, 3)
    named = Listed("part-000001", {"text": stamp, "blocks": stamp, "index": stamp}, {4})
    manifests.write(str(folder), Manifest(7, [named]))
    path = folder / manifests.NAME
    raw = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(raw) - 2))  # the last newline says nothing
    raw[at] ^= data.draw(st.sampled_from([1, 2, 4, 8, 16, 64, 128]))
    path.write_bytes(raw)
    with pytest.raises(IndexCorrupt, match="knowledge update"):
        manifests.read(str(folder))


def test_no_manifest_means_nothing_is_indexed(tmp_path):
    with pytest.raises(IndexMissing, match="knowledge build"):
        manifests.read(str(tmp_path))


def test_a_manifest_of_another_version_says_so(tmp_path):
    manifests.write(str(tmp_path), Manifest(1, []))
    path = tmp_path / manifests.NAME
    body = b"\n".join(path.read_bytes().splitlines()[:-1]).replace(b"exact 2", b"exact 9")
    path.write_bytes(body + f"\n{zlib.crc32(body):08x}\n".encode())
    with pytest.raises(IndexCorrupt, match="of version 'exact 9'"):
        manifests.read(str(tmp_path))


def listed_file(tmp_path, content=b"content"):
    (tmp_path / "p").mkdir(exist_ok=True)
    path = tmp_path / "p" / "text"
    path.write_bytes(content)
    return path, Listed("p", {"text": manifests.stamp_of(str(path))})


def test_a_file_as_it_was_written_passes(tmp_path):
    _, listed = listed_file(tmp_path)
    manifests.check(str(tmp_path), listed)
    manifests.check(str(tmp_path), listed, fully=True)


def test_a_file_of_another_time_is_read_and_passes_when_it_is_the_same(tmp_path):
    path, listed = listed_file(tmp_path)
    os.utime(path, ns=(5, 5))
    assert manifests.check(str(tmp_path), listed)
    assert listed.stamps["text"].mtime_ns == 5
    assert not manifests.check(str(tmp_path), listed)


def test_a_file_that_was_changed_or_cut_fails(tmp_path):
    path, listed = listed_file(tmp_path)
    for content in (b"Content", b"conten", b"content "):
        path.write_bytes(content)
        os.utime(path, ns=(5, 5))
        with pytest.raises(IndexCorrupt, match="not what was written"):
            manifests.check(str(tmp_path), listed)


def test_a_file_changed_behind_an_old_time_fails_a_full_check_only(tmp_path):
    path, listed = listed_file(tmp_path)
    stamp = listed.stamps["text"]
    path.write_bytes(b"Content")
    os.utime(path, ns=(stamp.mtime_ns, stamp.mtime_ns))
    manifests.check(str(tmp_path), listed)
    with pytest.raises(IndexCorrupt):
        manifests.check(str(tmp_path), listed, fully=True)
