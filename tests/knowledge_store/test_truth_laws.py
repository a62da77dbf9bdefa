"""The truth held against a dictionary, through any order of changes, batches and reopenings."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from knowledge_store.merging import merged
from knowledge_store.pulls import PullRequest
from knowledge_store.truth import Truth
from tests.knowledge_store.diff_builders import KERNEL, make_diff, make_pull

DIFFS = [
    None,
    b"",
    KERNEL.encode(),
    make_diff({"b.py": (["x"], ["y"])}),
    b"no diff at all \xff\0\n",
    b"--- a/x\n+++ b/x\n@@ -1,5 +1,5 @@\n x\n",
]
NUMBERS = st.integers(1, 4)
ORIGINS = st.sampled_from(["bundle", "github", "git", "patch"])
TITLES = st.sampled_from(["", "one", "other"])


class Store(RuleBasedStateMachine):
    """A store beside what it should hold."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.truth = Truth(self.folder)
        self.pulls: dict[str, PullRequest] = {}
        self.diffs: dict[str, bytes] = {}
        self.buried: dict[str, str] = {}
        self.seen_revision = 0
        self.seen: dict[str, tuple[PullRequest, bytes]] = {}
        self.is_open = True

    def put_into_model(self, pull: PullRequest, diff: bytes | None) -> None:
        """What a put means, by the law of merging alone."""
        if pull.key in self.buried:
            return
        with Truth(Path(tempfile.mkdtemp(dir=self.folder))) as alone:
            alone.put(pull, diff)
            described = alone.pull(pull.key)
        assert described is not None
        after = merged(self.pulls.get(pull.key), described)
        if diff is not None and after.diff_sha256 == described.diff_sha256:
            self.diffs[pull.key] = diff
        self.pulls[pull.key] = after

    @rule(number=NUMBERS, origin=ORIGINS, title=TITLES, diff=st.sampled_from(DIFFS))
    def put(self, number, origin, title, diff):
        pull = make_pull(number=number, origin=origin, title=title)
        before = self.pulls.get(pull.key)
        changed = self.truth.put(pull, diff)
        self.put_into_model(pull, diff)
        assert changed == (self.pulls.get(pull.key) != before)

    @rule(
        many=st.lists(st.tuples(NUMBERS, TITLES, st.sampled_from(DIFFS)), max_size=5),
    )
    def put_many(self, many):
        with self.truth.batch() as batch:
            for number, title, diff in many:
                batch.put(make_pull(number=number, title=title), diff)
        for number, title, diff in many:
            self.put_into_model(make_pull(number=number, title=title), diff)

    @rule(number=NUMBERS)
    def drop(self, number):
        key = f"owner/name#{number}"
        self.truth.drop(key, f"reason {number}")
        self.buried[key] = f"reason {number}"
        self.pulls.pop(key, None)
        self.diffs.pop(key, None)

    @rule(number=NUMBERS)
    def restore(self, number):
        key = f"owner/name#{number}"
        assert self.truth.restore(key) == (key in self.buried)
        self.buried.pop(key, None)

    @rule()
    def reopen(self):
        self.truth.close()
        self.truth = Truth(self.folder)

    @rule()
    def rederive(self):
        revision = self.truth.revision
        assert self.truth.rederive() == 0
        assert self.truth.revision == revision

    @precondition(lambda self: self.pulls)
    @rule()
    def catch_up(self):
        """An index that asks for what is newer ends where one that reads everything does."""
        for key in list(self.truth.dropped(self.seen_revision)):
            self.seen.pop(key, None)
        for key in list(self.truth.keys(self.seen_revision)):
            pull = self.truth.pull(key)
            assert pull is not None
            self.seen[key] = (pull, self.truth.diff(key))
        self.seen_revision = self.truth.revision
        assert self.seen == {
            key: (pull, self.diffs.get(key, b"")) for key, pull in self.pulls.items()
        }

    @invariant()
    def holds_what_it_should(self):
        assert {pull.key: pull for pull in self.truth.pulls()} == self.pulls
        for key in self.pulls:
            assert self.truth.diff(key) == self.diffs.get(key, b"")
        stones = {stone.key: stone.reason for stone in self.truth.tombstones()}
        assert stones == self.buried

    @invariant()
    def is_consistent(self):
        assert list(self.truth.verify()) == []
        counts = self.truth.counts()
        keys = list(self.truth.keys())
        assert counts.pulls == len(keys) == len(set(keys))
        assert counts.files == sum(len(self.truth.files(key)) for key in keys)
        assert counts.hunks == sum(len(self.truth.hunks(key)) for key in keys)
        assert counts.chunks == sum(len(self.truth.chunks(key)) for key in keys)
        assert counts.diffs == sum(pull.diff_state == "present" for pull in self.pulls.values())
        assert counts.unparsed == tuple(sorted(key for key in keys if self.truth.problems(key)))

    def teardown(self) -> None:
        self.truth.close()
        shutil.rmtree(self.folder)


TestStore = Store.TestCase
TestStore.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
