"""Judging lines by ripgrep: for queries that most of the text would have to be read for.

Its engine takes time linear in the text whatever the pattern. Loaded by one-shot searches, and what
is slow to import only when it is needed.
"""

from __future__ import annotations

import os
import sys

from knowledge_store.exact.scan import late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from knowledge_store.exact.dialect import Matcher

_OPTIONS = (
    "--no-config",
    "--text",
    "--no-unicode",
    "--color=never",
    "--no-line-number",
    "--byte-offset",
    "--with-filename",
    "--heading",
    "--regex-size-limit=200M",
    "--dfa-size-limit=200M",
)
_MANY = 1 << 14


def program() -> str | None:
    """Return the path of ripgrep, beside this interpreter or on PATH; None where there is none."""
    folders = [os.path.dirname(sys.executable), *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in folders:
        path = os.path.join(folder, "rg")
        if folder and os.access(path, os.X_OK):
            return path
    return None


def pattern_of(matchers: Sequence[Matcher]) -> str | None:
    """Return the pattern of lines that match any of some patterns; None where there is no equal."""
    patterns = [matcher.ripgrep for matcher in matchers]
    known = [pattern for pattern in patterns if pattern is not None]
    if len(known) < len(patterns):
        return None
    return known[0] if len(known) == 1 else "|".join(f"(?:{pattern})" for pattern in known)


def search(
    descriptors: Sequence[int], matchers: Sequence[Matcher], timeout_s: float
) -> list[list[int]] | None:
    """Return, for each open file, an offset in every line that matches any pattern, in order.

    Returns:
        None where ripgrep is not installed or cannot run one of the patterns.

    Raises:
        SearchTimeout: it did not end in time.
    """
    import subprocess  # noqa: PLC0415 - slow to import, and most searches never come here

    rg, pattern = program(), pattern_of(matchers)
    if rg is None or pattern is None:
        return None
    options = list(_OPTIONS)
    is_whole = any(matcher.is_nullable for matcher in matchers)
    if not is_whole:
        # One match a line, to its end, and nothing of it printed: offsets are all that is wanted.
        options += ["--only-matching", "--replace="]
        pattern = f"(?:{pattern})[^\\n]*"
    paths = [f"/dev/fd/{descriptor}" for descriptor in descriptors]
    command = [rg, *options, f"--regexp={pattern}", "--", *paths]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            check=False,
            pass_fds=tuple(descriptors),
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise late(timeout_s) from error
    except OSError:
        return None
    if done.returncode not in (0, 1):
        return None
    found = _offsets(done.stdout, is_whole=is_whole)
    return [found.get(path.encode(), []) for path in paths]


def _offsets(printed: bytes, *, is_whole: bool) -> dict[bytes, list[int]]:
    """Return the offsets of each file from what was printed under its name."""
    found: dict[bytes, list[int]] = {}
    for section in printed.split(b"\n\n"):
        path, _, body = section.strip(b"\n").partition(b"\n")
        if path:
            found[path] = _whole(body) if is_whole else _numbers(body)
    return found


def _whole(body: bytes) -> list[int]:
    return [int(row.partition(b":")[0]) for row in body.split(b"\n")]


def _numbers(body: bytes) -> list[int]:
    body = body.replace(b":", b"")
    if len(body) < _MANY or "numpy" not in sys.modules:
        return [int(number) for number in body.split()]
    import numpy as np  # noqa: PLC0415 - loaded already

    parsed: list[int] = np.fromstring(body, dtype=np.int64, sep="\n").tolist()
    return parsed
