"""A zygote that many workspaces share: torch is imported once for the tests of one process."""

import os
from pathlib import Path

from gpu_runner.host.graft import SOCKET


def shared(zygote: Path, workspace: Path) -> Path:
    """Have the zygote listen in a workspace too, as a worker's does in its own; return that."""
    workspace.mkdir(parents=True, exist_ok=True)
    if (zygote / SOCKET).exists():
        os.link(zygote / SOCKET, workspace / SOCKET)
    return workspace
