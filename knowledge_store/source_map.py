"""Repositories worth reading beside the corpus: a registry, clones, search inside them.

A repository is searched after it was cloned, each on its own: the gate names the command that opens
it. A clone is one commit without history; which one is kept, so that a citation can be found again.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from knowledge_store import locks
from knowledge_store.errors import SourceError
from knowledge_store.licences import licence_of_text
from knowledge_store.pulls import UNKNOWN_LICENCE
from knowledge_store.tags import CONFIGS

REGISTRY = CONFIGS / "source-map.yaml"
_PINS = "pins.json"
_TIMEOUT_S = 900.0
_QUIET = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_LFS_SKIP_SMUDGE": "1",
    "GIT_ASKPASS": "true",
}
_SAFE = (
    ("core.hooksPath", "/dev/null"),
    ("core.symlinks", "false"),
    ("core.fsmonitor", "false"),
    ("submodule.recurse", "false"),
    ("protocol.ext.allow", "never"),
)
_LICENCE_FILES = ("LICENSE", "LICENCE", "COPYING")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Source(BaseModel):
    """A repository of the registry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{1,60}$")] = Field(
        alias="id"
    )
    url: Annotated[str, StringConstraints(pattern=r"^(https|file)://\S+$")]
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")] = ""
    """Empty: the head of the default branch when it is first cloned, kept from then on."""
    licence: str = UNKNOWN_LICENCE
    topics: tuple[str, ...] = ()
    why: Annotated[str, StringConstraints(min_length=10)]


class Pin(BaseModel):
    """What of a repository lies in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    commit: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
    licence: str


class NotCloned(SourceError):
    """A repository is to be searched that was not cloned; the message says how."""


def read_registry(path: Path = REGISTRY) -> tuple[Source, ...]:
    """Return the repositories of a registry, in order of id.

    Raises:
        SourceError: the file is not a list of them, or two have one id.
    """
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        found = tuple(Source.model_validate(row) for row in told["sources"])
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{path} is not a registry of sources: {error}") from error
    ids = [one.source_id for one in found]
    twice = sorted({name for name in ids if ids.count(name) > 1})
    if twice:
        raise SourceError(f"{path}: {', '.join(twice)} is there twice")
    return tuple(sorted(found, key=lambda one: one.source_id))


class SourceMap:
    """Clones of a store, by the ids of a registry."""

    def __init__(self, folder: Path, registry: Sequence[Source]) -> None:
        self._folder = folder
        self._registry = {one.source_id: one for one in registry}

    def names(self) -> tuple[str, ...]:
        """Return every id of the registry."""
        return tuple(self._registry)

    def source(self, name: str) -> Source:
        """Return an entry of the registry.

        Raises:
            SourceError: it has none of that id.
        """
        found = self._registry.get(name)
        if found is None:
            raise SourceError(
                f"no source {name!r}; there are {', '.join(self._registry) or 'none'}"
            )
        return found

    def pins(self) -> dict[str, Pin]:
        """Return what was cloned, by id.

        Raises:
            SourceError: the file of pins is damaged.
        """
        path = self._folder / _PINS
        if not path.is_file():
            return {}
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return {name: Pin.model_validate(pin) for name, pin in told.items()}
        except (ValueError, AttributeError) as error:
            raise SourceError(f"{path} is damaged; remove it and clone again") from error

    def table(self) -> list[dict[str, str]]:
        """Return a row for every repository: id, url, commit where it is cloned, licence, why."""
        pins = self.pins()
        return [
            {
                "id": name,
                "url": source.url,
                "commit": pins[name].commit if name in pins else "",
                "licence": pins[name].licence if name in pins else source.licence,
                "why": source.why,
            }
            for name, source in self._registry.items()
        ]

    def clone(self, name: str) -> Pin:
        """Bring a repository at its pinned commit; nothing to do where it lies here already.

        Raises:
            SourceError: git failed; what was there stays.
        """
        source = self.source(name)
        pin = self.pins().get(name)
        is_here = pin is not None and pin.url == source.url and self.folder_of(name).is_dir()
        if pin is not None and is_here and source.commit in {"", pin.commit}:
            return pin
        return self._bring(source, source.commit or (pin.commit if pin else ""))

    def update(self, name: str) -> Pin:
        """Bring the head of a repository's default branch, unless the registry pins a commit."""
        source = self.source(name)
        return self._bring(source, source.commit)

    def folder_of(self, name: str) -> Path:
        """Return where a repository lies, once it is cloned."""
        return self._folder / self.source(name).source_id

    def require(self, name: str) -> tuple[Path, Pin]:
        """Return the folder and the pin of a repository that may be searched.

        Raises:
            NotCloned: it does not lie here.
        """
        self.source(name)
        pin = self.pins().get(name)
        folder = self.folder_of(name)
        if pin is None or not folder.is_dir():
            raise NotCloned(
                f"{name} is not cloned, so nothing can be said of it; run "
                f"`kernelpilot knowledge source clone {name}`"
            )
        return folder, pin

    def _bring(self, source: Source, commit: str) -> Pin:
        place = self._folder / source.source_id
        fresh = self._folder / f".{source.source_id}.new"
        with locks.exclusive(self._folder / f".{source.source_id}.lock"):
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            try:
                _git(fresh, "init", "--quiet", "--template=")
                _git(
                    fresh,
                    "fetch",
                    "--quiet",
                    "--depth=1",
                    "--no-tags",
                    source.url,
                    commit or "HEAD",
                )
                _git(fresh, "checkout", "--quiet", "--detach", "FETCH_HEAD")
                head = _git(fresh, "rev-parse", "HEAD").strip()
            except SourceError:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            if not _COMMIT.fullmatch(head) or (commit and head != commit):
                shutil.rmtree(fresh, ignore_errors=True)
                raise SourceError(f"{source.source_id}: asked for {commit}, got {head}")
            shutil.rmtree(fresh / ".git")
            licence = licence_of_folder(fresh)
            pin = Pin(url=source.url, commit=head, licence=licence)
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
            self._keep(source.source_id, pin)
        return pin

    def _keep(self, name: str, pin: Pin) -> None:
        with locks.exclusive(self._folder / ".pins.lock"):
            pins = {**self.pins(), name: pin}
            fresh = self._folder / f"{_PINS}.new"
            told = {key: one.model_dump() for key, one in sorted(pins.items())}
            fresh.write_text(json.dumps(told, indent=1), encoding="utf-8")
            fresh.replace(self._folder / _PINS)


def licence_of_folder(folder: Path) -> str:
    """Return the licence that the files of a repository's root state, or `unknown`."""
    for path in sorted(folder.iterdir()):
        if path.name.upper().startswith(_LICENCE_FILES) and path.is_file():
            found = licence_of_text(path.read_text(encoding="utf-8", errors="replace"))
            if found != UNKNOWN_LICENCE:
                return found
    return UNKNOWN_LICENCE


def _git(folder: Path, *words: str) -> str:
    settings = [part for name, value in _SAFE for part in ("-c", f"{name}={value}")]
    try:
        done = subprocess.run(
            ["git", *settings, *words],
            cwd=folder,
            env={**os.environ, **_QUIET},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError as error:
        raise SourceError("git is not installed; sources cannot be cloned") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"git {words[0]} took longer than {_TIMEOUT_S:.0f} s") from error
    if done.returncode:
        tail = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise SourceError(f"git {words[0]} failed: {tail[0]}")
    return done.stdout
