"""Exact search over every line of every diff, with the meaning of `grep -n`.

What callers use is named here and loaded on first use, so a one-shot search pays for none of it.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from knowledge_store.exact.index import Exact
    from knowledge_store.exact.nouns import ExactAnswer, ExactQuery, Hit
    from knowledge_store.exact.tree import search_tree
    from knowledge_store.exact.update import Report

__all__ = ["Exact", "ExactAnswer", "ExactQuery", "Hit", "Report", "search_tree"]

_HOMES = {
    "Exact": "index",
    "Report": "update",
    "ExactAnswer": "nouns",
    "ExactQuery": "nouns",
    "Hit": "nouns",
    "search_tree": "tree",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that defines it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - a one-shot search never comes here

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
