"""Whether code of candidates could read a folder of keys on this machine."""

import sys
from pathlib import Path

from gpu_runner.errors import PoolError
from gpu_runner.host import bubblewrap


def check_out_of_reach(folder: Path, workspace: Path) -> None:
    """Return if no sandbox here shows the folder to what runs inside.

    Args:
        folder: of keys.
        workspace: of the worker; builds and candidates see parts of it.

    Raises:
        PoolError: a candidate could read it. A worker that others reach does not start then:
            whoever has its key can forge what it measures.
    """
    why = bubblewrap.refusal()
    if why is not None:
        raise PoolError(
            f"a candidate could read the keys in {folder}, for it would see every file here: "
            f"{why}. Make bubblewrap work, or run the worker without --keys on the broker's machine"
        )
    place = folder.resolve()
    shown = (workspace, Path(sys.prefix), Path(sys.base_prefix), Path("/usr"))
    for outer in (path.resolve() for path in shown):
        if place.is_relative_to(outer):
            raise PoolError(
                f"a candidate could read the keys in {folder}: the sandbox shows parts of {outer}; "
                "keep them elsewhere, for example in ~/.config/kernelpilot/keys"
            )
