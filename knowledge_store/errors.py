"""Exceptions of this package: bugs, bad callers and stores that cannot be used.

What a source holds is never an exception to whoever ingests it: it is counted in a report.

KnowledgeError
├── StoreError      the store is absent, damaged, in use or written by a newer version
├── DiffError       the bytes of a diff do not parse; the raw text is kept and searched all the same
└── SourceError     a source of pull requests cannot be read at all; names it and the remedy
"""


class KnowledgeError(Exception):
    """Root of this package's exceptions."""


class StoreError(KnowledgeError):
    """The store cannot be opened or used; the message names the file and the remedy."""


class DiffError(KnowledgeError):
    """A diff does not parse; the message names the line."""


class SourceError(KnowledgeError):
    """A source cannot be read; what was ingested before stays."""
