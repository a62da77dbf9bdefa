"""Print the lines of every source file, worst first, and the lines of tests per product line.

`oversized` is what tests/test_project.py holds the limit with.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("agents", "gpu_runner", "graph", "knowledge_store")
EVERYTHING = (*PRODUCT, "scripts", "tests")
SOURCES = (".py", ".c", ".cpp", ".cu", ".h", ".j2", ".sh")
LIMIT = 400
"""Lines of one file; a file that needs more holds two ideas."""
SHOWN = 15


def sizes(folders: tuple[str, ...] = EVERYTHING) -> Iterator[tuple[int, str]]:
    """Yield (lines, path from the root) of every source file in the folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in SOURCES and path.is_file():
                lines = len(path.read_text(encoding="utf-8").splitlines())
                yield lines, path.relative_to(ROOT).as_posix()


def oversized() -> list[tuple[int, str]]:
    """Return the files over the limit, worst first."""
    return sorted((entry for entry in sizes() if entry[0] > LIMIT), reverse=True)


def tests_per_product_line() -> float:
    """Return lines of tests per line of product, Python alone: templates and C are tested by it."""
    product, tests = (
        sum(lines for lines, path in sizes(folders) if path.endswith(".py"))
        for folders in (PRODUCT, ("tests",))
    )
    return tests / product


def main() -> int:
    """Print the table; fail when a file is over the limit."""
    for lines, path in sorted(sizes(), reverse=True)[:SHOWN]:
        print(f"{lines:6d}  {path}")
    print()
    for folder in EVERYTHING:
        found = list(sizes((folder,)))
        print(f"{sum(lines for lines, _ in found):6d}  {folder} ({len(found)} files)")
    print(
        f"\ntests : product = {tests_per_product_line():.2f}, largest allowed file = {LIMIT} lines"
    )
    return 1 if oversized() else 0


if __name__ == "__main__":
    sys.exit(main())
