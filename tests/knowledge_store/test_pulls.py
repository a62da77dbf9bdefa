import pytest
from pydantic import ValidationError

from tests.knowledge_store.diff_builders import make_pull


def test_a_pull_request_has_one_key_and_a_name_to_type():
    pull = make_pull(repo="NVIDIA/TensorRT-LLM", number=12440)
    assert pull.key == "NVIDIA/TensorRT-LLM#12440"
    assert pull.slug == "pr-tensorrt-llm-12440"


@pytest.mark.parametrize(
    "changes",
    [
        {"repo": "no-owner"},
        {"repo": "../../etc"},
        {"repo": "a/b/c"},
        {"repo": "a/b c"},
        {"number": 0},
        {"number": -4},
        {"merged_at": "yesterday"},
        {"merge_commit": "abc123"},
        {"diff_sha256": "abc"},
        {"diff_state": "lost"},
        {"origin": "rumour"},
        {"colour": "red"},
    ],
)
def test_what_is_no_pull_request_is_refused(changes):
    with pytest.raises(ValidationError):
        make_pull(**changes)


def test_a_pull_request_cannot_be_changed():
    with pytest.raises(ValidationError):
        make_pull().title = "another"  # type: ignore[misc]  # what must not work
