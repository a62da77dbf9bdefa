"""Exceptions of exact search.

KnowledgeError
├── PatternError      the pattern is not of the dialect; says what to write instead
├── SearchTimeout     the time allowed ended before every line was judged; nothing is returned
├── EngineError       ripgrep or the judging process is missing or failed
└── StoreError
    ├── IndexMissing  nothing is indexed yet
    └── IndexCorrupt  a file of the index is not what was written; `update` rebuilds it
"""

from knowledge_store.errors import KnowledgeError, StoreError


class PatternError(KnowledgeError):
    """The pattern cannot be searched for; the message says what to write instead."""


class SearchTimeout(KnowledgeError):
    """The time allowed ended before every line was judged."""


class EngineError(KnowledgeError):
    """A program that searches is missing or failed."""


class IndexMissing(StoreError):
    """Nothing is indexed in this store yet."""


class IndexCorrupt(StoreError):
    """A file of the index is damaged; it is rebuilt from the truth by the next update."""
