"""A process that judges lines by Python's own engine and can be killed at a deadline.

For patterns that ripgrep has no equal of, where backtracking might take any time. Runs by its path,
so that it starts without packages; reads what to do from its standard input.
"""

from __future__ import annotations

import marshal
import mmap
import os
import sys
from array import array

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from knowledge_store.exact.dialect import Matcher
from knowledge_store.exact.errors import EngineError
from knowledge_store.exact.scan import finder_of, late, scan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

Spec = tuple[str, str, bool]
"""Pattern, mode, whether case is ignored."""
Ranges = list[tuple[int, int, int]]


def search(
    specs: Sequence[Spec], files: Sequence[tuple[int, Ranges]], timeout_s: float, *, is_all: bool
) -> list[list[int]]:
    """Return, for each open file, an offset in every matching line of its ranges, in order.

    Raises:
        SearchTimeout: it did not end in time, and was killed.
        EngineError: it failed.
    """
    import subprocess  # noqa: PLC0415 - slow to import, and most searches never come here

    order = marshal.dumps((tuple(specs), is_all, [(file, list(ranges)) for file, ranges in files]))
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", os.path.abspath(__file__)],
            capture_output=True,
            check=False,
            pass_fds=tuple(file for file, _ in files),
            input=order,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise late(timeout_s) from error
    except OSError as error:
        raise EngineError(f"the judging process failed to start: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise EngineError(f"the judging process failed: {said[-1] if said else done.returncode}")
    packed: list[bytes] = marshal.loads(done.stdout)  # noqa: S302 - written by our own child
    return [array("Q", numbers).tolist() for numbers in packed]


def main() -> None:
    """Do what standard input says."""
    order = marshal.loads(sys.stdin.buffer.read())  # noqa: S302 - written by our own parent
    specs, is_all, files = order
    matchers = [Matcher(text, mode, ignore_case=ignore_case) for text, mode, ignore_case in specs]
    finder = finder_of(matchers, is_all=is_all, is_bounded=False)
    packed: list[bytes] = []
    for descriptor, ranges in files:
        hits: list[int] = []
        if ranges:
            text = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
            hits = scan(text, ranges, finder, float("inf"), 0)
        packed.append(array("Q", hits).tobytes())
    sys.stdout.buffer.write(marshal.dumps(packed))


if __name__ == "__main__":
    main()
