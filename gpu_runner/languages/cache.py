"""The artefact cache: a directory per digest, complete and unchanged or not there at all.

An entry is built in a scratch directory beside its place and renamed into it, so that concurrent
builders and a kill at any moment leave either a whole entry or none. Every lookup hashes the files
again: what a disk or a careless hand damaged is built anew.
"""

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from gpu_runner.candidate import Candidate, Language
from gpu_runner.jobs import Reason
from gpu_runner.languages.artefact import INDUCTOR_FOLDER, Artefact, BuildRefused
from gpu_runner.message import Digest, Message, canonical_json, digest_of
from gpu_runner.problem import Problem

logger = logging.getLogger(__name__)

MANIFEST_FILE = "artefact.json"
_SCRATCH_PREFIX = ".building-"
_STALE_S = 3600.0
_LARGEST_BYTES = 1 << 30
_ATTEMPTS = 3
_FORMAT = 1
"""Part of every digest: entries of another layout are never met."""


class Manifest(Message):
    """What `artefact.json` says of its directory."""

    digest: Digest
    language: Language
    calling: Literal["returning", "destination"]
    compiler: str
    log_tail: str = ""
    seconds: float
    is_trusted: bool = False
    counters: dict[str, float] = Field(default_factory=dict)
    files: dict[str, Digest]
    """Relative path to content digest, every regular file but this one."""


class Made(Message):
    """What a builder says of the files it has put into the scratch directory."""

    log_tail: str = ""
    seconds: float
    counters: dict[str, float] = Field(default_factory=dict)


class Identity(Message):
    """All that an artefact depends on."""

    problem_digest: Digest
    candidate_digest: Digest
    compiler: str
    flags: tuple[str, ...]
    machine: str
    """Instruction set the code is for."""
    is_trusted: bool
    """A trusted baseline has a writable folder of its own; a candidate never shares it."""

    @property
    def digest(self) -> str:
        """Name of the entry in the cache."""
        content = self.model_dump(mode="json") | {"format": _FORMAT}
        return hashlib.sha256(canonical_json(content)).hexdigest()


def identity_of(
    problem: Problem,
    candidate: Candidate,
    *,
    compiler: str,
    flags: tuple[str, ...],
    machine: str,
    is_trusted: bool,
) -> Identity:
    """Return what the artefact of a candidate depends on."""
    return Identity(
        problem_digest=digest_of(problem),
        candidate_digest=candidate.digest,
        compiler=compiler,
        flags=flags,
        machine=machine,
        is_trusted=is_trusted,
    )


def cached_build(
    cache: Path,
    identity: Identity,
    candidate: Candidate,
    make: Callable[[Path], Made | BuildRefused],
) -> Artefact | BuildRefused:
    """Return the cached artefact, or make it; a refusal is not kept.

    Args:
        cache: directory of all artefacts; made where it is missing.
        identity: names the entry.
        candidate: gives the entry's language and calling.
        make: writes the files into the directory it is given. It may run more than once.

    Raises:
        OSError: the disk is full, or the cache cannot be written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    _sweep(cache)
    for _ in range(_ATTEMPTS):
        found = find(cache, identity.digest)
        if found is not None:
            return found
        outcome = _make_once(cache, identity, candidate, make)
        if outcome is not None:
            return outcome
    raise OSError(
        f"artefact {identity.digest[:12]} in {cache} is damaged as soon as it is written; check "
        "the disk, or name another workspace"
    )


def find(cache: Path, digest: str) -> Artefact | None:
    """Return the entry if it is whole; a damaged one is moved out of the way and deleted."""
    path = cache / digest
    if not path.is_dir():
        return None
    manifest = _read_manifest(path)
    if manifest is None or manifest.digest != digest or manifest.files != _digests(path):
        logger.warning("artefact damaged digest=%s; it is built again", digest)
        _discard(path, cache)
        return None
    return _artefact(path, manifest, is_cached=True)


def remove_tree(path: Path) -> None:
    """Delete a directory whose files and folders may be read-only; a missing one is fine."""
    for folder, names, _ in os.walk(path):
        for name in names:
            entry = Path(folder) / name
            with suppress(OSError):
                if not entry.is_symlink():
                    entry.chmod(stat.S_IRWXU)
    with suppress(OSError):
        path.chmod(stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


def _make_once(
    cache: Path,
    identity: Identity,
    candidate: Candidate,
    make: Callable[[Path], Made | BuildRefused],
) -> Artefact | BuildRefused | None:
    """Return the artefact or the refusal; None where another builder was first."""
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=cache))
    try:
        made = make(scratch)
        if isinstance(made, BuildRefused):
            return made
        kept_bytes = _keep_regular_files(scratch)
        if kept_bytes > _LARGEST_BYTES:
            return BuildRefused(
                reason=Reason.LOAD_FAILED,
                message=f"the build left {kept_bytes} bytes; at most {_LARGEST_BYTES} are kept",
            )
        manifest = Manifest(
            digest=identity.digest,
            language=candidate.language,
            calling=candidate.calling,
            compiler=identity.compiler,
            is_trusted=identity.is_trusted,
            files=_digests(scratch) or {},
            **made.model_dump(),
        )
        (scratch / MANIFEST_FILE).unlink(missing_ok=True)
        (scratch / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=1))
        _make_read_only(scratch)
        with suppress(OSError):
            scratch.rename(cache / identity.digest)
            return _artefact(cache / identity.digest, manifest, is_cached=False)
        return None
    finally:
        remove_tree(scratch)


def _artefact(path: Path, manifest: Manifest, *, is_cached: bool) -> Artefact:
    return Artefact(
        path=path,
        digest=manifest.digest,
        language=manifest.language,
        calling=manifest.calling,
        compiler=manifest.compiler,
        log_tail=manifest.log_tail,
        seconds=manifest.seconds,
        is_cached=is_cached,
        is_trusted=manifest.is_trusted,
        counters=manifest.counters,
    )


def _read_manifest(path: Path) -> Manifest | None:
    try:
        return Manifest.model_validate_json((path / MANIFEST_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _entries(root: Path) -> Iterator[Path]:
    """Yield every entry below `root` that belongs to the artefact's content, in sorted order."""
    for folder, names, files in os.walk(root):
        here = Path(folder)
        if here == root:
            names[:] = [name for name in names if name != INDUCTOR_FOLDER]
        names.sort()
        linked = [name for name in names if (here / name).is_symlink()]
        yield from (here / name for name in sorted([*files, *linked]))


def _digests(root: Path) -> dict[str, str] | None:
    """Return the digest of every file, or None where something unreadable or odd lies there."""
    found: dict[str, str] = {}
    for entry in _entries(root):
        if entry == root / MANIFEST_FILE:
            continue
        try:
            if not stat.S_ISREG(entry.lstat().st_mode):
                return None
            with entry.open("rb") as file:
                found[str(entry.relative_to(root))] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
        except OSError:
            return None
    return found


def _keep_regular_files(root: Path) -> int:
    """Delete links, sockets and pipes that code running in the build left; return bytes kept."""
    total = 0
    for entry in list(_entries(root)):
        status = entry.lstat()
        if not stat.S_ISREG(status.st_mode):
            entry.unlink()
        else:
            total += status.st_size
    return total


def _make_read_only(root: Path) -> None:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        if here == root:
            names[:] = [name for name in names if name != INDUCTOR_FOLDER]
        for name in files:
            entry = here / name
            entry.chmod(0o444 | entry.stat().st_mode & 0o111)
        here.chmod(0o755 if here == root else 0o555)


def _discard(path: Path, cache: Path) -> None:
    """Move an entry away in one step, so that nobody meets it half deleted."""
    grave = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=cache))
    with suppress(OSError):
        path.rename(grave / "entry")
    remove_tree(grave)


def _sweep(cache: Path) -> None:
    """Delete what builders that were killed have left, an hour after they died."""
    for leftover in cache.glob(f"{_SCRATCH_PREFIX}*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_S:
                remove_tree(leftover)
