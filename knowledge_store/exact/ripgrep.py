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
    # Bytes are judged as they are, also after a mark of their order.
    "--encoding=none",
    "--no-unicode",
    "--color=never",
    "--line-number",
    # Only numbers are wanted: longer lines are printed as `_OMITTED`, once whatever they hold.
    "--max-columns=1",
    "--with-filename",
    "--heading",
    "--regex-size-limit=200M",
    "--dfa-size-limit=200M",
)
_OMITTED = b":[Omitted long matching line]"
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
) -> list[Sequence[int]] | None:
    """Return, for each open file, how many lines lie before each that matches any pattern.

    Returns:
        None where ripgrep is not installed or cannot run one of the patterns.

    Raises:
        SearchTimeout: it did not end in time.
    """
    import subprocess  # noqa: PLC0415 - slow to import, and most searches never come here

    rg, pattern = program(), pattern_of(matchers)
    if rg is None or pattern is None:
        return None
    paths = [f"/dev/fd/{descriptor}" for descriptor in descriptors]
    command = [rg, *_OPTIONS, f"--regexp={pattern}", "--", *paths]
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
    found = _sections(done.stdout)
    return [_lines(found.get(path.encode(), b"")) for path in paths]


def _sections(printed: bytes) -> dict[bytes, bytes]:
    """Return what was printed for each file, under its name."""
    sections = (section.strip(b"\n").partition(b"\n") for section in printed.split(b"\n\n"))
    return {path: body for path, _, body in sections if path}


def _lines(body: bytes) -> Sequence[int]:
    """Return the number that each row begins with, less one."""
    rows = body.replace(_OMITTED, b"")
    if b":" in rows:
        return [int(row.partition(b":")[0]) - 1 for row in rows.split(b"\n")]
    if len(rows) < _MANY or "numpy" not in sys.modules:
        return [int(row) - 1 for row in rows.split()]
    from array import array  # noqa: PLC0415 - for answers of thousands of lines

    import numpy as np  # noqa: PLC0415 - loaded already

    lines = np.fromstring(rows, dtype=np.int64, sep="\n") - 1
    return array("q", lines.tobytes())
