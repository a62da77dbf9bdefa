"""`kernelpilot-grep`, the start of it: small, for what is run by its path is compiled every time.

`python -I -S .../oneshot.py` starts fastest, for it loads no packages.
"""

import io
import os
import sys

if not __package__:
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from knowledge_store.exact.command import run


def main() -> None:
    """Search once and exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Diffs hold any letters; a terminal of another encoding must not end the search.
        sys.stdout.reconfigure(encoding="utf-8")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
