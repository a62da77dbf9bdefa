"""Imports one candidate and sees that it defines `run`: a program, executed in the sandbox.

It is given to the interpreter as a file and imports nothing of this package.
"""

import importlib.util
import sys
from pathlib import Path

DONE = "candidate imported"
"""Printed last. A candidate can print it too: this check is for the writer's benefit only."""


def main(path: Path) -> int:
    """Import the module at `path`; the traceback of a failure goes to stderr as it is."""
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("candidate", path)
    if spec is None or spec.loader is None:
        sys.stderr.write(f"{path.name} is not a Python module\n")
        return 1
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "run", None)):
        sys.stderr.write(f"{path.name} defines no function run(...)\n")
        return 1
    sys.stdout.write(f"{DONE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
