import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge_store.chunks import chunk
from knowledge_store.derivation import derivation
from knowledge_store.diffs import parse
from knowledge_store.errors import StoreError
from knowledge_store.progress import Progress
from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES
from tests.knowledge_store.diff_builders import CHANGES, KERNEL, KEY, make_diff, make_pull

ROOT = Path(__file__).resolve().parents[2]
DIFF = KERNEL.encode()


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path) as opened:
        yield opened


def test_what_was_put_is_read_back(truth):
    assert truth.put(make_pull(body="Faster.", labels=("perf",)), DIFF)
    pull = truth.pull(KEY)
    assert pull is not None
    assert (pull.title, pull.body, pull.labels) == ("Load through the cache", "Faster.", ("perf",))
    assert (pull.diff_state, len(pull.diff_sha256)) == ("present", 64)
    assert truth.diff(KEY) == DIFF
    assert list(truth.keys()) == [KEY]
    assert truth.by_slug("pr-name-12") == (KEY,)
    assert list(truth.pulls()) == [pull]


@settings(max_examples=20)
@given(CHANGES)
def test_derived_pieces_are_read_as_they_were_cut(tmp_path_factory, changes):
    diff = make_diff(changes)
    parsed = parse(KEY, diff)
    with Truth(tmp_path_factory.mktemp("store")) as truth:
        truth.put(make_pull(), diff)
        assert truth.diff(KEY) == diff
        assert truth.files(KEY) == parsed.files
        assert truth.hunks(KEY) == parsed.hunks
        assert truth.chunks(KEY) == chunk(KEY, parsed).chunks


@given(content=st.binary(max_size=300))
@settings(max_examples=20)
def test_any_bytes_come_back_as_they_were(tmp_path_factory, content):
    with Truth(tmp_path_factory.mktemp("store")) as truth:
        truth.put(make_pull(), content)
        assert truth.diff(KEY) == content
        truth.chunks(KEY)


def test_the_same_again_changes_nothing(truth):
    assert truth.put(make_pull(), DIFF)
    before = truth.revision
    assert not truth.put(make_pull(), DIFF)
    assert truth.revision == before


def test_every_change_has_a_revision_that_indices_ask_from(truth):
    for number in (1, 2, 3):
        truth.put(make_pull(number=number), DIFF)
    seen = truth.revision
    assert list(truth.keys(since=seen)) == []
    truth.put(make_pull(number=2, title="Another title"), DIFF)
    assert list(truth.keys(since=seen)) == ["owner/name#2"]
    assert list(truth.keys()) == ["owner/name#1", "owner/name#3", "owner/name#2"]


def test_a_new_title_leaves_the_diff_alone(truth):
    truth.put(make_pull(), DIFF)
    chunks = truth.chunks(KEY)
    assert truth.put(make_pull(title="Better"), DIFF)
    assert truth.chunks(KEY) == chunks
    assert truth.pull(KEY).title == "Better"


def test_a_new_diff_replaces_what_was_derived(truth):
    truth.put(make_pull(), DIFF)
    other = make_diff({"b.py": (["x"], ["y"])})
    assert truth.put(make_pull(), other)
    assert [file.path for file in truth.files(KEY)] == ["b.py"]
    assert truth.counts().files == 1


def test_a_missing_diff_is_named_and_may_come_later(truth):
    truth.put(make_pull(), None)
    assert truth.counts().missing == (KEY,)
    assert truth.diff(KEY) == b""
    assert truth.put(make_pull(), DIFF)
    assert truth.counts().missing == ()
    assert truth.diff(KEY) == DIFF


def test_a_source_without_the_diff_does_not_take_it_away(truth):
    truth.put(make_pull(), DIFF)
    assert not truth.put(make_pull(), None)
    assert truth.diff(KEY) == DIFF


def test_a_diff_that_is_too_large_is_said_and_not_kept(truth):
    truth.put(make_pull(), b"+" * (MOST_DIFF_BYTES + 1))
    assert truth.counts().too_large == (KEY,)
    assert truth.diff(KEY) == b""


def test_counts_say_what_the_store_holds(truth):
    truth.put(make_pull(number=1, licence="MIT"), DIFF)
    truth.put(make_pull(number=2), b"--- a/x\n+++ b/x\n@@ -1,9 +1 @@\n-a\n")
    truth.put(make_pull(number=3), None)
    counts = truth.counts()
    assert (counts.pulls, counts.diffs, counts.files, counts.hunks) == (3, 2, 2, 2)
    assert (counts.added, counts.removed, counts.lines) == (3, 2, 18)
    assert counts.diff_bytes == len(truth.diff("owner/name#1")) + len(truth.diff("owner/name#2"))
    assert counts.unparsed == ("owner/name#2",)
    assert counts.unknown_licences == 2
    assert "ends before its counts" in truth.problems("owner/name#2")[0]


def test_what_was_dropped_stays_out_until_it_is_restored(truth):
    truth.put(make_pull(), DIFF)
    seen = truth.revision
    truth.drop(KEY, "its authors asked for it")
    assert truth.pull(KEY) is None
    assert truth.chunks(KEY) == truth.files(KEY) == ()
    assert list(truth.dropped(since=seen)) == [KEY]
    assert [(stone.key, stone.reason) for stone in truth.tombstones()] == [
        (KEY, "its authors asked for it")
    ]
    assert not truth.put(make_pull(), DIFF)
    assert truth.restore(KEY)
    assert not truth.restore(KEY)
    assert truth.put(make_pull(), DIFF)
    assert list(truth.dropped()) == []


def test_a_batch_commits_some_at_a_time(tmp_path):
    with Truth(tmp_path) as writer, Truth(tmp_path, read_only=True) as reader:
        with writer.batch() as batch:
            for number in range(1, 41):
                batch.put(make_pull(number=number), DIFF)
            assert 0 < len(list(reader.keys())) < 40
        assert len(list(reader.keys())) == 40


def test_what_was_put_before_an_error_is_kept(tmp_path):
    class Stopped(Exception):
        pass

    def put_and_stop(truth):
        with truth.batch() as batch:
            batch.put(make_pull(), DIFF)
            raise Stopped

    with Truth(tmp_path) as truth:
        with pytest.raises(Stopped):
            put_and_stop(truth)
        assert list(truth.keys()) == [KEY]


def test_a_pull_request_put_twice_in_a_batch_is_kept_once(truth):
    with truth.batch() as batch:
        assert batch.put(make_pull(), DIFF) == "changed"
        assert batch.put(make_pull(), DIFF) == "unchanged"
        assert batch.put(make_pull(title="Later"), DIFF) == "changed"
    assert truth.counts().pulls == 1
    assert truth.pull(KEY).title == "Later"


def test_marks_and_cursors_are_committed_with_what_came_before(truth):
    with truth.batch() as batch:
        batch.put(make_pull(), DIFF)
        batch.mark("bundle:name/gh-12", "abc", KEY)
        batch.move("github:owner/name", "2026-01-01")
        batch.decide(KEY, "include", "touches a kernel")
    assert truth.seen("bundle:name/gh-12") == ("abc", KEY)
    assert truth.seen("other") == ("", "")
    assert truth.cursor("github:owner/name") == "2026-01-01"
    assert [(row.key, row.decision) for row in truth.decisions()] == [(KEY, "include")]
    truth.drop(KEY, "reason")
    truth.restore(KEY)
    assert truth.seen("bundle:name/gh-12") == ("", "")
    assert truth.cursor("github:owner/name") == ""


def test_an_older_derivation_is_made_anew_without_a_source(tmp_path):
    with Truth(tmp_path) as truth:
        truth.put(make_pull(), DIFF)
        chunks, before = truth.chunks(KEY), truth.revision
    with sqlite3.connect(tmp_path / "truth.sqlite") as file:
        file.execute("UPDATE pull SET derivation = 'older'")
        file.execute("UPDATE chunk SET heading = 'wrong'")
    file.close()
    with Truth(tmp_path) as truth:
        assert truth.outdated() == (KEY,)
        told: list[Progress] = []
        assert truth.rederive(told.append) == 1
        assert [(step.done, step.total, step.item) for step in told] == [(1, 1, KEY)]
        assert truth.chunks(KEY) == chunks
        assert truth.outdated() == ()
        assert truth.revision > before


def test_the_derivation_names_the_vocabulary():
    assert len(derivation().split("-")) == 2


# Opening


def test_a_store_that_is_not_there_cannot_be_read(tmp_path):
    with pytest.raises(StoreError, match="knowledge build"):
        Truth(tmp_path / "nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_store_of_a_newer_version_is_refused_and_left_alone(tmp_path):
    Truth(tmp_path).close()
    with sqlite3.connect(tmp_path / "truth.sqlite") as file:
        file.execute("PRAGMA user_version = 99")
    file.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match="newer version"):
            Truth(tmp_path, read_only=read_only)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path, read_only):
    path = tmp_path / "truth.sqlite"
    path.write_bytes(b"not a database at all, but a text of some length" * 100)
    with pytest.raises(StoreError, match="damaged or no knowledge store"):
        Truth(tmp_path, read_only=read_only)
    assert path.read_bytes().startswith(b"not a database")


@pytest.mark.parametrize("read_only", [False, True])
def test_another_programs_database_is_refused(tmp_path, read_only):
    with sqlite3.connect(tmp_path / "truth.sqlite") as file:
        file.execute("CREATE TABLE other(x)")
    file.close()
    with pytest.raises(StoreError, match="is not a knowledge store"):
        Truth(tmp_path, read_only=read_only)


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        Truth(tmp_path / "file" / "store")


def test_damage_is_found(tmp_path):
    with Truth(tmp_path) as truth:
        truth.put(make_pull(number=1), DIFF)
        truth.put(make_pull(number=2), DIFF)
        truth.put(make_pull(number=3), DIFF)
        assert list(truth.verify()) == []
    with sqlite3.connect(tmp_path / "truth.sqlite") as file:
        file.execute("UPDATE diff SET zstd = x'00112233' WHERE pull = 1")
        file.execute("DELETE FROM diff WHERE pull = 2")
        file.execute("UPDATE pull SET diff_sha256 = 'other' WHERE id = 3")
    file.close()
    with Truth(tmp_path) as truth:
        found = list(truth.verify())
        assert len(found) == 3
        assert "the diff of owner/name#1 is damaged" in found[0]
        with pytest.raises(StoreError, match="ingest again"):
            truth.diff("owner/name#1")


def test_damaged_pages_are_a_typed_error(tmp_path):
    with Truth(tmp_path) as truth, truth.batch() as batch:
        for number in range(1, 200):
            batch.put(make_pull(number=number, body=f"{number}" * 500), DIFF)
    path = tmp_path / "truth.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:-4096] = b"\x5a" * (len(content) - 12288)
    path.write_bytes(content)
    with Truth(tmp_path) as truth:
        assert len(list(truth.verify())) > 0
        with pytest.raises(StoreError):
            list(truth.pulls())


# Several processes

WRITER = """
import sys
from pathlib import Path
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL, make_pull
first, count = int(sys.argv[2]), int(sys.argv[3])
with Truth(Path(sys.argv[1])) as truth, truth.batch() as batch:
    for number in range(first, first + count):
        batch.put(make_pull(number=number, body=sys.argv[4]), KERNEL.encode())
        print(number, flush=True)
"""


def start_writer(store: Path, first: int, count: int, body: str = "") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store), str(first), str(count), body],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )


@pytest.mark.processes
def test_two_writers_and_a_reader_at_once_lose_nothing(tmp_path):
    store = tmp_path / "store"
    writers = [start_writer(store, 1, 150), start_writer(store, 101, 150)]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    with Truth(store, read_only=True) as truth:
        assert truth.counts().pulls == 250
        assert truth.revision == 250
        assert list(truth.verify()) == []


@pytest.mark.processes
@pytest.mark.parametrize("puts", [1, 20, 33, 70, 99])
def test_a_killed_writer_leaves_whole_pull_requests_and_can_be_repeated(tmp_path, puts):
    writer = start_writer(tmp_path, 1, 100)
    assert writer.stdout is not None
    for _ in range(puts):
        writer.stdout.readline()
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate(timeout=60)
    with Truth(tmp_path) as truth:
        assert list(truth.verify()) == []
        assert truth.counts().pulls % 32 == 0 or truth.counts().pulls == 100
        assert [len(truth.chunks(key)) for key in list(truth.keys())] == [1] * truth.counts().pulls
    start_writer(tmp_path, 1, 100).communicate(timeout=60)
    with Truth(tmp_path) as truth:
        assert truth.counts().pulls == truth.counts().chunks == 100
        assert list(truth.verify()) == []
