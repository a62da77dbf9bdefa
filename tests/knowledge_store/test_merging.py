from hypothesis import given
from hypothesis import strategies as st

from knowledge_store.merging import merged
from knowledge_store.pulls import PullRequest
from tests.knowledge_store.diff_builders import make_pull

TEXT = st.sampled_from(["", "one", "other"])
DIGEST = "ab" * 32


@st.composite
def pulls(draw) -> PullRequest:
    state = draw(st.sampled_from(["present", "missing", "too_large"]))
    return make_pull(
        origin=draw(st.sampled_from(["bundle", "github", "git", "patch"])),
        title=draw(TEXT),
        body=draw(TEXT),
        labels=draw(st.sampled_from([(), ("perf",)])),
        licence=draw(st.sampled_from(["unknown", "MIT", "Apache-2.0"])),
        diff_state=state,
        diff_sha256=draw(st.sampled_from([DIGEST, "cd" * 32])) if state == "present" else "",
    )


@given(pulls())
def test_merging_with_nothing_or_with_itself_changes_nothing(pull):
    assert merged(None, pull) == merged(pull, pull) == pull


@given(pulls(), pulls())
def test_merging_the_same_again_changes_nothing(old, new):
    once = merged(old, new)
    assert merged(once, new) == once


@given(pulls(), pulls())
def test_nothing_that_was_known_is_lost(old, new):
    after = merged(old, new)
    for name in ("title", "body", "labels"):
        assert bool(getattr(after, name)) == bool(getattr(old, name) or getattr(new, name))
    assert (after.diff_state == "present") == ("present" in {old.diff_state, new.diff_state})
    assert (after.licence == "unknown") == (old.licence == new.licence == "unknown")


@given(pulls(), pulls())
def test_two_sources_give_one_result_in_either_order(old, new):
    if old.origin != new.origin:
        assert merged(old, new) == merged(new, old)


def test_the_forge_knows_better_than_a_clone_and_a_newer_record_than_an_older():
    forge = make_pull(origin="github", title="As it is titled", body="")
    clone = make_pull(origin="git", title="A commit message", body="Its body")
    assert merged(forge, clone).title == "As it is titled"
    assert merged(clone, forge).body == "Its body"
    newer = forge.model_copy(update={"title": "Retitled"})
    assert merged(forge, newer).title == "Retitled"
