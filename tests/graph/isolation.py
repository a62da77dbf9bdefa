"""Programs that run where this one cannot be imported."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ISOLATED = """
import runpy, sys
sys.path.append({site!r})
sys.argv = {argv!r}
runpy.{how}(sys.argv[0], run_name="__main__")
"""
"""Started with -I -S: no PYTHONPATH and no .pth files, hence no editable install of this one."""


def isolated(root: Path, *argv: str, how: str) -> subprocess.CompletedProcess[str]:
    """Run a module or a script where this program cannot be imported."""
    program = ISOLATED.format(site=sysconfig.get_paths()["purelib"], argv=list(argv), how=how)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(root / "build"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-I", "-S", "-c", program]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
