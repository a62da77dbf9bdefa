"""Write requirements.lock from the distributions that `.venv` holds, keeping its heading."""

import re
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
LEFT_OUT = {"kernelpilot", "pip"}
"""The project itself, and what every venv brings."""


def pins(installed: Iterable[tuple[str, str]]) -> list[str]:
    """Return `name==version` lines: names normalised, sorted, without local versions."""
    named = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in installed}
    return [
        f"{name}=={version.partition('+')[0]}"
        for name, version in sorted(named.items())
        if name not in LEFT_OUT
    ]


def heading(lock: str) -> list[str]:
    """Return the comment lines the lock begins with."""
    lines = lock.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return lines[:end]


def main() -> None:
    """Rewrite the lock."""
    found = pins((each.metadata["Name"], each.version) for each in distributions())
    LOCK.write_text("\n".join([*heading(LOCK.read_text()), *found]) + "\n")
    print(f"{LOCK.name}: {len(found)} pins")


if __name__ == "__main__":
    main()
