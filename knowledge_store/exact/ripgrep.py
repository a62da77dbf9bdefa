"""Judging lines by ripgrep: for queries that most of the text would have to be read for.

Its engine takes time linear in the text whatever the pattern. Loaded by one-shot searches, and what
is slow to import only when it is needed.
"""

from __future__ import annotations

import os
import sys
import time

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
# Half a word boundary is unknown to versions before 14, which read it as a repeat and refuse it.
# No other pattern has this text: where it is meant literally its brackets are escaped.
_HALVES = {r"\b{start-half}": "(?:^|[^0-9A-Za-z_])", r"\b{end-half}": "(?:$|[^0-9A-Za-z_])"}
_RESULT = "ripgrep"


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
    plainer = pattern
    for half, spelt in _HALVES.items():
        plainer = plainer.replace(half, spelt)
    printed = None
    deadline = time.monotonic() + timeout_s
    for one in dict.fromkeys((pattern, plainer)):
        command = [rg, *_OPTIONS, f"--regexp={one}", "--", *paths]
        left = max(0.0, deadline - time.monotonic())
        try:
            printed = _printed(command, descriptors, left)
        except subprocess.TimeoutExpired as error:
            raise late(timeout_s) from error
        except OSError:
            return None
        if printed is not None:
            break
    if printed is None:
        return None
    found = _sections(printed)
    return [_lines(found.get(path.encode(), b"")) for path in paths]


def _printed(command: Sequence[str], descriptors: Sequence[int], timeout_s: float) -> bytes | None:
    """Return what a command prints; None where it fails.

    Raises:
        TimeoutExpired: it did not end in time.
        OSError: it did not start.
    """
    import subprocess  # noqa: PLC0415 - see `search`

    # Into memory rather than through a pipe: on busy processors each of hundreds of reads waits for
    # its turn, and ripgrep for them.
    with os.fdopen(os.memfd_create(_RESULT), "r+b") as printed:
        done = subprocess.run(
            command,
            check=False,
            pass_fds=tuple(descriptors),
            stdin=subprocess.DEVNULL,
            stdout=printed,
            # Nobody reads it: its end says without waiting in steps that the process has ended.
            stderr=subprocess.PIPE,
            timeout=timeout_s,
        )
        printed.seek(0)
        return printed.read() if done.returncode in (0, 1) else None


def _sections(printed: bytes) -> dict[bytes, bytes]:
    """Return what was printed for each file, under its name."""
    sections = (section.strip(b"\n").partition(b"\n") for section in printed.split(b"\n\n"))
    return {path: body for path, _, body in sections if path}


def _lines(body: bytes) -> Sequence[int]:
    """Return the number that each row begins with, less one."""
    # Dropping letters is several times faster than looking for the words.
    rows = body.translate(None, _OMITTED)
    if rows.translate(None, b"0123456789\n"):
        return _mixed(body)
    if len(rows) < _MANY or "numpy" not in sys.modules:
        lines: Sequence[int] = [int(row) - 1 for row in rows.split()]
    else:
        from array import array  # noqa: PLC0415 - for answers of thousands of lines

        import numpy as np  # noqa: PLC0415 - loaded already

        lines = array("q", (np.fromstring(rows, dtype=np.int64, sep="\n") - 1).tobytes())
    return lines if len(body) - len(rows) == len(lines) * len(_OMITTED) else _mixed(body)


def _mixed(body: bytes) -> Sequence[int]:
    """Return the same where some lines are printed themselves, as the shortest ones are."""
    return [int(row.partition(b":")[0]) - 1 for row in body.split(b"\n")]
