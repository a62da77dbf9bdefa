"""The rules that a folder of bundles should keep: what is whole there, and what only claims to be.

Ingestion takes in whatever it can; this says what a maintainer of such a folder has to put right.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from knowledge_store.errors import SourceError
from knowledge_store.validation import Violation

_NUMBERED = re.compile(r"gh-(\d+)")
_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_HEX = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_MOST_BYTES = 256 * 1024 * 1024
_DIFF, _ORIGIN, _UPSTREAM, _DISCUSSION = (
    "review.diff",
    "ORIGIN.yaml",
    "upstream.json",
    "discussion.md",
)


def violations(folder: Path) -> Iterator[Violation]:
    """Yield what is wrong with the bundles below a folder.

    Raises:
        SourceError: there is no such folder.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder of bundles")
    seen: dict[str, str] = {}
    for bundle in sorted(path for path in folder.rglob("gh-*") if path.is_dir()):
        where = bundle.relative_to(folder).as_posix()
        for rule, what in of_bundle(bundle, seen):
            yield Violation(rule, where, what)


def of_bundle(bundle: Path, seen: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the rule and the fault of each thing that is wrong with a bundle.

    Args:
        bundle: its folder.
        seen: identities of the bundles before, which this one's is added to.
    """
    if not _NUMBERED.fullmatch(bundle.name):
        yield "bundle name", f"{bundle.name} is not gh-<number>"
    for path in bundle.rglob("*"):
        if path.is_symlink():
            yield "bundle link", f"{path.relative_to(bundle)} is a link"
    origin: Mapping[str, Any] = {}
    try:
        origin = _mapping(yaml.safe_load((bundle / _ORIGIN).read_bytes()))
    except FileNotFoundError:
        yield "bundle origin", f"it has no {_ORIGIN}"
    except (OSError, yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        yield "bundle origin", f"{_ORIGIN} cannot be read: {_line(error)}"
    else:
        yield from _of_origin(bundle, origin, seen)
    yield from _of_upstream(bundle)
    yield from _of_diff(bundle)
    yield from _of_files(bundle, origin)
    yield from _of_discussion(bundle)


def _of_origin(
    bundle: Path, origin: Mapping[str, Any], seen: dict[str, str]
) -> Iterator[tuple[str, str]]:
    repo = str(origin.get("repo") or origin.get("upstream_repo") or "")
    if not _REPO.search(repo):
        yield "bundle repo", f"{_ORIGIN} names no repository"
    number = origin.get("pr_number")
    own = _NUMBERED.fullmatch(bundle.name)
    if number is not None and own and str(number) != own[1]:
        yield "bundle number", f"{_ORIGIN} says {number}, the folder {own[1]}"
    identity = f"{repo}#{own[1] if own else number}".lower()
    if repo and identity in seen:
        yield "bundle identity", f"{identity} is also {seen[identity]}"
    seen.setdefault(identity, bundle.name)
    if not any(origin.get(name) for name in ("url", "origin_url", "source_key")):
        yield "bundle url", f"{_ORIGIN} names neither URL nor source key"
    merged = str(origin.get("merged_at") or "")
    if merged and not _DAY.match(merged):
        yield "bundle date", f"merged_at is {merged!r}"
    if merged and origin.get("state") not in {None, "merged", "closed", "MERGED"}:
        yield "bundle state", f"it was merged and its state is {origin.get('state')!r}"


def _of_upstream(bundle: Path) -> Iterator[tuple[str, str]]:
    try:
        told = _mapping(json.loads((bundle / _UPSTREAM).read_bytes()))
    except FileNotFoundError:
        yield "bundle upstream", f"it has no {_UPSTREAM}"
        return
    except (OSError, ValueError, TypeError, RecursionError) as error:
        yield "bundle upstream", f"{_UPSTREAM} cannot be read: {_line(error)}"
        return
    pull = told.get("pull") or told
    if not isinstance(pull, Mapping) or not str(pull.get("title") or "").strip():
        yield "bundle title", f"{_UPSTREAM} has no title"


def _of_diff(bundle: Path) -> Iterator[tuple[str, str]]:
    path = bundle / _DIFF
    if not path.is_file():
        yield "bundle diff", f"it has no {_DIFF}"
    elif path.stat().st_size > _MOST_BYTES:
        yield "bundle size", f"{_DIFF} has more than {_MOST_BYTES} bytes"
    elif not path.stat().st_size:
        yield "bundle diff", f"{_DIFF} is empty"


def _of_files(bundle: Path, origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Check those files of a bundle of which its origin keeps a digest."""
    rows = origin.get("files")
    for row in rows if isinstance(rows, list) else ():
        if not isinstance(row, Mapping) or "sha256" not in row:
            continue
        name, digest = str(row.get("local_path") or ""), str(row["sha256"])
        if not _HEX.fullmatch(digest):
            yield "bundle digest", f"{name}: {digest!r} is not a sha256"
            continue
        path = (bundle / name.replace("\0", "")).resolve()
        if not name or "\0" in name or not path.is_relative_to(bundle.resolve()):
            yield "bundle path", f"{name!r} leads out of the bundle"
        elif not path.is_file():
            yield "bundle file", f"{name} is listed and not there"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            yield "bundle digest", f"{name} is not the file whose sha256 is kept"


def _of_discussion(bundle: Path) -> Iterator[tuple[str, str]]:
    path = bundle / _DISCUSSION
    if path.is_file():
        for number, row in enumerate(path.read_text("utf-8", "replace").splitlines(), start=1):
            if row.strip() and not row.startswith(("- ", "  ", "#")):
                yield "bundle discussion", f"line {number} is not a bullet"
                return


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it is a {type(value).__name__}, not a mapping")
    return value


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
