"""Writes a git repository commit by commit, the same history for the same content.

Identity and dates are given, configuration of the user and of the machine is left out: what is
shipped depends on the run alone.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from graph.errors import ShipFailed

_NAME: Final = "KernelPilot"
_EMAIL: Final = "kernelpilot@localhost"
_TIMEOUT_S: Final = 60.0
_SETTINGS: Final = (
    *("-c", "init.defaultBranch=main"),
    *("-c", "core.autocrlf=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "commit.gpgsign=false"),
    *("-c", "gc.auto=0"),
)


class Commits:
    """A repository that is being written."""

    def __init__(self, root: Path, date: str) -> None:
        """Create an empty repository.

        Args:
            root: an empty directory.
            date: of every commit; UTC, ISO 8601.

        Raises:
            ShipFailed: git is not installed or refuses.
        """
        self._root = root
        self._date = re.sub(r"\.\d+", "", date)  # git wants whole seconds
        self._git("init", "--quiet")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Write files by their paths inside the repository."""
        for name, content in files.items():
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, name: str) -> None:
        """Remove a file or folder that is there."""
        path = self._root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def commit(self, subject: str, body: str = "") -> None:
        """Commit everything written since the last commit; nothing happens without a change."""
        self._git("add", "--all")
        if self._git("status", "--porcelain"):
            message = ["-m", subject, *(["-m", body] if body else [])]
            self._git("commit", "--quiet", *message)

    def head(self) -> str:
        """Return the id of the last commit."""
        return head_of(self._root)

    def _git(self, *arguments: str) -> str:
        return _git(self._root, *arguments, date=self._date)


def head_of(root: Path) -> str:
    """Return the last commit of a repository; empty where there is none."""
    if not (root / ".git").exists():
        return ""
    try:
        return _git(root, "rev-parse", "HEAD").strip()
    except ShipFailed:
        return ""


def _git(root: Path, *arguments: str, date: str = "") -> str:
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(root),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        **{f"GIT_{role}_NAME": _NAME for role in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{role}_EMAIL": _EMAIL for role in ("AUTHOR", "COMMITTER")},
        **({"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date} if date else {}),
    }
    command = ["git", *_SETTINGS, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise ShipFailed("git is not on PATH; install it, then `kernelpilot resume`") from error
    except subprocess.TimeoutExpired as error:
        raise ShipFailed(f"git {arguments[0]} did not end in {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        raise ShipFailed(f"git {arguments[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
