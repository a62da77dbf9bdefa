"""One pull request from two sources: what each knows stays, the better source wins. Pure."""

from collections.abc import Mapping

from knowledge_store.pulls import UNKNOWN_LICENCE, Origin, PullRequest

_RANK: Mapping[Origin, int] = {"patch": 0, "git": 1, "bundle": 2, "github": 3}
"""A clone knows no labels and guesses a body from a commit message; the forge itself knows best."""

_FILLED = ("title", "body", "author", "url", "merged_at", "merge_commit", "base_branch", "labels")


def merged(old: PullRequest | None, new: PullRequest) -> PullRequest:
    """Return what is known of a pull request once `new` has come.

    A newer record of the same source replaces the older one; fields that the better source leaves
    empty come from the other; a diff that was there is never lost to a source without it.
    """
    if old is None:
        return new
    first, second = (new, old) if _RANK[new.origin] >= _RANK[old.origin] else (old, new)
    changes: dict[str, object] = {
        name: getattr(second, name) for name in _FILLED if not getattr(first, name)
    }
    if first.licence == UNKNOWN_LICENCE:
        changes["licence"] = second.licence
    if first.diff_state != "present" and second.diff_state == "present":
        changes["diff_state"] = second.diff_state
        changes["diff_sha256"] = second.diff_sha256
    return first.model_copy(update=changes)
