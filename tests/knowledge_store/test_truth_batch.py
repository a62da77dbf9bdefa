"""Batches beside others: what happens to a change between its put and its commit."""

import pytest

from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES
from tests.knowledge_store.diff_builders import KERNEL, KEY, make_diff, make_pull

DIFF = KERNEL.encode()
OTHER = make_diff({"b.py": (["x"], ["y"])})


@pytest.fixture
def truth(tmp_path):
    with Truth(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def neighbour(tmp_path, truth):
    with Truth(tmp_path / "store") as opened:
        yield opened


def test_what_is_put_is_not_seen_before_it_is_committed(truth, neighbour):
    with truth.batch() as batch:
        assert batch.put(make_pull(), DIFF) == "changed"
        assert neighbour.pull(KEY) is None
        assert neighbour.revision == 0
        batch.commit()
        assert neighbour.pull(KEY) is not None


def test_committing_nothing_changes_nothing(truth):
    with truth.batch() as batch:
        batch.commit()
        batch.commit()
    assert truth.revision == 0


def test_a_tombstone_that_comes_in_between_holds(truth, neighbour):
    with truth.batch() as batch:
        batch.put(make_pull(), DIFF)
        neighbour.drop(KEY, "its authors asked for it")
    assert truth.pull(KEY) is None
    assert [stone.key for stone in truth.tombstones()] == [KEY]


def test_a_diff_that_was_taken_out_in_between_is_said_to_be_missing(truth, neighbour):
    truth.put(make_pull(), DIFF)
    with truth.batch() as batch:
        batch.put(make_pull(title="Another"), DIFF)
        batch.mark("item", "print", KEY)
        neighbour.drop(KEY, "by mistake")
        neighbour.restore(KEY)
    assert list(truth.verify()) == []
    assert truth.seen("item") == ("", "")
    assert truth.counts().missing == (KEY,)
    assert truth.put(make_pull(title="Another"), DIFF)
    assert truth.diff(KEY) == DIFF


def test_the_same_change_of_another_is_not_stamped_again(truth, neighbour):
    with truth.batch() as batch:
        batch.put(make_pull(), DIFF)
        neighbour.put(make_pull(), DIFF)
    assert truth.revision == 1
    assert truth.counts().chunks == 1


def test_a_better_source_that_comes_in_between_keeps_its_diff(truth, neighbour):
    with truth.batch() as batch:
        batch.put(make_pull(origin="git", body="from the clone"), DIFF)
        neighbour.put(make_pull(origin="github", title="As titled"), OTHER)
    pull = truth.pull(KEY)
    assert (pull.origin, pull.title, pull.body) == ("github", "As titled", "from the clone")
    assert truth.diff(KEY) == OTHER
    assert [file.path for file in truth.files(KEY)] == ["b.py"]
    assert list(truth.verify()) == []


def test_a_better_source_replaces_what_came_in_between(truth, neighbour):
    with truth.batch() as batch:
        batch.put(make_pull(origin="github"), DIFF)
        neighbour.put(make_pull(origin="git"), OTHER)
    assert truth.diff(KEY) == DIFF
    assert [file.path for file in truth.files(KEY)] == ["csrc/attention.cu"]
    assert list(truth.verify()) == []


def test_a_worse_source_fills_a_missing_diff(truth):
    truth.put(make_pull(origin="github"), None)
    assert truth.put(make_pull(origin="patch"), DIFF)
    assert truth.diff(KEY) == DIFF
    assert truth.pull(KEY).origin == "github"
    assert truth.counts().missing == ()
    assert len(truth.chunks(KEY)) == 1


def test_a_worse_source_leaves_a_diff_that_is_there(truth):
    truth.put(make_pull(origin="github"), DIFF)
    assert not truth.put(make_pull(origin="git"), OTHER)
    assert truth.diff(KEY) == DIFF


def test_large_diffs_are_committed_before_many_are_held(truth, neighbour):
    lines = [f"int value_{number} = {number * number};" for number in range(60_000)]
    large = make_diff({"csrc/large.cu": ([], lines)})
    with truth.batch() as batch:
        for number in range(1, 12):
            batch.put(make_pull(number=number), large)
        assert len(list(neighbour.keys())) >= 4
    assert truth.counts().pulls == 11


def test_many_marks_are_committed_before_all_are_held(truth, neighbour):
    with truth.batch() as batch:
        for number in range(2000):
            batch.mark(f"item {number}", "print", KEY)
        assert neighbour.seen("item 0") == ("print", KEY)
        assert neighbour.seen("item 1999") == ("", "")
    assert truth.seen("item 1999") == ("print", KEY)


def test_a_mark_is_replaced_by_the_next(truth):
    for print_ in ("one", "two"):
        with truth.batch() as batch:
            batch.mark("item", print_, KEY)
    assert truth.seen("item") == ("two", KEY)


def test_a_decision_is_replaced_by_the_next(truth):
    for decision in ("include", "defer"):
        with truth.batch() as batch:
            batch.decide(KEY, decision, f"because of {decision}")
    assert [(row.decision, row.reason) for row in truth.decisions()] == [
        ("defer", "because of defer")
    ]
    assert truth.counts().deferred == 1


@pytest.mark.parametrize("extra", [0, 1])
def test_the_bound_of_a_diff_is_exact(truth, extra):
    truth.put(make_pull(), b"x" * (MOST_DIFF_BYTES + extra))
    assert truth.pull(KEY).diff_state == ("too_large" if extra else "present")


def test_a_state_that_a_source_gives_without_a_diff_is_kept(truth):
    truth.put(make_pull(diff_state="too_large"), None)
    assert truth.counts().too_large == (KEY,)
    assert not truth.put(make_pull(diff_state="too_large"), None)


def test_a_source_cannot_claim_a_diff_that_it_does_not_give(truth):
    truth.put(make_pull(diff_state="present", diff_sha256="ab" * 32), None)
    assert truth.counts().missing == (KEY,)
    assert list(truth.verify()) == []


def test_dropping_what_is_pending_drops_it(truth):
    with truth.batch() as batch:
        batch.put(make_pull(), DIFF)
        batch.drop(KEY, "not wanted")
        assert batch.put(make_pull(), DIFF) == "dropped"
    assert truth.counts().pulls == 0


def test_dropping_again_keeps_the_latest_reason(truth):
    truth.drop(KEY, "first")
    truth.drop(KEY, "second")
    assert [(stone.reason, stone.revision) for stone in truth.tombstones()] == [("second", 2)]
