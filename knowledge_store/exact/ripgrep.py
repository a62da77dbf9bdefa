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
    "--line-number",
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
    options = list(_OPTIONS)
    is_whole = any(matcher.is_nullable for matcher in matchers)
    if not is_whole:
        # Every match with nothing of it printed: numbers of lines are all that is wanted.
        options += ["--only-matching", "--replace="]
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
    found = _sections(done.stdout)
    lines = _whole if is_whole else _numbers
    return [lines(found[path.encode()]) if path.encode() in found else [] for path in paths]


def _sections(printed: bytes) -> dict[bytes, bytes]:
    """Return what was printed for each file, under its name."""
    sections = (section.strip(b"\n").partition(b"\n") for section in printed.split(b"\n\n"))
    return {path: body for path, _, body in sections if path}


def _whole(body: bytes) -> Sequence[int]:
    return [int(row.partition(b":")[0]) - 1 for row in body.split(b"\n")]


def _numbers(body: bytes) -> Sequence[int]:
    """Return each line once; every match in it printed its number."""
    if len(body) < _MANY or "numpy" not in sys.modules:
        rows = body.removesuffix(b":").split(b":\n")
        return [line - 1 for line in dict.fromkeys(map(int, rows))]
    from array import array  # noqa: PLC0415 - for answers of thousands of lines

    import numpy as np  # noqa: PLC0415 - loaded already

    lines = np.fromstring(body.replace(b":", b""), dtype=np.int64, sep="\n") - 1
    is_new = np.concatenate(([True], lines[1:] != lines[:-1]))
    return array("q", lines[is_new].tobytes())
