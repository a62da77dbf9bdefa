"""Parts are merged, manifests replaced and damage survived, whatever order it comes in."""

import os
import shutil
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.exact import Exact
from knowledge_store.exact import manifest as manifests
from knowledge_store.exact.errors import IndexCorrupt, IndexMissing
from knowledge_store.exact.manifest import Listed, Manifest, Stamp
from knowledge_store.exact.update import _Kept, _to_merge
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import KERNEL, TEST, ask, indexed, places, put, updated


def kept(name, live, written=None):
    keys = {f"{name}#{number}": (number, "d") for number in range(live)}
    count = live if written is None else written
    return _Kept(listed=Listed(name, {}), live=keys, pulls=count, has_new_stamp=False)


def merged(parts, written):
    return {part.listed.name for part in _to_merge(parts, written)}


@pytest.mark.parametrize(
    ("sizes", "written", "names"),
    [
        ([5, 3], 0, set()), ([5, 3], 1, set()), ([7, 2], 1, {"p1"}), ([5, 2], 2, {"p0", "p1"}),
        ([9, 2], 2, {"p1"}), ([8, 2], 2, {"p0", "p1"}), ([1, 1, 1], 1, {"p0", "p1", "p2"}),
        ([100, 40, 10, 3], 2, {"p3", "p2"}), ([100, 30, 10, 3], 2, {"p1", "p2", "p3"}),
        ([], 7, set()),
    ],
)  # fmt: skip
def test_small_parts_are_merged_into_what_is_written_anyway(sizes, written, names):
    assert merged([kept(f"p{at}", size) for at, size in enumerate(sizes)], written) == names


@pytest.mark.parametrize(
    ("live", "written", "is_sparse"),
    [(8, 8, False), (6, 8, False), (5, 8, True), (0, 8, True), (0, 1, True), (1, 1, False),
     (0, 3, True), (0, 0, True)],
)  # fmt: skip
def test_a_part_of_dead_pulls_is_merged_alone(live, written, is_sparse):
    assert (merged([kept("p", live, written)], 0) == {"p"}) is is_sparse


@given(st.lists(st.integers(1, 500), max_size=12), st.integers(1, 50))
def test_parts_that_stay_grow_by_more_than_twice(sizes, written):
    parts = [kept(f"p{at}", size) for at, size in enumerate(sizes)]
    gone = merged(parts, written)
    total = written + sum(len(part.live) for part in parts if part.listed.name in gone)
    assert all(len(part.live) > 2 * total for part in parts if part.listed.name not in gone)


def test_retired_pulls_are_dead_and_no_longer_live():
    part = kept("p", 4)
    part.retire({"p#1", "p#3", "q#0"})
    part.retire({"p#1"})
    assert (set(part.live), part.listed.dead) == ({"p#0", "p#2"}, {1, 3})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_text_of_dropped_pulls_does_not_stay(tmp_path, count):
    diffs = {f"x/y#{number}": b"+secret %d\n" % number for number in range(1, count + 1)}
    with indexed(tmp_path, diffs) as exact, Truth(tmp_path) as truth:
        for key in diffs:
            truth.drop(key, "not ours to keep")
        report = exact.update(truth)
        assert (report.removed, report.parts, report.text_bytes) == (count, 0, 0)
        assert list(exact.folder.glob("part-*")) == []
        assert exact.search(ask("secret")).searched_pulls == 0
        assert not exact.update(truth).is_changed


@settings(max_examples=8)
@given(st.lists(st.sampled_from(["put", "change", "drop", "empty"]), min_size=1, max_size=6))
def test_the_manifest_lists_every_live_pull_once(tmp_path_factory, steps):
    store = tmp_path_factory.mktemp("s")
    diffs = {f"x/y#{number}": b"+line %d\n" % number for number in range(1, 7)}
    indexed(store, diffs).close()
    for at, step in enumerate(steps, start=1):
        key = f"x/y#{at}" if step in {"change", "drop"} else f"x/y#{100 + at}"
        with Truth(store) as truth:
            if step == "drop":
                truth.drop(key, "gone")
                diffs.pop(key)
        if step != "drop":
            diffs[key] = b"" if step == "empty" else b"+line new %d\n" % at
            put(store, {key: diffs[key]})
        with updated(store) as exact:
            answer = exact.search(ask("line"))
            assert places(answer) == {(key, 1) for key, diff in diffs.items() if diff}
            assert answer.searched_pulls == len(diffs)
            exact.check()
            names = [part.name for part in manifests.read(str(exact.folder)).parts]
            assert sorted(path.name for path in exact.folder.glob("part-*")) == sorted(names)


# Manifests


def test_a_manifest_takes_the_place_of_the_one_before(tmp_path):
    stamp = Stamp(1, 2, 3)
    files = {"text": stamp, "blocks": stamp, "index": stamp}
    long = Manifest(1, [Listed(f"part-{n:06d}", files, range(500)) for n in range(200)])
    manifests.write(str(tmp_path), long)
    before = os.open(tmp_path / manifests.NAME, os.O_RDONLY)
    (tmp_path / f"{manifests.NAME}.new").write_bytes(b"left by a killed writer " * 99_999)
    manifests.write(str(tmp_path), Manifest(2, []))
    try:
        assert os.fstat(before).st_nlink == 0
        assert len(os.read(before, 1 << 22)) > 300_000
    finally:
        os.close(before)
    now = manifests.read(str(tmp_path))
    assert (now.revision, now.parts) == (2, ())
    assert [path.name for path in tmp_path.iterdir()] == [manifests.NAME]


def test_a_manifest_longer_than_one_read_comes_back_whole(tmp_path):
    stamp = Stamp(2**40, 2**62, 2**32 - 1)
    files = {"text": stamp, "blocks": stamp, "index": stamp}
    parts = [Listed(f"part-{n:06d}", files, range(60_000)) for n in range(4)]
    manifests.write(str(tmp_path), Manifest(7, parts))
    assert (tmp_path / manifests.NAME).stat().st_size > 1 << 20
    now = manifests.read(str(tmp_path))
    assert [(part.name, len(part.dead)) for part in now.parts] == [
        (f"part-{n:06d}", 60_000) for n in range(4)
    ]


def test_a_folder_in_the_place_of_the_store_means_nothing_is_indexed(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IndexMissing, match="knowledge build"):
        manifests.read(str(tmp_path / "file"))


@pytest.mark.parametrize(
    "body", [b"", b"exact 2", b"exact 2\nx", b"exact 2\n1\npart-1 text 1 2", b"exact 2\n1\n\n",
             b"exact 2\n1\npart-1 text 1 2 3 blocks 1 2 3 index 1 2 x", b"\xff\xfe\n1"],
)  # fmt: skip
def test_a_sound_checksum_does_not_make_nonsense_a_manifest(tmp_path, body):
    path = tmp_path / manifests.NAME
    path.write_bytes(body + b"\n%08x\n" % zlib.crc32(body))
    with pytest.raises(IndexCorrupt, match="is damaged"):
        manifests.read(str(tmp_path))


# Searches beside what happens to the index


def test_what_is_put_back_after_damage_is_counted_as_before(tmp_path):
    diffs = {"x/y#1": KERNEL, "x/y#2": TEST, "x/y#3": None}
    indexed(tmp_path, diffs).close()
    (text,) = (tmp_path / "exact").glob("part-*/text")
    shutil.copy2(text, tmp_path / "copy")
    text.write_bytes(b"harm")
    with Exact(tmp_path) as exact:
        with pytest.raises(IndexCorrupt):
            exact.search(ask("num_warps"))
        shutil.copy2(tmp_path / "copy", text)
        answer = exact.search(ask("num_warps"))
    assert (answer.searched_pulls, answer.total_pulls) == (2, 2)
    assert answer.without_diff == ("x/y#3",)
    assert not answer.is_complete


def test_an_index_that_is_closed_opens_again_and_an_index_that_is_gone_is_missing(tmp_path):
    with indexed(tmp_path, {"x/y#1": KERNEL, "x/y#2": None}) as exact:
        first = exact.search(ask("__ldg"))
        exact.close()
        exact.close()
        again = exact.search(ask("__ldg"))
        assert (again.hits, again.without_diff) == (first.hits, ("x/y#2",))
        assert (again.searched_pulls, again.is_complete) == (1, False)
        shutil.rmtree(exact.folder)
        for call in (lambda: exact.search(ask("__ldg")), exact.revision, exact.check):
            with pytest.raises(IndexMissing):
                call()
        with Truth(tmp_path) as truth:
            assert exact.update(truth).indexed == 2
        assert exact.search(ask("__ldg")).hits == first.hits


def test_a_part_that_is_gone_is_damage_to_every_question(tmp_path):
    with indexed(tmp_path, {"x/y#1": KERNEL}) as exact:
        (part,) = exact.folder.glob("part-*")
        shutil.rmtree(part)
        for call in (lambda: exact.search(ask("__ldg")), exact.check):
            with pytest.raises(IndexCorrupt, match="is gone; run"):
                call()
        with Truth(tmp_path) as truth:
            assert exact.update(truth).rebuilt
        exact.check()
        assert exact.search(ask("__ldg")).total_hits == 1
