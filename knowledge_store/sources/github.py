"""Merged pull requests of a repository on GitHub, with their diffs, from where the last call ended.

A call lists what was updated since and asks for each diff once. It commits after every one, so that
whatever ends it costs nothing but the request at hand; the place to go on from moves when the list
has been read to its end.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from knowledge_store.diffs import parse
from knowledge_store.errors import SourceError
from knowledge_store.licences import settled_licence
from knowledge_store.progress import Progress, Report, Tell, silent
from knowledge_store.pulls import PullRequest
from knowledge_store.sources.bundles import pull_of
from knowledge_store.sources.catalogue import Catalogue, shipped_catalogue
from knowledge_store.sources.forge import BASE_URL, DIFF, Forge, Limited
from knowledge_store.sources.reading import Refused, fingerprint, mapping_at, number_at, text_at
from knowledge_store.truth import Truth
from knowledge_store.truth_batch import MOST_DIFF_BYTES, Batch

_FORMAT = "1"
_TOO_LARGE = frozenset({406, 422})


def ingest(
    truth: Truth,
    repo: str,
    *,
    since: str = "",
    paths: Sequence[str] = (),
    token: str = "",
    base_url: str = "",
    tell: Tell = silent,
) -> Report:
    """Take in what was merged into a repository; see `ingest_from`.

    Args:
        truth: the open store.
        repo: `owner/name`.
        since: first merge date; the source list's where none is given.
        paths: patterns; a change that touches none is deferred.
        token: of the forge; without one it serves few requests an hour.
        base_url: of its interface; GitHub's own where none is given.
        tell: hears how far it is.
    """

    def wait(seconds: float) -> None:
        tell(Progress(stage="wait", done=0, total=None, item=f"{repo}: {seconds:.0f} s"))
        time.sleep(seconds)

    forge = Forge(token=token, base_url=(base_url or BASE_URL).rstrip("/"), sleep=wait)
    return ingest_from(forge, truth, repo, since=since, paths=paths, tell=tell)


def ingest_from(
    forge: Forge,
    truth: Truth,
    repo: str,
    *,
    since: str = "",
    paths: Sequence[str] = (),
    tell: Tell = silent,
    catalogue: Catalogue | None = None,
) -> Report:
    """Take in what was merged into a repository.

    Args:
        forge: where it is asked for.
        truth: the open store.
        repo: `owner/name`; a renamed one is followed.
        since: first merge date; the source list's where none is given.
        paths: patterns; a change that touches none is deferred. The source list's kernel paths
            where none are given.
        tell: hears how far it is.
        catalogue: licences and decisions; the shipped ones where none is given.

    Returns:
        What happened; `stopped` says when to go on where the forge's limit ended the call.

    Raises:
        SourceError: there is no such repository, or the forge keeps failing. What was taken in
            before stays.
    """
    report = Report(source=repo)
    fetch = _Fetch(forge, truth, report, catalogue or shipped_catalogue(), tuple(paths))
    try:
        fetch.run(repo, since, tell)
    except Limited as limited:
        report.stop(str(limited))
    return report


class _Fetch:
    """One call of `ingest_from`."""

    def __init__(
        self,
        forge: Forge,
        truth: Truth,
        report: Report,
        catalogue: Catalogue,
        paths: tuple[str, ...],
    ) -> None:
        self.forge = forge
        self.truth = truth
        self.report = report
        self.catalogue = catalogue
        self.paths = paths
        self.repo = self.since = self.licence = self.asked = ""
        self.buried = {tombstone.key for tombstone in truth.tombstones()}

    def run(self, repo: str, since: str, tell: Tell) -> None:
        """Read the list to its end, or to where the last call began."""
        self._know(repo, since)
        place = f"github {self.asked}:{self.repo}"
        until, _, etag = self.truth.cursor(place).partition(" ")
        newest = newest_etag = ""
        with self.truth.batch() as batch:
            for done, (record, page_etag) in enumerate(self._listed(etag), 1):
                updated = text_at(record, "updated_at")
                newest, newest_etag = max(newest, updated), newest_etag or page_etag
                if updated and updated < max(until, self.since):
                    break
                self._take(batch, record)
                batch.commit()
                item = f"{self.repo}#{number_at(record, 'number')}"
                tell(Progress(stage="fetch", done=done, total=None, item=item))
            if newest:
                batch.move(place, f"{newest} {newest_etag}")

    def _know(self, repo: str, since: str) -> None:
        """Ask what the repository is called now and under which licence it is."""
        about = self.forge.json(f"/repos/{repo}")
        self.repo = text_at(about, "full_name") or repo
        upstream = self.catalogue.find(self.repo)
        self.since = since or (upstream.since if upstream else "")
        said = text_at(mapping_at(about, "license"), "spdx_id")
        self.licence = settled_licence(said, self.catalogue.licence(self.repo))
        wanted = self.catalogue.model_dump_json()
        self.asked = fingerprint(_FORMAT, self.since, *self.paths, wanted)

    def _listed(self, etag: str) -> Iterator[tuple[Mapping[str, object], str]]:
        """Yield the records of the list, latest update first, each with its page's tag."""
        path = f"/repos/{self.repo}/pulls?state=closed&sort=updated&direction=desc&per_page=100"
        for answer, values in self.forge.pages(path, etag=etag):
            for value in values:
                if isinstance(value, Mapping):
                    yield value, answer.headers.get("etag", "")

    def _take(self, batch: Batch, record: Mapping[str, object]) -> None:
        try:
            pull = pull_of({"repo": self.repo}, record, "").model_copy(
                update={"origin": "github", "licence": self.licence}
            )
        except Refused as refusal:
            self.report.problems.append(f"{self.repo}: {refusal}")
            return
        if not pull.merged_at or pull.merged_at < self.since:
            return
        item = f"github:{pull.key}"
        mark = fingerprint(self.asked, text_at(record, "updated_at"))
        if pull.key in self.buried:
            self.report.count("dropped")
        elif self.truth.seen(item)[0] == mark:
            self.report.count("unchanged")
        else:
            self._include(batch, pull)
            batch.mark(item, mark, pull.key)

    def _include(self, batch: Batch, pull: PullRequest) -> None:
        """Ask for the diff, decide, and put what is included."""
        row = self.catalogue.by_hand(pull.key)
        state, diff = ("missing", None) if row and row.decision == "defer" else self._diff(pull)
        files = parse(pull.key, diff).files if diff is not None else ()
        decision, reason = self.catalogue.decide(pull.key, files, self.paths)
        batch.decide(pull.key, decision, reason)
        if decision == "defer":
            self.report.count("deferred")
            return
        if diff is None:
            self.report.missing.append(pull.key)
        self.report.count(batch.put(pull.model_copy(update={"diff_state": state}), diff))

    def _diff(self, pull: PullRequest) -> tuple[str, bytes | None]:
        path = f"/repos/{self.repo}/pulls/{pull.number}"
        answer = self.forge.fetch(path, accept=DIFF, most=MOST_DIFF_BYTES)
        if answer.status in _TOO_LARGE:
            return self._assembled(pull)
        if answer.is_cut:
            self.report.contain("too large")
            return "too_large", None
        if answer.status == HTTPStatus.OK:
            return "present", answer.body
        return "missing", None

    def _assembled(self, pull: PullRequest) -> tuple[str, bytes | None]:
        """Return a diff made of the patches of its files, which the forge gives for large ones."""
        parts: list[str] = []
        try:
            for _, files in self.forge.pages(
                f"/repos/{self.repo}/pulls/{pull.number}/files?per_page=100"
            ):
                parts.extend(_file_diff(file) for file in files if isinstance(file, Mapping))
        except Limited:
            raise
        except SourceError as error:
            self.report.problems.append(f"{pull.key}: {error}")
        self.report.contain("assembled from files")
        diff = "".join(parts).encode("utf-8", "replace")
        if not diff or len(diff) > MOST_DIFF_BYTES:
            return "too_large", None
        return "present", diff


def _file_diff(file: Mapping[str, Any]) -> str:
    """Return the section of a diff for a file of the list of changed files."""
    name = text_at(file, "filename").replace("\n", "")
    old = text_at(file, "previous_filename").replace("\n", "") or name
    status = file.get("status")
    lines = [f"diff --git a/{old} b/{name}"]
    if status == "added":
        lines.append("new file mode 100644")
    elif status == "removed":
        lines.append("deleted file mode 100644")
    elif old != name:
        lines += [f"rename from {old}", f"rename to {name}"]
    patch = file.get("patch")
    if isinstance(patch, str) and patch:
        lines.append("--- /dev/null" if status == "added" else f"--- a/{old}")
        lines.append("+++ /dev/null" if status == "removed" else f"+++ b/{name}")
        lines.append(patch)
    elif old == name:  # a rename without a patch changed nothing
        lines.append(f"Binary files a/{old} and b/{name} differ")
    return "\n".join(lines) + "\n"
