"""Merged pull requests of a local clone: merge commits and squashed ones, told by their messages.

One clone stands for thousands of requests to a forge. Only plumbing of git is run, nothing that the
clone's own configuration could turn into a command, and nothing that fetches.
"""

import io
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from knowledge_store.diffs import parse
from knowledge_store.errors import SourceError
from knowledge_store.licences import licence_of_text, settled_licence
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import PullRequest
from knowledge_store.sources.catalogue import Catalogue, shipped_catalogue
from knowledge_store.sources.reading import clean, day_of, fingerprint
from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES, Batch

_FORMAT = "1"
_MERGE = re.compile(r"Merge pull request #(\d{1,9}) from \S+")
_SQUASH = re.compile(r"^(.*?)\s*\(#(\d{1,9})\)\s*$")
_RESOLVED = re.compile(
    r"^Pull Request resolved: https?://[^/\s]+/([^/\s]+/[^/\s]+)/pull/(\d{1,9})\s*$", re.MULTILINE
)
_REMOTE = re.compile(r"[/:]([A-Za-z0-9._-]+/[A-Za-z0-9._-]+?)(?:\.git)?/?$")
_LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")
_FIELD, _RECORD = b"\x1f", b"\0"
_PATIENCE_S = 600.0
_MOST_MESSAGE_BYTES = 1024 * 1024

_SAFE = (
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.allow=never",
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}


@dataclass(frozen=True, slots=True)
class Merge:
    """A commit on the main line that brought a pull request in."""

    commit: str
    parent: str
    """First one; empty for a root commit."""
    number: int
    title: str
    body: str
    author: str
    merged_at: str


def ingest(
    truth: Truth,
    clone: Path,
    *,
    repo: str = "",
    since: str = "",
    paths: Sequence[str] = (),
    tell: Tell = silent,
    catalogue: Catalogue | None = None,
) -> Report:
    """Take in the pull requests that were merged into the branch a clone has checked out.

    Args:
        truth: the open store.
        clone: a work tree or a bare repository.
        repo: `owner/name`; that of the clone's remote where none is given.
        since: first commit date.
        paths: patterns; a change that touches none is deferred. The source list's kernel paths
            where none are given.
        tell: hears how far it is.
        catalogue: licences and decisions; the shipped ones where none is given.

    Raises:
        SourceError: there is no clone or commit, or nothing says which repository it is of.
    """
    catalogue = catalogue or shipped_catalogue()
    head = _line(clone, "rev-parse", "--verify", "HEAD^{commit}")
    repo = repo or _repo_of(clone)
    upstream = catalogue.find(repo)
    since = since or (upstream.since if upstream else "")
    report = Report(source=f"{clone} ({repo})")
    taker = _Taker(truth, clone, repo, tuple(paths), catalogue, report)
    place = f"git {since} {taker.asked}:{repo}"
    first = truth.cursor(place)
    if first and not _succeeds(clone, "merge-base", "--is-ancestor", first, head):
        first = ""  # the branch was rewritten
    with truth.batch() as batch:
        for done, merge in enumerate(_merges(clone, first, head, since, repo), 1):
            taker.take(batch, merge)
            batch.move(place, merge.commit)
            tell(Progress(stage="git", done=done, total=None, item=f"{repo}#{merge.number}"))
        batch.move(place, head)
    return report


class _Taker:
    """Takes in one merge after another."""

    def __init__(
        self,
        truth: Truth,
        clone: Path,
        repo: str,
        paths: tuple[str, ...],
        catalogue: Catalogue,
        report: Report,
    ) -> None:
        self.truth = truth
        self.clone = clone
        self.repo = repo
        self.paths = paths
        self.catalogue = catalogue
        self.report = report
        self.licence = settled_licence(_licence_of(clone), catalogue.licence(repo))
        self.is_shallow = _line(clone, "rev-parse", "--is-shallow-repository") == "true"
        self.asked = fingerprint(_FORMAT, *paths, catalogue.model_dump_json())
        self.buried = {tombstone.key for tombstone in truth.tombstones()}

    def take(self, batch: Batch, merge: Merge) -> None:
        """Take in a merge; whatever is wrong with it goes into the report."""
        key = f"{self.repo}#{merge.number}"
        item, mark = f"git:{key}", fingerprint(self.asked, merge.commit)
        if key in self.buried:
            self.report.count("dropped")
            return
        if self.truth.seen(item)[0] == mark:
            self.report.count("unchanged")
            return
        try:
            pull = self._pull(merge)
        except ValidationError:
            self.report.problems.append(f"{merge.commit[:12]}: {key!r} names no pull request")
            return
        diff = self._diff(merge, pull)
        files = parse(key, diff).files if diff is not None else ()
        decision, reason = self.catalogue.decide(key, files, self.paths)
        batch.decide(key, decision, reason)
        if decision == "defer":
            self.report.count("deferred")
        else:
            state = pull.diff_state if diff is None else "present"
            self.report.count(batch.put(pull.model_copy(update={"diff_state": state}), diff))
        batch.mark(item, mark, key)

    def _pull(self, merge: Merge) -> PullRequest:
        return PullRequest(
            repo=self.repo,
            number=merge.number,
            title=merge.title,
            body=merge.body,
            author=merge.author,
            url=f"https://github.com/{self.repo}/pull/{merge.number}",
            merged_at=merge.merged_at,
            merge_commit=merge.commit,
            licence=self.licence,
            origin="git",
        )

    def _diff(self, merge: Merge, pull: PullRequest) -> bytes | None:
        """Return what the merge changed on the main line; None where git cannot tell."""
        if self.is_shallow and not merge.parent:  # against nothing, all files would seem new
            self.report.missing.append(pull.key)
            self.report.problems.append(f"{pull.key}: the clone is shallow here; deepen it")
            return None
        trees = (merge.parent, merge.commit) if merge.parent else ("--root", merge.commit)
        options = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-commit-id", "-M", "-p")
        try:
            output = _run(
                self.clone,
                "diff-tree",
                "-r",
                *options,
                "--full-index",
                *trees,
                most=MOST_DIFF_BYTES,
            )
        except SourceError as error:
            self.report.missing.append(pull.key)
            self.report.problems.append(f"{pull.key}: {error}")
            return None
        if len(output) > MOST_DIFF_BYTES:
            self.report.contain("too large")
        return output


def merge_of(record: bytes, repo: str) -> Merge | None:
    """Return the pull request that a commit says it merges; None where it says nothing of one.

    Args:
        record: commit, parents, author, date and message, as `_merges` asks git for them.
        repo: whose pull requests count; a message may name another's.
    """
    fields = record.split(_FIELD, 4)
    if len(fields) < 5:  # noqa: PLR2004 - the fields above
        return None
    commit, parents, author, date, message = (field.decode("utf-8", "replace") for field in fields)
    subject, _, body = clean(message).strip().partition("\n")
    body = body.strip()
    named = _MERGE.match(subject)
    squashed = _SQUASH.match(subject)
    resolved = _RESOLVED.search(body)
    if resolved and resolved[1].lower() == repo.lower():
        number, title = int(resolved[2]), squashed[1] if squashed else subject
    elif named:
        number = int(named[1])
        title, _, body = body.partition("\n")
    elif squashed:
        number, title = int(squashed[2]), squashed[1]
    else:
        return None
    return Merge(
        commit=commit.strip(),
        parent=parents.partition(" ")[0],
        number=number,
        title=title.strip() or subject,
        body=body.strip(),
        author=clean(author),
        merged_at=day_of(date),
    )


def _merges(clone: Path, first: str, head: str, since: str, repo: str) -> Iterator[Merge]:
    """Yield the merges between two commits, oldest first, so that each is a place to go on from."""
    span = f"{first}..{head}" if first else head
    arguments = ["log", "--first-parent", "--reverse", "--no-show-signature", "--no-color", "-z"]
    arguments.append("--format=tformat:%H%x1f%P%x1f%an%x1f%cs%x1f%B")
    if since:
        arguments.append(f"--since={since}T00:00:00Z")
    for record in _records(clone, *arguments, span, "--"):
        merge = merge_of(record, repo)
        if merge is not None and merge.number > 0:
            yield merge


def _repo_of(clone: Path) -> str:
    found = _REMOTE.search(_line(clone, "config", "--get", "remote.origin.url", default=""))
    if found is None:
        raise SourceError(f"{clone} has no remote that names a repository; say which one it is of")
    return found[1]


def _licence_of(clone: Path) -> str:
    for name in _LICENCE_FILES:
        try:
            content = _run(clone, "cat-file", "blob", f"HEAD:{name}", most=65536)
        except SourceError:
            continue
        return licence_of_text(content.decode("utf-8", "replace"))
    return ""


def _command(clone: Path, arguments: Sequence[str]) -> list[str]:
    return ["git", "-C", str(clone), *_SAFE, "--no-pager", *arguments]


def _line(clone: Path, *arguments: str, default: str | None = None) -> str:
    try:
        return _run(clone, *arguments, most=65536).decode("utf-8", "replace").strip()
    except SourceError:
        if default is None:
            raise
        return default


def _succeeds(clone: Path, *arguments: str) -> bool:
    try:
        _run(clone, *arguments, most=65536)
    except SourceError:
        return False
    return True


def _run(clone: Path, *arguments: str, most: int) -> bytes:
    """Return what git prints, at most one byte beyond `most`.

    Raises:
        SourceError: git fails, hangs or is not there.
    """
    with _started(clone, arguments) as process:
        assert process.stdout is not None
        output = process.stdout.read(most + 1)
        if len(output) > most:
            process.kill()
            return output
        _await(process, clone, arguments)
        return output


def _records(clone: Path, *arguments: str) -> Iterator[bytes]:
    """Yield the records that git prints, each behind the last NUL."""
    with _started(clone, arguments) as process:
        held = b""
        while part := cast("io.BufferedReader", process.stdout).read1(1 << 16):
            *records, held = (held + part).split(_RECORD)
            yield from records
            held = held[:_MOST_MESSAGE_BYTES]
        if held:
            yield held
        _await(process, clone, arguments)


def _started(clone: Path, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
    if not clone.is_dir():
        raise SourceError(f"{clone} is not a folder; name a clone")
    environment = {**os.environ, **_ENVIRONMENT}
    try:
        return subprocess.Popen(
            _command(clone, arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except FileNotFoundError as error:
        raise SourceError("git is not installed; install it, or use another source") from error


def _await(process: "subprocess.Popen[bytes]", clone: Path, arguments: Sequence[str]) -> None:
    try:
        code = process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        raise SourceError(f"git {arguments[0]} in {clone} does not end") from error
    if code:
        raise SourceError(
            f"git {arguments[0]} fails in {clone}; is it a clone with its objects, owned by you?"
        )
