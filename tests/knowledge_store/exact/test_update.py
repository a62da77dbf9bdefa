"""The index follows the truth: incrementally, whatever is killed, damaged or done at once."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from knowledge_store.errors import StoreError
from knowledge_store.exact import Exact, build
from knowledge_store.exact import manifest as manifests
from knowledge_store.exact.errors import IndexCorrupt
from knowledge_store.truth import Truth
from tests.knowledge_store.exact.stores import (
    KERNEL,
    TEST,
    ask,
    indexed,
    places,
    plain_pattern,
    plain_scan,
    pull,
    put,
    updated,
)

DIFFS = {f"x/y#{number}": KERNEL + b"+number %d\n" % number for number in range(1, 21)}


def everything(exact):
    return places(exact.search(ask(r"\S", "regex")))


def wanted(diffs):
    return plain_scan(diffs, plain_pattern(r"\S", "regex"))


def test_a_second_update_does_nothing(tmp_path):
    put(tmp_path, DIFFS)
    with Truth(tmp_path) as truth, Exact(tmp_path) as exact:
        first = exact.update(truth)
        before = (exact.folder / manifests.NAME).stat().st_mtime_ns
        second = exact.update(truth)
        assert (first.indexed, first.is_changed) == (20, True)
        assert (second.indexed, second.removed, second.is_changed) == (0, 0, False)
        assert (exact.folder / manifests.NAME).stat().st_mtime_ns == before
        assert exact.revision() == truth.revision == second.revision


def test_changes_replace_what_was_there(tmp_path):
    with indexed(tmp_path, DIFFS) as exact:
        put(tmp_path, {"x/y#3": TEST, "x/y#99": TEST})
        with Truth(tmp_path) as truth:
            truth.drop("x/y#4", "not a kernel")
            report = exact.update(truth)
        now = {**DIFFS, "x/y#3": TEST, "x/y#99": TEST}
        del now["x/y#4"]
        assert report.removed == 1
        assert everything(exact) == wanted(now)
        assert exact.search(ask("number 3")).total_hits == 0


def test_an_open_index_sees_an_update_by_another(tmp_path):
    with indexed(tmp_path, DIFFS) as reader:
        assert reader.search(ask("def test_softmax")).total_hits == 0
        put(tmp_path, {"x/y#50": TEST})
        updated(tmp_path).close()
        assert reader.search(ask("def test_softmax")).total_hits == 1


def test_facts_beside_the_diff_are_followed(tmp_path):
    with indexed(tmp_path, {"x/y#1": KERNEL}) as exact:
        assert exact.search(ask("__ldg")).hits[0].licence == "unknown"
        with Truth(tmp_path) as truth:
            truth.put(pull("x/y#1", licence="MIT", merged_at="2025-02-03"), KERNEL)
            exact.update(truth)
        answer = exact.search(ask("__ldg", since="2025-02-03"))
        assert answer.hits[0].licence == "MIT"


def test_another_truth_in_the_same_place_is_noticed(tmp_path):
    with indexed(tmp_path, DIFFS) as exact:
        for path in tmp_path.glob("truth*"):
            path.unlink()
        put(tmp_path, {"n/w#1": TEST, "x/y#2": TEST})
        with Truth(tmp_path) as truth:
            exact.update(truth)
        assert everything(exact) == wanted({"n/w#1": TEST, "x/y#2": TEST})


def test_parts_stay_few_while_pulls_arrive_one_by_one(tmp_path):
    with indexed(tmp_path, DIFFS) as exact:
        now = dict(DIFFS)
        for number in range(100, 130):
            now[f"x/y#{number}"] = TEST
            put(tmp_path, {f"x/y#{number}": TEST})
            with Truth(tmp_path) as truth:
                report = exact.update(truth)
            assert report.parts <= 5
        assert everything(exact) == wanted(now)
        folders = {path.name for path in exact.folder.glob("part-*")}
        assert folders == {part.name for part in manifests.read(str(exact.folder)).parts}


def test_a_part_of_mostly_dead_pulls_is_written_anew(tmp_path):
    with indexed(tmp_path, DIFFS) as exact, Truth(tmp_path) as truth:
        before = exact.update(truth).text_bytes
        for number in range(1, 16):
            truth.drop(f"x/y#{number}", "gone")
        report = exact.update(truth)
    assert report.text_bytes < before / 2


@pytest.mark.parametrize("name", ["text", "blocks", "index"])
@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "empty"])
def test_damage_is_noticed_by_a_search_and_repaired_by_an_update(tmp_path, name, harm):
    with indexed(tmp_path, DIFFS) as exact:
        everything(exact)
        (path,) = exact.folder.glob(f"part-*/{name}")
        damage(path, harm)
        with pytest.raises(IndexCorrupt, match="knowledge update"):
            exact.search(ask("number"))
        with pytest.raises(IndexCorrupt):
            Exact(tmp_path).search(ask("number"))
        with Truth(tmp_path) as truth:
            report = exact.update(truth)
        assert len(report.rebuilt) == 1
        assert everything(exact) == wanted(DIFFS)


@pytest.mark.parametrize("harm", ["flip", "cut", "empty"])
def test_a_damaged_manifest_is_noticed_and_repaired(tmp_path, harm):
    with indexed(tmp_path, DIFFS) as exact:
        damage(exact.folder / manifests.NAME, harm)
        with pytest.raises(IndexCorrupt, match="knowledge update"):
            exact.search(ask("number"))
        with Truth(tmp_path) as truth:
            assert exact.update(truth).rebuilt
        assert everything(exact) == wanted(DIFFS)


def test_damage_that_hides_behind_an_old_time_is_found_by_a_check(tmp_path):
    with indexed(tmp_path, DIFFS) as exact:
        exact.check()
        (path,) = exact.folder.glob("part-*/index")
        times = path.stat()
        damage(path, "flip")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        with pytest.raises(IndexCorrupt):
            exact.check()


def test_a_copied_index_is_as_good(tmp_path):
    indexed(tmp_path / "a", DIFFS).close()
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy)
    with Exact(tmp_path / "b") as exact:
        assert everything(exact) == wanted(DIFFS)


def test_a_copy_is_read_once_and_then_known(tmp_path):
    indexed(tmp_path / "a", DIFFS).close()
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copy)
    folder = tmp_path / "b" / "exact"

    def has_new_stamps():
        listed = manifests.read(str(folder)).parts
        return any(manifests.check(str(folder), part) for part in listed)

    assert has_new_stamps()
    updated(tmp_path / "b").close()
    assert not has_new_stamps()


def test_a_disk_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    with indexed(tmp_path, DIFFS) as exact:
        put(tmp_path, {"x/y#50": TEST})
        monkeypatch.setattr(build, "TEXT", "no/such/folder")
        with Truth(tmp_path) as truth, pytest.raises(StoreError, match="cannot be written"):
            exact.update(truth)
        assert everything(exact) == wanted(DIFFS)
        monkeypatch.undo()
        with Truth(tmp_path) as truth:
            exact.update(truth)
        assert everything(exact) == wanted({**DIFFS, "x/y#50": TEST})


def damage(path, harm):
    time.sleep(0.01)  # a file system's clock may stand still for some milliseconds
    if harm == "gone":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-7])
    else:
        raw = bytearray(path.read_bytes())
        raw[len(raw) // 2] ^= 0x20
        path.write_bytes(raw)


class Life(RuleBasedStateMachine):
    """Any sequence of changes and updates leaves an index that equals the truth."""

    @initialize()
    def begin(self):
        self.home = tempfile.TemporaryDirectory()
        self.folder = Path(self.home.name)
        self.truth = Truth(self.folder)
        self.exact = Exact(self.folder)
        self.diffs = {}
        self.is_current = False

    @rule(number=st.integers(1, 12), lines=st.integers(0, 4))
    def put(self, number, lines):
        diff = KERNEL + b"+line\n" * lines
        self.truth.put(pull(f"x/y#{number}"), diff)
        self.diffs[f"x/y#{number}"] = diff
        self.is_current = False

    @rule(number=st.integers(1, 12))
    def drop(self, number):
        key = f"x/y#{number}"
        if key in self.diffs:
            self.truth.drop(key, "gone")
            self.truth.restore(key)
            del self.diffs[key]
            self.is_current = False

    @rule()
    def update(self):
        self.exact.update(self.truth)
        self.is_current = True

    @rule()
    def damage_a_part(self):
        parts = sorted(self.exact.folder.glob("part-*/text"))
        if parts:
            damage(parts[0], "flip")
            self.is_current = False

    @invariant()
    def searches_equal_the_truth(self):
        if getattr(self, "is_current", False):
            assert everything(self.exact) == wanted(self.diffs)

    def teardown(self):
        if hasattr(self, "exact"):
            self.exact.close()
            self.truth.close()
            self.home.cleanup()


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=10, stateful_step_count=15, deadline=None)

_UPDATE = """
import sys
from pathlib import Path
from knowledge_store.errors import StoreError
from knowledge_store.exact import Exact, build
from knowledge_store.truth import Truth
store = Path(sys.argv[1])
with Truth(store, read_only=True) as truth:
    print("ready", flush=True)
    report = Exact(store).update(truth)
print(report.indexed, flush=True)
"""
_SEARCH = """
import sys
from pathlib import Path
from knowledge_store.exact import Exact, ExactQuery
exact = Exact(Path(sys.argv[1]))
query = ExactQuery(patterns=("round",), limit=10**6)
print("ready", flush=True)
seen = set()
while not Path(sys.argv[2]).exists():
    answer = exact.search(query)
    seen.add(tuple(sorted({hit.text for hit in answer.hits})) + (answer.total_hits,))
print(sorted(seen), flush=True)
"""


def started(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.processes
def test_a_killed_update_loses_nothing(tmp_path):
    big = {f"x/y#{n}": KERNEL * 8 + b"+number %d\n" % n for n in range(300) if n}
    indexed(tmp_path, DIFFS).close()
    put(tmp_path, big)
    rng = random.Random(0)
    for _ in range(5):
        process = started(_UPDATE, tmp_path)
        time.sleep(rng.uniform(0, 0.35))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Exact(tmp_path) as exact:
            assert everything(exact) in (wanted(DIFFS), wanted({**DIFFS, **big}))
    with updated(tmp_path) as exact:
        assert everything(exact) == wanted({**DIFFS, **big})
        exact.check()
        listed = {part.name for part in manifests.read(str(exact.folder)).parts}
        assert {path.name for path in exact.folder.glob("part-*")} == listed


@pytest.mark.processes
def test_two_updates_at_once_leave_one_good_index(tmp_path):
    put(tmp_path, DIFFS)
    processes = [started(_UPDATE, tmp_path) for _ in range(3)]
    indexed_by_each = sorted(int(process.communicate()[0]) for process in processes)
    assert indexed_by_each == [0, 0, 20]
    with Exact(tmp_path) as exact:
        assert everything(exact) == wanted(DIFFS)


@pytest.mark.processes
def test_readers_see_the_old_or_the_new_state_during_updates(tmp_path):
    keys = [f"x/y#{number}" for number in range(1, 9)]
    indexed(tmp_path, dict.fromkeys(keys, b"+round 0\n")).close()
    stop = tmp_path / "stop"
    readers = [started(_SEARCH, tmp_path, stop) for _ in range(2)]
    rounds = range(1, 9)
    for number in rounds:
        put(tmp_path, dict.fromkeys(keys, b"+round %d\n" % number))
        updated(tmp_path).close()
    stop.touch()
    possible = {(f"+round {number}", 8) for number in (0, *rounds)}
    for reader in readers:
        printed = reader.communicate()[0]
        assert reader.returncode == 0
        assert set(eval(printed)) <= possible
