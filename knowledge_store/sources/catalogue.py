"""Which upstream repositories are known, and which of their changes are worth taking in."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from knowledge_store.errors import SourceError
from knowledge_store.pulls import UNKNOWN_LICENCE, Day, DiffFile, Repo
from knowledge_store.tags import CONFIGS

Decision = Literal["include", "defer"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Upstream(_Config):
    """A repository on a forge."""

    repo: Repo
    names: tuple[str, ...] = ()
    licence: str = UNKNOWN_LICENCE
    kernel_paths: tuple[str, ...] = Field(min_length=1)
    since: Day = ""

    @field_validator("since", mode="before")
    @classmethod
    def _day(cls, value: object) -> str:
        return str(value)


class LedgerRow(_Config):
    """A decision by hand."""

    pull: str = Field(pattern=r"^[^/\s]+/[^#\s]+#\d+$")
    decision: Decision
    reason: str = Field(min_length=3)


class _Upstreams(_Config):
    upstreams: tuple[Upstream, ...]


class _Ledger(_Config):
    decisions: tuple[LedgerRow, ...]


_Read = TypeVar("_Read", bound=_Config)


class Catalogue(_Config):
    """The source list and the ledger."""

    upstreams: tuple[Upstream, ...] = ()
    ledger: tuple[LedgerRow, ...] = ()

    def find(self, repo: str) -> Upstream | None:
        """Return the upstream of a repository or of one of its other names."""
        wanted = repo.lower()
        return next(
            (
                upstream
                for upstream in self.upstreams
                if wanted == upstream.repo.lower() or wanted in upstream.names
            ),
            None,
        )

    def licence(self, repo: str) -> str:
        """Return the licence of a repository's own LICENSE as far as it is known here."""
        upstream = self.find(repo)
        return upstream.licence if upstream else UNKNOWN_LICENCE

    def by_hand(self, key: str) -> LedgerRow | None:
        """Return what was decided by hand."""
        return next((row for row in self.ledger if row.pull == key), None)

    def decide(
        self, key: str, files: Iterable[DiffFile], paths: tuple[str, ...] = ()
    ) -> tuple[Decision, str]:
        """Decide on a fetched change, with the reason.

        Args:
            key: of the pull request.
            files: of its diff; none where the diff could not be had.
            paths: what the caller asked for; without, the kernel paths of the source list, and
                for an unlisted repository whether any file is a kernel.
        """
        row = self.by_hand(key)
        if row is not None:
            return row.decision, row.reason
        files = tuple(files)
        if not files:
            return "include", "its diff cannot be had, so nothing speaks against it"
        upstream = self.find(key.partition("#")[0])
        wanted = paths or (upstream.kernel_paths if upstream else ())
        for file in files:
            if wanted and any(fnmatchcase(file.path, pattern) for pattern in wanted):
                return "include", f"touches {file.path}"
            if not wanted and file.kind == "kernel":
                return "include", f"touches the kernel file {file.path}"
        return "defer", "touches none of " + (", ".join(wanted) or "what looks like a kernel")


def read_catalogue(folder: Path) -> Catalogue:
    """Read `sources.yaml` and `ledger.yaml` of a folder.

    Raises:
        SourceError: one is absent or malformed; the message names file and field.
    """
    sources, ledger = folder / "sources.yaml", folder / "ledger.yaml"
    return Catalogue(
        upstreams=_read(sources, _Upstreams).upstreams, ledger=_read(ledger, _Ledger).decisions
    )


def _read(path: Path, kind: type[_Read]) -> _Read:
    try:
        return kind.model_validate(yaml.safe_load(path.read_bytes()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise SourceError(f"{path} cannot be used: {error}") from error


@cache
def shipped_catalogue() -> Catalogue:
    """Return the source list and ledger that come with this package."""
    return read_catalogue(CONFIGS)
