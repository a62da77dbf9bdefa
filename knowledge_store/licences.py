"""Licences: what a text says about itself, as an SPDX identifier. A reading, never legal advice."""

import re

from knowledge_store.pulls import UNKNOWN_LICENCE

_SPDX = re.compile(
    r"SPDX-License-Identifier:\s*([A-Za-z0-9.+-]+(?:\s+(?:AND|OR|WITH)\s+[A-Za-z0-9.+-]+){0,3})"
)
_NAMED = (
    ("Apache-2.0", r"Licensed under the Apache License,? Version 2\.0"),
    ("Apache-2.0 WITH LLVM-exception", r"Apache License v2\.0 with LLVM Exceptions"),
    ("MIT", r"(licensed|released|distributed) under the (terms of the )?MIT licen[sc]e"),
    ("BSD-3-Clause", r"(under|found in) (the|a) BSD[- ](3-Clause|style)"),
)
_WHOLE = (
    ("Apache-2.0", r"Apache License\s+Version 2\.0, January 2004"),
    ("GPL-3.0-only", r"GNU GENERAL PUBLIC LICENSE\s+Version 3"),
    ("GPL-2.0-only", r"GNU GENERAL PUBLIC LICENSE\s+Version 2"),
    ("MPL-2.0", r"Mozilla Public License,? [Vv]ersion 2\.0"),
    ("BSL-1.0", r"Boost Software License - Version 1\.0"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("ISC", r"Permission to use, copy, modify, and/or distribute this software for any purpose"),
)
_REDISTRIBUTION = re.compile(r"Redistribution and use in source and binary forms")
_THIRD_CLAUSE = re.compile(r"(endorse or promote|name[s]? of (the|its))", re.IGNORECASE)
_NAMED_PATTERNS = tuple((name, re.compile(text, re.IGNORECASE)) for name, text in _NAMED)
_WHOLE_PATTERNS = tuple((name, re.compile(text)) for name, text in _WHOLE)
_NOTHING = frozenset({"", "noassertion", "none", "other", "unknown", "inherits-from-upstream"})
_MOST_TEXT = 20_000
_SPELLINGS = {
    "Apache": "Apache-2.0",
    "Apache-2": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD-3": "BSD-3-Clause",
    "BSD-2": "BSD-2-Clause",
    "NVIDIA": "LicenseRef-NVIDIA",
}
"""What files write where an SPDX identifier belongs."""


def stated_licence(head: str) -> str:
    """Return what the first lines of a file state as its licence, or nothing."""
    found = _SPDX.search(head)
    if found:
        expression = " ".join(found[1].split())
        return _SPELLINGS.get(expression, expression)
    return next((name for name, pattern in _NAMED_PATTERNS if pattern.search(head)), "")


def licence_of_text(text: str) -> str:
    """Return the licence of a LICENSE file; `unknown` for several or none of those known."""
    text = text[:_MOST_TEXT]
    found = {name for name, pattern in _WHOLE_PATTERNS if pattern.search(text)}
    if _REDISTRIBUTION.search(text):
        found.add("BSD-3-Clause" if _THIRD_CLAUSE.search(text) else "BSD-2-Clause")
    return found.pop() if len(found) == 1 else stated_licence(text[:2000]) or UNKNOWN_LICENCE


def settled_licence(*statements: str | None) -> str:
    """Return the first statement that says something; `unknown` where none does.

    Forges and bundles write NOASSERTION, `other` or a reference to upstream where they do not know.
    """
    for statement in statements:
        if statement and statement.strip().lower() not in _NOTHING:
            return statement.strip()
    return UNKNOWN_LICENCE
